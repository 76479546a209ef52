"""How far a plan may be off: from the residuals where rows were taken, wide where none were."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from wan_runtime.contract.training import KEEPING
from wan_runtime.planner.calibration import clip_of, leave_one_out
from wan_runtime.planner.gpus import MEASURED_ON, Gpu
from wan_runtime.planner.rows import measured
from wan_runtime.planner.workload import Confidence, Serving, Training

EXTRAPOLATED = {"GiB": 0.06, "seconds": 0.20}
ESTIMATED = {"GiB": 0.25, "seconds": 0.40}
"""Relative; judgement, since no row says."""
LEAST = {"GiB": 0.02, "seconds": 0.05}
SAFETY = 2.0
"""A band is that many times the largest residual: the rows are few."""
ONE_CHIP = (MEASURED_ON, "H200-141GB")
"""GPUs of one chip, on which all rows were taken."""
MOST_SERVED = 2
"""GPUs that a video was measured on at once, at most."""
ORDER: tuple[Confidence, ...] = ("Measured", "Extrapolated", "Estimated")


def band(confidence: Confidence, quantity: str) -> float:
    """Relative error of `GiB` or `seconds`."""
    match confidence:
        case "Measured":
            return _measured()[quantity]
        case "Extrapolated":
            return EXTRAPOLATED[quantity]
        case "Estimated":
            return ESTIMATED[quantity]


@cache
def _measured() -> dict[str, float]:
    # Of the rows in whose settings a plan can count as measured.
    residuals = [each for each in leave_one_out(measured()) if each.row.calibrates]
    return {
        quantity: max(
            least, SAFETY * max(abs(r.error) for r in residuals if r.quantity == quantity)
        )
        for quantity, least in LEAST.items()
    }


def worse(first: Confidence, second: Confidence) -> Confidence:
    return max(first, second, key=ORDER.index)


def of_training_memory(work: Training, gpu: Gpu | None) -> Confidence:
    if _kept_as_measured(work):
        return "Extrapolated"
    if not _as_measured(work):
        return "Estimated"
    same = gpu is not None and gpu.name == MEASURED_ON and work.batch == 1 and work.rank <= 64
    same = same and work.experts == 1
    near = same and not work.deterministic and _among_rows(work)
    return "Measured" if near else "Extrapolated"


def of_training_time(work: Training, gpu: Gpu) -> Confidence:
    if gpu.name not in ONE_CHIP or work.deterministic:
        return "Estimated"
    if _kept_as_measured(work):
        return "Extrapolated"
    if not _as_measured(work):
        return "Estimated"
    near = gpu.name == MEASURED_ON and work.batch == 1 and _among_rows(work)
    return "Measured" if near else "Extrapolated"


def of_serving(work: Serving, gpu: Gpu) -> Confidence:
    """Never measured: one row a quantity."""
    near = gpu.name in ONE_CHIP and work.gpus <= MOST_SERVED
    return "Extrapolated" if near else "Estimated"


def _kept_as_measured(work: Training) -> bool:
    """Without attention computed twice, in the settings of the few rows of it."""
    return work.checkpointing in KEEPING and _as_measured(replace(work, checkpointing="Full"))


def _as_measured(work: Training) -> bool:
    """In the settings that all rows were taken with."""
    return (
        work.method == "lora"
        and work.checkpointing == "Full"
        and work.precision == "BF16"
        and work.gpus == 1
    )


def _among_rows(work: Training) -> bool:
    tokens = [clip_of(row).tokens for row in measured().calibrating("Training")]
    return min(tokens) * 0.8 <= work.tokens <= max(tokens) * 1.2
