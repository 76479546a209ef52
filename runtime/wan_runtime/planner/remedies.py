"""The smallest changes, each alone, with which a run would fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wan_runtime.planner.gpus import Gpu
from wan_runtime.planner.training import plan_training
from wan_runtime.planner.workload import Training

FEWEST_FRAMES = 5
SMALLER = (832, 480)
"""Wan's other official size."""


def fits(work: Training, gpu: Gpu) -> bool:
    return plan_training(work, gpu).fits


def remedies(work: Training, gpu: Gpu, catalogue: Sequence[Gpu]) -> list[str]:
    """As `57 frames (training.…)`, least intrusive first; empty if nothing alone helps."""
    found = []
    if work.checkpointing == "None" and fits(replace(work, checkpointing="Full"), gpu):
        found.append("gradientCheckpointing: Full")
    if work.batch > 1:
        batches = range(work.batch - 1, 0, -1)
        batch = next((b for b in batches if fits(replace(work, batch=b), gpu)), None)
        if batch is not None:
            found.append(f"batchSize: {batch}")
    lengths = range(work.frames - 4, FEWEST_FRAMES - 1, -4)
    frames = next((f for f in lengths if fits(replace(work, frames=f), gpu)), None)
    if frames is not None:
        found.append(f"{frames} frames")
    width, height = SMALLER if work.width >= work.height else SMALLER[::-1]
    if fits(replace(work, width=width, height=height), gpu):
        found.append(f"{width}x{height}")
    larger = [other for other in catalogue if other.name != gpu.name and fits(work, other)]
    if larger:
        found.append(f"a GPU of type {min(larger, key=lambda g: (g.memory_gib, g.name)).name}")
    if work.method == "full" and fits(replace(work, method="lora"), gpu):
        found.append("method.lora")
    return found
