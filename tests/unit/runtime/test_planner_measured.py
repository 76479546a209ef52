"""Plans beside what was measured: docs/planner.md has the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from wan_runtime.contract.training import Parallelism
from wan_runtime.planner.bands import band
from wan_runtime.planner.gpus import DEFAULTS, by_name
from wan_runtime.planner.rows import measured
from wan_runtime.planner.serving import ServingPlan, plan_serving
from wan_runtime.planner.terms import unit_gib
from wan_runtime.planner.training import TrainingPlan, plan_training
from wan_runtime.planner.workload import Confidence, Serving, Training

PAGE = Path(__file__).parents[3] / "docs" / "planner.md"
WAN21, WAN22 = "Wan2.1-I2V-14B-720P", "Wan2.2-I2V-A14B"
STEP = Serving(preset=WAN21, frames=81, width=1280, height=720, steps=1)
CLIP = replace(STEP, preset=WAN22, steps=40)
DISTILLED = replace(CLIP, steps=4, guided=False)
LORA = Training(preset=WAN22, frames=81, width=1280, height=720, checkpointing="KeepAttention")
FULL = replace(LORA, method="full", frames=25, accumulation=2, checkpointing="Full")
TWO, ZERO = (Parallelism(gpus_per_node=2, **more) for more in ({"sequence": 2}, {"zero_stage": 3}))  # type: ignore[arg-type]
STEPS = (
    ("`Exact`, a step", replace(STEP, profile="Exact"), 24.80),
    ("`Lossless`, a step", STEP, 19.26),
    ("`Balanced`, a step", replace(STEP, profile="Balanced"), 16.03),
    ("`Fast`, a step", replace(STEP, profile="Fast"), 14.09),
    ("`Lossless`, a step on two GPUs", replace(STEP, gpus=2), 9.872),
    ("`Lossless`, no guidance, two GPUs", replace(STEP, gpus=2, guided=False), 5.185),
    ("`Balanced`, a step on two GPUs", replace(STEP, gpus=2, profile="Balanced"), 8.185),
    ("`Balanced`, no guidance, two GPUs",
     replace(STEP, gpus=2, profile="Balanced", guided=False), 4.353),
    ("`Exact`, a step on two GPUs", replace(STEP, gpus=2, profile="Exact"), 12.54),
    ("`Exact`, no guidance, two GPUs", replace(STEP, gpus=2, profile="Exact", guided=False), 6.53),
)  # fmt: skip
"""Transformers alone, of Wan2.1."""
DECODERS = (("decoding", STEP, 1.762), ("decoding on two GPUs", replace(STEP, gpus=2), 1.009))
CLIPS = (
    ("`Lossless`, a clip of 40 steps", CLIP, 803.655 + 1.793),
    ("`Balanced`, a clip of 40 computed steps", replace(CLIP, profile="Balanced"),
     662.84 + 1.791),
    ("`Balanced`, a clip of 20 computed steps", replace(CLIP, profile="Balanced", computed=20),
     324.315 + 1.767),
    ("`Fast`, a clip of 16 computed steps", replace(CLIP, profile="Fast", computed=16),
     232.786 + 1.769),
    ("`Lossless`, a clip of 40 steps on two GPUs", replace(CLIP, gpus=2), 404.342 + 1.016),
    ("`Fast`, distilled, 4 steps", replace(DISTILLED, profile="Fast"), 30.425 + 1.788),
    ("`Lossless`, distilled, 4 steps", DISTILLED, 40.3 + 1.76),
)  # fmt: skip
"""Transformers and decoding, of Wan2.2: an adapter takes time of its own, which is in no plan."""
TRAINED = (
    ("LoRA, 25 frames of Wan2.1, `KeepAttention`", replace(LORA, preset=WAN21, frames=25), 6.9,
     58.24),
    ("LoRA, 81 frames of Wan2.1", replace(LORA, preset=WAN21, checkpointing="Full"), 54.842, 89.24),
    ("LoRA, 81 frames of Wan2.1, `KeepAttention`", replace(LORA, preset=WAN21), 39.235, 107.44),
    ("LoRA, 81 frames, `KeepAttention`", LORA, 39.355, 102.93),
    ("LoRA, 81 frames, `Offload`", replace(LORA, checkpointing="Offload"), 39.151, 48.14),
    ("LoRA, 81 frames, `KeepAttention`, `deterministic`", replace(LORA, deterministic=True),
     43.876, 108.71),
    ("LoRA, 81 frames, `KeepAttention`, `experts: Joint`", replace(LORA, experts=2), 39.12, None),
    ("LoRA, 81 frames of Wan2.1 in FP8, `Offload`, held to 48 GB",
     replace(LORA, preset=WAN21, checkpointing="Offload", precision="FP8"), 39.50, 38.3),
    ("LoRA, 81 frames of Wan2.1, `KeepAttention`, `sequence: 2`",
     replace(LORA, preset=WAN21, spread=TWO), 20.77, 71.78),
    ("LoRA, 81 frames of Wan2.1, `KeepAttention`, two GPUs, a clip each",
     replace(LORA, preset=WAN21, accumulation=2, spread=Parallelism(gpus_per_node=2)), 39.871,
     107.44),
    ("all weights, 25 frames, two GPUs, `zeroStage: 3`", replace(FULL, spread=ZERO), 12.0, 129.4),
    ("all weights, 25 frames, two GPUs, `zeroStage: 3`, `offload: Optimizer`",
     replace(FULL, spread=Parallelism(gpus_per_node=2, zero_stage=3, offload="Optimizer")), 36.18,
     53.38),
)  # fmt: skip
"""A step and what PyTorch allocated of a GPU, of Wan2.2. With both experts not all results of
attention may have found room there."""
Row = tuple[str, str, float, float, Confidence]
"""What it is, `seconds` or `GiB`, measured, planned, confidence."""


def rows() -> Iterator[Row]:
    gpu = by_name("H200-141GB", DEFAULTS)
    assert gpu is not None
    for what, video, took in STEPS:
        plan = plan_serving(video, gpu)
        yield what, "seconds", took, plan.seconds_per_clip - decoding(plan), plan.confidence
    for what, video, took in DECODERS:
        plan = plan_serving(video, gpu)
        yield what, "seconds", took, decoding(plan), plan.confidence
    for what, video, took in CLIPS:
        plan = plan_serving(video, gpu)
        yield what, "seconds", took, plan.seconds_per_clip, plan.confidence
    yield (
        "a service's worker, both experts",
        "GiB",
        67.61,
        plan_serving(CLIP, gpu).gib,
        "Extrapolated",
    )
    for what, work, took, gib in TRAINED:
        step = plan_training(work, gpu)
        yield what, "seconds", took, step.seconds_per_step, step.confidence
        if gib is not None:
            yield what, "GiB", gib, allocated(step), step.memory_confidence


def decoding(plan: ServingPlan) -> float:
    return plan.seconds["VAE decode"]


def allocated(plan: TrainingPlan) -> float:
    """GiB of tensors where what may wait in host memory finds room, as on this GPU."""
    known, work = measured().allocator, plan.work
    tensors = plan.gib - known.context_gib - known.fragmentation_gib
    if work.checkpointing != "KeepAttention":
        return tensors
    return (
        tensors - plan.memory["copies for host memory"] + work.architecture.layers * unit_gib(work)
    )


def test_plans_are_as_near_as_they_say() -> None:
    for what, quantity, took, planned, confidence in rows():
        assert abs(planned / took - 1) < band(confidence, quantity), (what, quantity, took, planned)


def test_the_documented_table_is_the_current_one() -> None:
    lines = [
        f"| {what} | {quantity} | {took:.4g} | {planned:.4g} | {planned / took - 1:+.1%} |"
        for what, quantity, took, planned, _ in rows()
    ]
    assert "\n".join(lines) in PAGE.read_text(), "\n" + "\n".join(lines)
