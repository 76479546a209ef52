"""How a video is sampled, by services and evaluations."""

from __future__ import annotations

from math import ceil
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wan_runtime.contract.base import Contract
from wan_runtime.contract.strides import SPATIAL_STRIDE, TEMPORAL_STRIDE

Profile = Literal["Exact", "Lossless", "Balanced", "Fast"]
"""Arithmetic of the transformers. Exact rounds as DiffSynth does, to the same bits on any number of
GPUs. Lossless is as near to float32, and faster. Balanced is faster still where the GPU has
attention in 8 bits, and differs from Lossless by more than rounding to bfloat16 does; elsewhere it
is Lossless. Fast has linear layers in 8 bits as well. Both compute a part of the steps only."""
DEFAULT_PROFILE: Profile = "Lossless"
StepCachePolicy = Literal["Spaced", "EasyCache", "TeaCache"]
"""Rule by which steps are not computed. Spaced, of Balanced and Fast: those that are lie evenly in
noise level. EasyCache and TeaCache, of Fast: where an estimate says that little changes."""
DEFAULT_STEP_CACHE: StepCachePolicy = "Spaced"
AttentionKernel = Literal["SDPA", "SageAttention", "FlashAttention-3", "FlashAttention-3 FP8"]
LOSSY_KERNELS: tuple[AttentionKernel, ...] = ("SageAttention", "FlashAttention-3 FP8")
"""Those that compute in 8 bits."""
EIGHT_BITS: tuple[Profile, ...] = ("Balanced", "Fast")
"""Profiles that may take them."""
COMPUTED_SHARE: dict[Profile, float] = {"Balanced": 0.5, "Fast": 0.4}
"""Share of a video's steps that Spaced computes. Other profiles compute all."""
LEAST_COMPUTED = 16
"""Number of steps that are computed at least, of a video that has as many."""


def check_attention(named: AttentionKernel | None, profile: Profile) -> None:
    """Raises ValueError for an attention kernel that is not for the profile."""
    if named and profile == "Exact":
        raise ValueError(f"attention {named} is not for the profile Exact: leave it out")
    if named in LOSSY_KERNELS and profile not in EIGHT_BITS:
        raise ValueError(f"attention {named} is of 8 bits: take the profile Balanced or Fast")


def computed_steps(
    profile: Profile, steps: int, policy: StepCachePolicy = DEFAULT_STEP_CACHE
) -> int:
    """Number of steps that are computed of a video: all but what Spaced leaves out, since nobody
    knows before a video what an estimate will."""
    if policy != "Spaced":
        return steps
    return min(steps, max(LEAST_COMPUTED, ceil(COMPUTED_SHARE.get(profile, 1.0) * steps)))


class Size(Contract):
    """Size of a video, in pixels."""

    width: Annotated[int, Field(ge=SPATIAL_STRIDE, le=4096, multiple_of=SPATIAL_STRIDE)]
    height: Annotated[int, Field(ge=SPATIAL_STRIDE, le=4096, multiple_of=SPATIAL_STRIDE)]

    def __str__(self) -> str:
        """`1280x720`, as requests name it."""
        return f"{self.width}x{self.height}"


class SamplingSpec(Contract):
    """How a video is sampled; what is None comes from the next in line: request, effect, service,
    preset."""

    size: Size | None = None
    frames: Annotated[int, Field(ge=5, le=1025)] | None = None
    """4n+1."""
    fps: Annotated[float, Field(ge=1, le=60)] | None = None
    steps: Annotated[int, Field(ge=1, le=200)] | None = None
    guidance: Annotated[float, Field(ge=1, le=30)] | None = None
    guidance_low: Annotated[float, Field(ge=1, le=30)] | None = None
    """Guidance scale of Wan2.2's low-noise expert. None: as `guidance`."""
    shift: Annotated[float, Field(gt=0, le=30)] | None = None
    negative_prompt: Annotated[str, Field(max_length=4000)] | None = None

    @model_validator(mode="after")
    def _whole_latent_frames(self) -> Self:
        if self.frames is not None and (self.frames - 1) % TEMPORAL_STRIDE:
            raise ValueError(f"frames {self.frames} is not 4n+1, as 17, 49 or 81 are")
        return self
