"""What memory and time are made of: the terms that are counted, not fitted."""

from __future__ import annotations

from dataclasses import dataclass

from wan_runtime.contract.training import KEEPING
from wan_runtime.planner import spread
from wan_runtime.planner.gpus import Gpu
from wan_runtime.planner.workload import GIB, Clip, Terms, Training

BACKWARD_OF_ATTENTION = 2.5
"""FLOPs of attention's backward over those of its forward (FlashAttention)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Efficiency:
    """Shares of a GPU's dense bfloat16 rate."""

    linears: float
    attention_forward: float
    attention_backward: float


def resident_gib(clip: Clip) -> Terms:
    """What stays on the GPU whatever the block: weights, states, the inputs of all blocks."""
    shape = clip.architecture
    if not isinstance(clip, Training):
        return {"base weights": 2.0 * shape.parameters / GIB}
    unit = unit_gib(clip)
    here = clip.checkpointing in ("Full", "KeepAttention")
    return spread.resident_gib(clip) | {"block inputs": shape.layers * unit if here else 0.0}


def unit_gib(clip: Training) -> float:
    """One activation of the transformer's width, on one rank."""
    of_clip = clip.architecture.activation_bytes(clip.tokens) / clip.spread.sequence
    return clip.micro_batch * of_clip / GIB


def dense_gib(clip: Training) -> float:
    """The weights of the block at work, where they rest in 8 bits."""
    return 2.0 * clip.architecture.block_linears / GIB if clip.precision == "FP8" else 0.0


def host_gib(clip: Training) -> float:
    """What blocks of one rank keep in host memory: results of attention, which may find no room on
    the GPU, and the inputs of blocks."""
    kept = {"KeepAttention": 1, "Offload": 2}.get(clip.checkpointing, 0)
    return kept * clip.architecture.layers * unit_gib(clip)


def forward_passes(clip: Clip) -> tuple[float, float]:
    """(forward passes, backward passes) of one batch."""
    if not isinstance(clip, Training):
        return 1.0, 0.0
    return (1.0 if clip.checkpointing == "None" else 2.0), 1.0


def kernel_seconds(clip: Clip, gpu: Gpu, efficiency: Efficiency) -> Terms:
    """Matrix and attention kernels of one batch of one clip."""
    forward, backward = forward_passes(clip)
    shape, peak = clip.architecture, gpu.bf16_tflops * 1e12
    linear, attention = shape.linear_flops(clip.tokens), shape.attention_flops(clip.tokens)
    # Backward of a frozen layer is the gradient of its input; a trained one has its weights' too.
    weights = backward if isinstance(clip, Training) and clip.method == "full" else 0.0
    adapters = 0.0
    if isinstance(clip, Training) and clip.method == "lora":
        adapters = 2.0 * clip.trainable * clip.tokens * (forward + 2 * backward)
    matrices = linear * (forward + backward + weights) + adapters
    if isinstance(clip, Training) and clip.checkpointing in KEEPING:
        forward = 1.0
    return {
        "linear layers": matrices / (peak * efficiency.linears),
        "attention": attention * forward / (peak * efficiency.attention_forward)
        + backward_of_attention(clip, gpu) / efficiency.attention_backward,
    }


def backward_of_attention(clip: Clip, gpu: Gpu) -> float:
    """Seconds of attention's backward for one batch of one clip, were it to run at the GPU's dense
    rate."""
    _, backward = forward_passes(clip)
    flops = clip.architecture.attention_flops(clip.tokens) * BACKWARD_OF_ATTENTION * backward
    return flops / (gpu.bf16_tflops * 1e12)


def elementwise_seconds(clip: Clip, gpu: Gpu, passes: float) -> float:
    """Norms, RoPE, modulation, casts: bound by memory. A backward counts as two forwards."""
    forward, backward = forward_passes(clip)
    shape = clip.architecture
    traffic = passes * shape.layers * shape.activation_bytes(clip.tokens)
    return traffic * (forward + 2 * backward) / (gpu.bandwidth_gbs * 1e9)
