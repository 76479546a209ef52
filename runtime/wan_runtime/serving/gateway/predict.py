"""How long a clip takes, before it starts: the planner's seconds, corrected by what was seen."""

from __future__ import annotations

import statistics
from collections import deque

from wan_runtime.planner.architecture import tokens_of
from wan_runtime.planner.gpus import DEFAULTS, MEASURED_ON, Gpu, by_name
from wan_runtime.planner.serving import plan_serving
from wan_runtime.planner.workload import Serving
from wan_runtime.presets import PRESETS
from wan_runtime.serving.video import Job, VideoOrder

SEEN = 32
"""Clips whose seconds are remembered."""
TINY_SECONDS = 2.5e-3
"""For each token and pass of a Tiny model, which no GPU is planned for: two CPU cores, measured."""


class Predictor:
    """Seconds of a clip. Its one number is a factor: measured over planned, the median of the last
    clips, so that an outlier moves nothing and a faster GPU shows within a few clips."""

    def __init__(self, preset: str, gpu: Gpu | None = None) -> None:
        self._preset = PRESETS[preset]
        self._gpu = gpu or by_name(MEASURED_ON, DEFAULTS)
        self._ratios: deque[float] = deque(maxlen=SEEN)

    def seconds(self, order: VideoOrder) -> float:
        """Of the GPU's work for one clip."""
        factor = statistics.median(self._ratios) if self._ratios else 1.0
        return factor * self.planned(order)

    def planned(self, order: VideoOrder) -> float:
        """By the planner alone."""
        guided = order.guidance != 1.0 or order.guidance_low != 1.0
        if self._preset.tiny:
            tokens = tokens_of(order.frames, order.size.width, order.size.height)
            return 0.5 + TINY_SECONDS * tokens * (order.steps * (2 if guided else 1) + 8) / 8
        assert self._gpu is not None
        work = Serving(
            preset=self._preset.name, frames=order.frames, width=order.size.width,
            height=order.size.height, steps=order.steps, guided=guided,
        )  # fmt: skip
        return plan_serving(work, self._gpu).seconds_per_clip

    def learn(self, job: Job) -> None:
        """From a completed clip."""
        if job.rendered is not None and job.rendered.seconds:
            taken = sum(s for stage, s in job.rendered.seconds.items() if stage != "writing")
            self._ratios.append(taken / self.planned(job.order))
