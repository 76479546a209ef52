"""A plan of one train step: GPU memory and seconds, term by term."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from wan_runtime.contract.training import KEEPING
from wan_runtime.planner import bands
from wan_runtime.planner.architecture import HEADS
from wan_runtime.planner.calibration import Calibration, calibration
from wan_runtime.planner.gpus import Gpu
from wan_runtime.planner.rows import measured
from wan_runtime.planner.spread import exchange_seconds, update_seconds
from wan_runtime.planner.terms import (
    backward_of_attention,
    dense_gib,
    elementwise_seconds,
    forward_passes,
    kernel_seconds,
    resident_gib,
    unit_gib,
)
from wan_runtime.planner.verdict import Verdict, verdict
from wan_runtime.planner.workload import GIB, Confidence, Terms, Training
from wan_runtime.planner.workspace import workspace_bytes

ADAMW_BYTES = 28.0
"""Bytes that an update moves for each parameter: weight, gradient and two moments are read, all but
the gradient are written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPlan:
    work: Training
    gpu: Gpu | None
    """None: of unknown type. Memory is planned all the same."""
    memory: Terms
    """GiB of one GPU."""
    seconds: Terms
    """Seconds of one optimizer step, on average over buckets; empty for an unknown GPU."""
    memory_confidence: Confidence
    confidence: Confidence
    """The worse of memory's and time's."""

    @property
    def gib(self) -> float:
        return sum(self.memory.values())

    @property
    def gib_range(self) -> tuple[float, float]:
        return self.gib * (1 - self.memory_band), self.gib * (1 + self.memory_band)

    @property
    def memory_band(self) -> float:
        """Relative error of the memory."""
        return bands.band(self.memory_confidence, "GiB")

    @property
    def seconds_per_step(self) -> float:
        return sum(self.seconds.values())

    @property
    def time_band(self) -> float:
        """Relative error of the seconds."""
        return bands.band(self.confidence, "seconds")

    @property
    def fits(self) -> bool:
        """As far as the middle of the estimate goes."""
        return self.gpu is None or self.gib <= self.gpu.memory_gib

    @property
    def verdict(self) -> Verdict:
        """Verdict on the estimate and its range against the GPU's memory."""
        return verdict(self.gib, self.gib_range, self.gpu)


def plan_training(work: Training, gpu: Gpu | None) -> TrainingPlan:
    known = calibration()
    memory_confidence = bands.of_training_memory(work, gpu)
    confidence = memory_confidence
    if gpu is not None:
        confidence = bands.worse(confidence, bands.of_training_time(work, gpu))
    return TrainingPlan(
        work=work,
        gpu=gpu,
        memory=memory_terms(work, known),
        seconds={} if gpu is None else time_terms(work, gpu, known),
        memory_confidence=memory_confidence,
        confidence=confidence,
    )


def mixed(plans: Sequence[TrainingPlan], counts: Sequence[int]) -> TrainingPlan:
    """The plan of a run over several buckets, the largest first: its memory is that of the largest,
    its seconds are the mean over `counts`, the clips of each. Without them, the largest's."""
    largest, clips = plans[0], sum(counts)
    if not clips:
        return largest
    seconds = {
        name: sum(count * plan.seconds[name] for plan, count in zip(plans, counts, strict=True))
        / clips
        for name in largest.seconds
    }
    confidence = largest.memory_confidence
    for plan, count in zip(plans, counts, strict=True):
        confidence = bands.worse(confidence, plan.confidence) if count else confidence
    return replace(largest, seconds=seconds, confidence=confidence)


def memory_terms(work: Training, known: Calibration) -> Terms:
    """GiB of one GPU."""
    shape = work.architecture
    unit = unit_gib(work)
    blocks = shape.layers if work.checkpointing == "None" else 1
    keeping = work.checkpointing in KEEPING
    each = known.live_block + (known.live_image if shape.image_input else 0.0)
    if keeping:
        each = known.kept_block
    live = {"live block" if blocks == 1 else "all blocks": blocks * each * unit}
    if keeping:
        live["copies for host memory"] = known.kept_copies * unit
    if keeping and work.deterministic:
        live["repeatable gradient"] = _repeatable_bytes(work) / GIB
    if work.method == "full":
        # Rounded to bfloat16 as they are used, a block at a time.
        live["block's rounded weights"] = 2.0 * shape.block_parameters * blocks / GIB
    elif work.precision == "FP8":
        live["block's dense weights"] = dense_gib(work)
    allocator = measured().allocator
    return {
        **resident_gib(work),
        **live,
        "fragmentation": allocator.fragmentation_gib,
        "CUDA context": allocator.context_gib,
    }


def _repeatable_bytes(work: Training) -> int:
    """Bytes that the gradient of self-attention works in on one rank."""
    return workspace_bytes(
        work.micro_batch, HEADS // work.spread.sequence, work.tokens, work.tokens
    )


def time_terms(work: Training, gpu: Gpu, known: Calibration) -> Terms:
    """Seconds of one optimizer step."""
    # Of one rank, which takes a part of the tokens of each of its clips.
    clips = work.clips_a_rank / work.spread.sequence
    kernels = kernel_seconds(work, gpu, known.rates.efficiency)
    elementwise = elementwise_seconds(work, gpu, known.rates.passes)
    more = known.deterministic * kernels["attention"]
    if work.checkpointing in KEEPING:
        kernels["attention"] *= known.kept_attention
        elementwise *= known.kept_elementwise
        backward = backward_of_attention(work, gpu) / known.rates.efficiency.attention_backward
        more = known.repeatable * backward
    if work.deterministic:
        kernels["deterministic kernels"] = more
    update = update_seconds(work, ADAMW_BYTES * work.trainable, gpu.bandwidth_gbs * 1e9)
    return {
        **{name: seconds * clips for name, seconds in kernels.items()},
        "element-wise": clips * elementwise,
        "optimizer": update,
        **exchange_seconds(work, sum(forward_passes(work)), known.token_link),
    }
