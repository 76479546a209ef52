"""The few numbers that the memory and time models take from the measured rows, and how well the
rows agree on them.

Each is part of a least-squares fit of relative errors over the rows that know it:

  attention's backward  share of the GPU's dense rate. Kernels alone, which do not heat a GPU up to
                        its power limit, are faster than within a step
  passes                times that a block's element-wise work reads or writes u (one bfloat16
                        activation) for each forward's worth
  live block            activations that one block's backward holds, in u
  live image            activations that it holds more where it attends to CLIP's tokens

and where attention is not computed twice, with blocks that are compiled and FlashAttention-3:

  kept attention        time of attention, over what these rates make of it
  kept element-wise     likewise
  kept block            as live block
  kept copies           activations on their way to host memory or back

The rates of matrix kernels and of attention's forward are measured apart and not fitted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from wan_runtime.contract.training import Parallelism
from wan_runtime.planner.gpus import DEFAULTS, Gpu, by_name
from wan_runtime.planner.least_squares import Equation, fit
from wan_runtime.planner.rows import Measured, Row, measured
from wan_runtime.planner.spread import exchanged_bytes
from wan_runtime.planner.terms import (
    Efficiency,
    backward_of_attention,
    dense_gib,
    elementwise_seconds,
    forward_passes,
    kernel_seconds,
    resident_gib,
)
from wan_runtime.planner.workload import GIB, Clip, Serving, Training


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """How fast a GPU computes."""

    efficiency: Efficiency
    passes: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    rates: Rates
    deterministic: float
    """Seconds that deterministic kernels add for each second of attention under Full."""
    repeatable: float
    """Seconds that they add for each second of attention's backward pass, as `Rates` has it, where
    attention is not computed twice."""
    live_block: float
    live_image: float
    kept_block: float
    kept_copies: float
    kept_attention: float
    kept_elementwise: float
    token_link: float
    """Bytes of activations that ranks exchange a second, with the copies around it."""


@cache
def calibration() -> Calibration:
    """From the whole table."""
    return calibrate(measured())


def calibrate(table: Measured) -> Calibration:
    """Raises ValueError if there is no row for one of the numbers."""
    rates = fit_rates(table)
    live_block, live_image = fit_live(table)
    kept_block, kept_copies = fit(map(_kept_memory, table.kept()))
    kept_attention, kept_elementwise = fit(_kept_seconds(row, rates) for row in table.kept())
    return Calibration(
        rates=rates,
        deterministic=deterministic_of(table, rates),
        repeatable=repeatable_of(table, rates),
        live_block=live_block,
        live_image=live_image,
        kept_block=kept_block,
        kept_copies=kept_copies,
        kept_attention=kept_attention,
        kept_elementwise=kept_elementwise,
        token_link=token_link_of(table.split, rates, kept_attention, kept_elementwise),
    )


def fit_rates(table: Measured) -> Rates:
    """From the times of training steps and forward passes."""
    rows = (*table.calibrating("Training"), *table.calibrating("Forward"))
    slowness, passes = fit(_seconds(row, table) for row in rows)
    return Rates(efficiency=_with_backward(table, 1 / slowness), passes=passes)


def fit_live(table: Measured) -> tuple[float, float]:
    """(live block, live image), from the memory of training steps."""
    live, image = fit(map(_training_memory, table.calibrating("Training")))
    return live, image


def deterministic_of(table: Measured, rates: Rates) -> float:
    """From one row. Which kernels take the time was not measured; attention's backward is the one
    that adds in no fixed order, so its share is taken."""
    row = table.deterministic
    assert row.seconds is not None
    kernels = kernel_seconds(clip_of(row), _gpu(row.gpu), rates.efficiency)
    usual = sum(kernels.values()) + elementwise_seconds(clip_of(row), _gpu(row.gpu), rates.passes)
    return (row.seconds - usual) / kernels["attention"]


def repeatable_of(table: Measured, rates: Rates) -> float:
    """From two rows whose steps took turns. All that they differ by is taken as of attention's
    gradient, which is most of it."""
    row, usual = table.repeatable
    assert row.seconds is not None
    assert usual.seconds is not None
    backward = backward_of_attention(clip_of(row), _gpu(row.gpu))
    return (row.seconds - usual.seconds) * rates.efficiency.attention_backward / backward


def token_link_of(row: Row, rates: Rates, attention: float, elementwise: float) -> float:
    """From one row: bytes over what its step takes beyond its part of one GPU's.

    Args:
        attention: as `Calibration.kept_attention`.
        elementwise: as `Calibration.kept_elementwise`.
    """
    work, equation = clip_of(row), _kept_seconds(row, rates)
    assert isinstance(work, Training)
    computing = equation.at((attention, elementwise))
    return (
        exchanged_bytes(work, sum(forward_passes(work)))
        * row.sequence
        / (equation.measured - computing)
    )


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
    one row knows (memory of a forward pass, the VAE's decoder, the exchange of tokens) is taken as
    it is, and no plan that rests on it counts as measured."""
    found = []
    for row in (*table.calibrating("Training"), *table.calibrating("Forward"), *table.kept()):
        rest = table.without(row.id)
        for quantity, equation, unknowns in _both(row, rest):
            found.append(Residual(row, quantity, equation.measured, equation.at(unknowns)))
    return found


def _both(row: Row, rest: Measured) -> Iterator[tuple[str, Equation, tuple[float, ...]]]:
    """(quantity, its equation, the unknowns by the other rows)."""
    rates = fit_rates(rest)
    if row.code == "kept":
        kept = [_kept_seconds(each, rates) for each in rest.kept()]
        yield "seconds", _kept_seconds(row, rates), fit(kept)
        yield "GiB", _kept_memory(row), fit(map(_kept_memory, rest.kept()))
        return
    unknowns = 1 / rates.efficiency.attention_backward, rates.passes
    yield "seconds", _seconds(row, rest), unknowns
    if row.kind == "Training":
        yield "GiB", _training_memory(row), fit_live(rest)


def _with_backward(table: Measured, backward: float) -> Efficiency:
    kernels = table.kernels
    peak = _gpu(kernels.gpu).bf16_tflops
    return Efficiency(
        linears=kernels.linears / peak,
        attention_forward=kernels.attention_forward / peak,
        attention_backward=backward,
    )


def _seconds(row: Row, table: Measured) -> Equation:
    """Unknowns: (1 / attention's backward, passes)."""
    clip, gpu = clip_of(row), _gpu(row.gpu)
    assert row.seconds is not None
    known = sum(kernel_seconds(clip, gpu, _with_backward(table, math.inf)).values())
    units = backward_of_attention(clip, gpu), elementwise_seconds(clip, gpu, passes=1.0)
    return Equation(row.seconds, known, units)


def _kept_seconds(row: Row, rates: Rates) -> Equation:
    """Seconds of all GPUs together. Unknowns: (kept attention, kept element-wise)."""
    clip, gpu = clip_of(row), _gpu(row.gpu)
    assert row.seconds is not None
    kernels = kernel_seconds(clip, gpu, rates.efficiency)
    elementwise = elementwise_seconds(clip, gpu, rates.passes)
    return Equation(
        row.seconds * row.sequence, kernels["linear layers"], (kernels["attention"], elementwise)
    )


def _training_memory(row: Row) -> Equation:
    """Unknowns: (live block, live image)."""
    clip, unit = clip_of(row), _unit(row)
    assert row.allocated_gib is not None
    known = sum(resident_gib(clip).values())
    return Equation(row.allocated_gib, known, (unit, unit * clip.architecture.image_input))


def _kept_memory(row: Row) -> Equation:
    """Unknowns: (kept block, kept copies)."""
    clip, unit = clip_of(row), _unit(row)
    assert isinstance(clip, Training)
    assert row.allocated_gib is not None
    known = sum(resident_gib(clip).values()) + dense_gib(clip)
    if row.checkpointing == "Offload":
        return Equation(row.allocated_gib, known, (unit, unit))
    known += clip.architecture.layers * unit  # there was room for it on the GPU
    return Equation(row.allocated_gib, known, (unit, 0.0))


def _unit(row: Row) -> float:
    clip = clip_of(row)
    return clip.architecture.activation_bytes(clip.tokens) / row.sequence / GIB


def clip_of(row: Row) -> Clip:
    """What the row ran."""
    if row.kind == "Training":
        return Training(
            preset=row.preset, frames=row.frames, width=row.width, height=row.height,
            checkpointing=row.checkpointing, precision=row.precision,
            spread=Parallelism(gpus_per_node=row.gpus, sequence=row.sequence),
        )  # fmt: skip
    return Serving(
        preset=row.preset, frames=row.frames, width=row.width, height=row.height,
        steps=1, guided=False, profile=row.profile,
    )  # fmt: skip


def _gpu(name: str) -> Gpu:
    gpu = by_name(name, DEFAULTS)
    if gpu is None:
        raise ValueError(f"a measured row names the GPU {name}, which the catalogue does not have")
    return gpu
