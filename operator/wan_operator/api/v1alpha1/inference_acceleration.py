"""WanInferenceService.spec.acceleration: how transformers compute."""

from __future__ import annotations

from typing import Literal

from wan_operator.api.markers import Schema, rule
from wan_operator.api.v1alpha1.common import ApiModel
from wan_runtime.contract.sampling import LOSSY_KERNELS

Attention = Literal["Auto", "SDPA", "SageAttention", "FlashAttention-3", "FlashAttention-3 FP8"]


def _16_bits(of: str) -> str:
    return f"!({of}.attention in {list(LOSSY_KERNELS)})"


def attention_rules(of: str, field: str) -> tuple[Schema, ...]:
    """Rules: an attention kernel is of its profile.

    Args:
        of: CEL expression of the object with both.
        field: path of the kernel, from what the rules are over.
    """
    return (
        rule(
            f"{of}.profile != 'Exact' || {of}.attention == 'Auto'",
            "Exact computes the attention with DiffSynth's kernel: leave attention out, or take "
            "another profile",
            field,
            reason="FieldValueForbidden",
        ),
        rule(
            f"{of}.profile != 'Lossless' || {_16_bits(of)}",
            "is of 8 bits, which Lossless never is: take the profile Balanced or Fast, or the "
            "attention Auto, SDPA or FlashAttention-3",
            field,
        ),
    )


ACCELERATION_RULES: tuple[Schema, ...] = (
    rule(
        "self.acceleration.stepCache != 'TeaCache' || self.model.preset.startsWith('Wan2.1')",
        "TeaCache was never fitted for Wan2.2: take EasyCache",
        ".acceleration.stepCache",
    ),
    *attention_rules("self.acceleration", ".acceleration.attention"),
    rule(
        f"self.parallelism.ring == 1 || {_16_bits('self.acceleration')}",
        "is of 8 bits, which the parts of a ring cannot be added up in: take parallelism.ring 1, "
        "or the attention Auto, SDPA or FlashAttention-3",
        ".acceleration.attention",
    ),
)


class Acceleration(ApiModel):
    """Trade of speed for equal bits and quality."""

    profile: Literal["Exact", "Lossless", "Balanced", "Fast"] = "Lossless"
    """Arithmetic of the transformers for requests that choose none. Lossless fuses and compiles
    their blocks and takes the fastest attention kernel that is as exact as PyTorch's: its error
    against float32 is no larger than Exact's. A seed gives the same video on the same number and
    type of GPUs. Exact rounds wherever DiffSynth does: a seed gives the same bits on any number of
    GPUs, in a quarter more time. Balanced computes the self-attention in 8 bits on GPUs that can
    (Hopper), in a sixth less time than Lossless; videos differ from those of Lossless by 1.5 to 3
    times what two ways of rounding to bfloat16 differ by. Fast also computes the linear layers in 8
    bits, in a quarter less time than Lossless; videos differ by 2 to 4 times that. Both compute a
    part of the steps only, see stepCache. A service with Exact serves Exact alone; with another
    profile, a request may choose any but Exact."""
    step_cache: Literal["Spaced", "EasyCache", "TeaCache"] = "Spaced"
    """Rule by which Balanced and Fast leave out steps. Spaced computes steps that lie evenly in
    noise level: half of 40 with Balanced, 16 with Fast, and never fewer than 16. With the others,
    Balanced computes all, and Fast leaves out steps while an estimate of the change is small:
    EasyCache estimates from the video itself, TeaCache from the noise level, by what its authors
    measured of Wan2.1, and is for Wan2.1 alone."""
    attention: Attention = "Auto"
    """Attention kernel. Auto takes the fastest that is right on the worker's GPU, by a trial at its
    start. SDPA is PyTorch's own and runs everywhere. FlashAttention-3 needs a Hopper GPU (H100,
    H200). FlashAttention-3 FP8, on the same GPUs, and SageAttention, whose package has to be added
    to the runtime image, compute in 8 bits: they are for the profiles Balanced and Fast, and videos
    of lossless quality are rendered as with Auto. The others hold for all videos, and have Balanced
    and Fast attend in 16 bits. A worker on which the kernel cannot run, or is wrong, does not
    start, and the condition Ready says why. status.attention shows the kernel in use."""
