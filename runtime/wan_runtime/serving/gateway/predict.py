"""How long a clip takes, before it starts: the planner's seconds, corrected by what was seen."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from wan_runtime.contract.sampling import (
    DEFAULT_PROFILE,
    DEFAULT_STEP_CACHE,
    Profile,
    Size,
    StepCachePolicy,
    computed_steps,
)
from wan_runtime.planner.architecture import tokens_of
from wan_runtime.planner.gpus import Gpu, measured_gpu
from wan_runtime.planner.serving import plan_serving
from wan_runtime.planner.workload import Serving
from wan_runtime.presets import PRESETS
from wan_runtime.rendering.order import Job, Stage, VideoOrder

Like: TypeAlias = tuple[Size, int, bool, Profile | None]

SEEN = 32
"""Clips whose seconds are remembered."""
TINY_SECONDS = 2.5e-3
"""For each token and pass of a Tiny model, which no GPU is planned for: two CPU cores, measured."""


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
    clips, so that an outlier moves nothing and a faster GPU shows within a few clips."""

    def __init__(
        self,
        preset: str,
        gpu: Gpu | None = None,
        *,
        profile: Profile = DEFAULT_PROFILE,
        policy: StepCachePolicy = DEFAULT_STEP_CACHE,
    ) -> None:
        """`profile`, `policy`: the service's."""
        self._profile, self._policy = profile, policy
        self._preset = PRESETS[preset]
        self._gpu = gpu or measured_gpu()
        self._seen: deque[Seen] = deque(maxlen=SEEN)

    def seconds(self, order: VideoOrder) -> float:
        """Predict the seconds of GPU work for one clip."""
        like = [each for each in self._seen if each.like == like_of(order)]
        if like:
            step = statistics.median(each.step for each in like)
            return self._steps(order) * step + statistics.median(each.others for each in like)
        alike = [each for each in self._seen if each.like[-1] == order.profile]
        ratios = [each.ratio for each in alike or self._seen]
        return (statistics.median(ratios) if ratios else 1.0) * self.planned(order)

    def planned(self, order: VideoOrder) -> float:
        """Seconds for one clip without correction by earlier clips: from the planner, or for a Tiny
        model from the number of tokens."""
        guided, steps = is_guided(order), self._steps(order)
        if self._preset.tiny:
            tokens = tokens_of(order.frames, order.size.width, order.size.height)
            return 0.5 + TINY_SECONDS * tokens * (steps * (2 if guided else 1) + 8) / 8
        work = Serving(
            preset=self._preset.name, frames=order.frames, width=order.size.width,
            height=order.size.height, steps=steps, guided=guided,
            profile=order.profile_on(self._profile),
        )  # fmt: skip
        return plan_serving(work, self._gpu).seconds_per_clip

    def learn(self, job: Job) -> None:
        """From a completed clip."""
        order, spent = job.order, dict(job.rendered.seconds) if job.rendered else {}
        spent.pop(Stage.WRITING, None)
        if spent:
            denoising, whole = spent.get(Stage.DENOISING, 0.0), sum(spent.values())
            step, ratio = denoising / self._steps(order), whole / self.planned(order)
            self._seen.append(Seen(like_of(order), step, whole - denoising, ratio))

    def _steps(self, order: VideoOrder) -> int:
        return computed_steps(order.profile_on(self._profile), order.steps, self._policy)


def like_of(order: VideoOrder) -> Like:
    """What the seconds of a step depend on."""
    return order.size, order.frames, is_guided(order), order.profile


def is_guided(order: VideoOrder) -> bool:
    return order.guidance != 1.0 or order.guidance_low != 1.0
