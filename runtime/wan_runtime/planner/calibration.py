"""The few numbers that the memory and time models take from the measured rows, and how well the
rows agree on them.

Each is one least-squares fit of relative errors over the rows that know it:

  passes        times that a block's element-wise work reads or writes u (one bfloat16 activation)
                for each forward's worth
  live block    activations that one block's backward holds, in u
  live forward  the same of a forward pass

The rates of matrix and attention kernels are measured apart and not fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from wan_runtime.planner.gpus import DEFAULTS, Gpu, by_name
from wan_runtime.planner.rows import Kind, Measured, Row, measured
from wan_runtime.planner.terms import (
    BACKWARD_OF_ATTENTION,
    Efficiency,
    elementwise_seconds,
    kernel_seconds,
    resident_gib,
)
from wan_runtime.planner.workload import GIB, Clip, Serving, Training


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    efficiency: Efficiency
    passes: float
    deterministic: float
    """Seconds that deterministic kernels add for each second of attention."""
    live_block: float
    live_forward: float
    kept_block: float
    """As `live_block`, where attention is not computed twice."""
    kept_seconds: float
    """Time of a step in which attention is not computed twice, over the sum of its terms: its
    blocks are compiled and its attention is FlashAttention-3's."""
    decode_seconds: float
    """Seconds of the VAE's decoder for each token of the clip, on the GPU measured."""
    decode_bytes: float
    """For each token of the clip."""


@cache
def calibration() -> Calibration:
    """From the whole table."""
    return calibrate(measured())


def calibrate(table: Measured) -> Calibration:
    """Raises ValueError if there is no row for one of the numbers."""
    (decode,) = table.calibrating("Decode")
    assert decode.seconds is not None
    assert decode.allocated_gib is not None
    tokens = clip_of(decode).tokens
    return Calibration(
        efficiency=efficiency_of(table),
        passes=fit_passes(table),
        deterministic=deterministic_of(table),
        live_block=fit_live(table, "Training"),
        live_forward=fit_live(table, "Forward"),
        kept_block=_fit(table.kept(), _memory),
        kept_seconds=kept_seconds(table),
        decode_seconds=decode.seconds / tokens,
        decode_bytes=decode.allocated_gib * GIB / tokens,
    )


def efficiency_of(table: Measured) -> Efficiency:
    kernels = table.kernels
    peak = _gpu(kernels.gpu).bf16_tflops
    both = (1 + BACKWARD_OF_ATTENTION) / kernels.attention_both
    backward = BACKWARD_OF_ATTENTION / (both - 1 / kernels.attention_forward)
    return Efficiency(
        linears=kernels.linears / peak,
        attention_forward=kernels.attention_forward / peak,
        attention_backward=backward / peak,
    )


def fit_passes(table: Measured) -> float:
    """From the times of training steps and forward passes."""
    efficiency = efficiency_of(table)
    rows = (*table.calibrating("Training"), *table.calibrating("Forward"))
    return _fit(rows, lambda row: _time(row, efficiency))


def deterministic_of(table: Measured) -> float:
    """From one row. Which kernels take the time was not measured; attention's backward is the one
    that adds in no fixed order, so its share is taken."""
    row, efficiency = table.deterministic, efficiency_of(table)
    seconds, known, unit = _time(row, efficiency)
    assert seconds is not None
    attention = kernel_seconds(clip_of(row), _gpu(row.gpu), efficiency)["attention"]
    return (seconds - known - unit * fit_passes(table)) / attention


def kept_seconds(table: Measured) -> float:
    """Mean over the rows, of which each knows it."""
    efficiency, passes = efficiency_of(table), fit_passes(table)
    shares = []
    for row in table.kept():
        seconds, known, unit = _time(row, efficiency)
        assert seconds is not None
        shares.append(seconds / (known + unit * passes))
    return sum(shares) / len(shares)


def fit_live(table: Measured, kind: Kind) -> float:
    """From the memory of the rows of one kind."""
    return _fit(table.calibrating(kind), _memory)


@dataclass(frozen=True, slots=True)
class Residual:
    """A quantity of a row, and what the other rows make of it."""

    row: Row
    quantity: str
    """`seconds` or `GiB`."""
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def leave_one_out(table: Measured) -> list[Residual]:
    """For every row that calibrates and every quantity that other rows say something of. What only
    one row knows (memory of a forward pass, the VAE's decoder) is taken as it is, and no plan that
    rests on it counts as measured."""
    found = []
    for row in (*table.calibrating("Training"), *table.calibrating("Forward")):
        rest = table.without(row.id)
        if row.seconds is not None:
            _, known, unit = _time(row, efficiency_of(rest))
            predicted = known + unit * fit_passes(rest)
            found.append(Residual(row, "seconds", row.seconds, predicted))
        if row.allocated_gib is not None and rest.calibrating(row.kind):
            _, known, unit = _memory(row)
            predicted = known + unit * fit_live(rest, row.kind)
            found.append(Residual(row, "GiB", row.allocated_gib, predicted))
    return found


Known = tuple[float | None, float, float]
"""(measured, what is known of it, what one unit of the unknown adds)."""


def _fit(rows: Iterable[Row], equation: Callable[[Row], Known]) -> float:
    """x that minimises the sum of ((known + x unit - measured) / measured)^2."""
    top = bottom = 0.0
    for row in rows:
        value, known, unit = equation(row)
        if value is not None:
            top += (value - known) * unit / value**2
            bottom += (unit / value) ** 2
    if not bottom:
        raise ValueError("no measured row is left to calibrate from")
    return top / bottom


def _time(row: Row, efficiency: Efficiency) -> Known:
    clip, gpu = clip_of(row), _gpu(row.gpu)
    known = sum(kernel_seconds(clip, gpu, efficiency).values())
    return row.seconds, known, elementwise_seconds(clip, gpu, passes=1.0)


def _memory(row: Row) -> Known:
    clip = clip_of(row)
    unit = clip.architecture.activation_bytes(clip.tokens) / GIB
    known = sum(resident_gib(clip).values())
    if row.checkpointing == "KeepAttention":
        known += clip.architecture.layers * unit  # there was room for it on the GPU
    return row.allocated_gib, known, unit


def clip_of(row: Row) -> Clip:
    """What the row ran."""
    if row.kind == "Training":
        return Training(
            preset=row.preset, frames=row.frames, width=row.width, height=row.height,
            checkpointing=row.checkpointing,
        )  # fmt: skip
    return Serving(
        preset=row.preset, frames=row.frames, width=row.width, height=row.height,
        steps=1, guided=False,
    )  # fmt: skip


def _gpu(name: str) -> Gpu:
    gpu = by_name(name, DEFAULTS)
    if gpu is None:
        raise ValueError(f"a measured row names the GPU {name}, which the catalogue does not have")
    return gpu
