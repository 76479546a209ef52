"""How long a clip takes, before it starts: the planner's seconds, corrected by what was seen."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, replace
from typing import TypeAlias

from wan_runtime.contract.sampling import Profile, Size
from wan_runtime.rendering.order import Job, Rendered, Stage, VideoOrder
from wan_runtime.serving.planned import Workers

Like: TypeAlias = tuple[Size, int, bool, Profile]

SEEN = 32
"""Clips whose seconds are remembered."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a clip took."""

    like: Like
    step: float
    """Seconds of each that was computed."""
    others: float
    """Seconds of all other stages except writing."""
    ratio: float
    """Ratio of the clip's measured seconds, without writing, to the planned ones."""


class Predictor:
    """Seconds of a clip. Of one like the last clips in size, length, guidance and profile: its
    computed steps by their seconds, and their other stages. Of any other: planned, times a factor,
    measured over planned, of clips of its profile if there are any. All are medians of the last
    clips, so that an outlier moves nothing and a faster GPU shows within a few clips. What workers
    of another model or number of GPUs rendered says nothing."""

    def __init__(self, workers: Workers) -> None:
        """`workers`: of the service as its spec has it now."""
        self._workers = workers
        self._seen: deque[Seen] = deque(maxlen=SEEN)

    def seconds(self, order: VideoOrder) -> float:
        """Predict the seconds of GPU work for one clip."""
        profile = order.profile_on(self._workers.profile)
        like = [each for each in self._seen if each.like == _like(order, profile)]
        if like:
            step = statistics.median(each.step for each in like)
            others = statistics.median(each.others for each in like)
            return self._workers.seconds(order).computed * step + others
        alike = [each for each in self._seen if each.like[-1] == profile]
        ratios = [each.ratio for each in alike or self._seen]
        return (statistics.median(ratios) if ratios else 1.0) * self.planned(order)

    def planned(self, order: VideoOrder) -> float:
        """Seconds for one clip without correction by earlier clips."""
        return self._workers.seconds(order).whole

    def learn(self, job: Job) -> None:
        """From a completed clip."""
        order, done = job.order, job.rendered
        if done is None or not self._are_ours(done):
            return
        spent = {stage: each for stage, each in done.seconds.items() if stage is not Stage.WRITING}
        if not spent:
            return
        profile = done.profile or order.profile_on(self._workers.profile)
        # As it was rendered, whatever the service's profile is by now.
        by = replace(self._workers, profile=profile)
        planned = by.seconds(order.model_copy(update={"profile": None}))
        denoising, whole = spent.get(Stage.DENOISING, 0.0), sum(spent.values())
        step = denoising / (done.computed or planned.computed)
        ratio = whole / planned.whole
        self._seen.append(Seen(_like(order, profile), step, whole - denoising, ratio))

    def _are_ours(self, done: Rendered) -> bool:
        """Whether workers of this kind rendered it; workers of earlier releases do not tell."""
        ours = self._workers
        return done.preset in ("", ours.preset) and done.gpus in (None, ours.gpus)


def _like(order: VideoOrder, profile: Profile) -> Like:
    """What the seconds of a step depend on."""
    return order.size, order.frames, order.guided, profile
