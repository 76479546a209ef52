"""What a video takes by the planner, on the workers of a service. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from wan_runtime.contract.gpu import Gpu
from wan_runtime.contract.sampling import (
    DEFAULT_PROFILE,
    DEFAULT_STEP_CACHE,
    Profile,
    StepCachePolicy,
    computed_steps,
)
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.planner.architecture import tokens_of
from wan_runtime.planner.gpus import measured_gpu
from wan_runtime.planner.serving import plan_serving
from wan_runtime.planner.workload import Serving
from wan_runtime.presets import PRESETS
from wan_runtime.rendering.order import VideoOrder

TINY_SECONDS = 2.5e-3
"""For each token and pass of a Tiny model, which no GPU is planned for: two CPU cores, measured."""
TINY_LEAST = 0.5


@dataclass(frozen=True, slots=True)
class Seconds:
    """Planned seconds of a video."""

    step: float
    """Seconds of each step that is computed."""
    others: float
    """Seconds of all other stages that are planned."""
    computed: int
    """Number of steps that are computed."""

    @property
    def whole(self) -> float:
        return self.computed * self.step + self.others


@dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """Facts of a service's workers on which the seconds of a video depend."""

    preset: str
    profile: Profile = DEFAULT_PROFILE
    policy: StepCachePolicy = DEFAULT_STEP_CACHE
    gpus: int = 1
    """Number of GPUs that render a video together."""
    gpu: Gpu | None = None
    """None: not known, and taken to be the measured one."""

    @classmethod
    def of(cls, service: ServiceSpec) -> Workers:
        return cls(
            preset=service.model.preset,
            profile=service.profile or DEFAULT_PROFILE,
            policy=service.policy,
            gpus=service.gpus or 1,
            gpu=service.gpu,
        )

    def seconds(self, order: VideoOrder) -> Seconds:
        """Seconds of a video: for a Tiny model from the number of tokens."""
        guided, profile = order.guided, order.profile_on(self.profile)
        computed = computed_steps(profile, order.steps, self.policy)
        if PRESETS[self.preset].tiny:
            tokens = tokens_of(order.frames, order.size.width, order.size.height)
            each = TINY_SECONDS * tokens / 8
            return Seconds(each * (2 if guided else 1), TINY_LEAST + 8 * each, computed)
        work = Serving(
            preset=self.preset,
            frames=order.frames,
            width=order.size.width,
            height=order.size.height,
            steps=order.steps,
            computed=computed,
            guided=guided,
            gpus=self.gpus,
            profile=profile,
        )
        plan = plan_serving(work, self.gpu or measured_gpu())
        decoding = plan.seconds["VAE decode"]
        return Seconds((plan.seconds_per_clip - decoding) / computed, decoding, computed)
