"""Whether something fits a GPU, by an estimate and its range."""

from __future__ import annotations

from typing import Literal

from wan_runtime.planner.gpus import Gpu

Verdict = Literal["yes", "barely", "unlikely", "no"]
"""Whether it fits: all of the range, the estimate, only its lower end, nothing."""


def verdict(gib: float, gib_range: tuple[float, float], gpu: Gpu | None) -> Verdict:
    """`gpu` None: of unknown type, which is not judged."""
    low, high = gib_range
    if gpu is None or high <= gpu.memory_gib:
        return "yes"
    if gib <= gpu.memory_gib:
        return "barely"
    return "unlikely" if low <= gpu.memory_gib else "no"
