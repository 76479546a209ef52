"""Quality beside cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wan_runtime.contract.decision import CandidateCost, CostTable, Doubt, Verdict
from wan_runtime.contract.figures import TOTAL
from wan_runtime.evaluation.statistics.differences import differences
from wan_runtime.evaluation.statistics.records import Cost, Settings
from wan_runtime.evaluation.statistics.resampling import Resamples
from wan_runtime.evaluation.statistics.statistic import Part
from wan_runtime.evaluation.statistics.table import Table
from wan_runtime.evaluation.statistics.verdict import doubt, verdict

Unit = Literal["Price", "GpuHours"]


def cost_table(
    costs: Sequence[Cost], quality: Mapping[str, float | None], settings: Settings
) -> CostTable:
    """Cost of training and of the settings' number of clips: in money if all candidates' is known,
    else in GPU-hours; of the clips alone, if the training of a candidate is not known. Ratios are
    of qualities above 0 and costs above 0 alone."""
    by_name = {each.candidate: each for each in costs}
    unit, with_training, known = _priced(
        [by_name.get(name) for name in quality], settings.clips_of_cost
    )
    costed = dict(zip(quality, known, strict=True))
    return CostTable(
        unit=unit,
        clips=settings.clips_of_cost,
        with_training=with_training,
        candidates=tuple(
            CandidateCost(
                candidate=name,
                cost=costed[name],
                quality=quality[name],
                ratio=_ratio(quality[name], costed[name]),
                on_front=_on_front(name, quality, costed),
            )
            for name in quality
        ),
    )


def verdict_by_cost(
    costs: CostTable,
    parts: Sequence[Part] | None,
    failed: NDArray[np.bool_],
    table: Table,
    draws: Resamples,
    settings: Settings,
    doubts: Sequence[Doubt],
) -> Verdict:
    """Winner by quality divided by cost, as sure as that by quality: costs are known, and scale the
    paired differences. The noise floor is part of the verdict by quality alone."""
    found = list(doubts)
    if without := [each.candidate for each in costs.candidates if not each.cost]:
        what = f"the cost of {', '.join(without)} is not known, or 0"
        return verdict(table.candidates, {}, (), [*found, doubt("MissingCost", what)], settings)
    if losses := [e.candidate for e in costs.candidates if e.quality is not None and not e.ratio]:
        what = f"the total of {', '.join(losses)} is not above 0, and no share of a cost"
        return verdict(table.candidates, {}, (), [*found, doubt("NoRatio", what)], settings)
    ratios = {each.candidate: each.ratio for each in costs.candidates}
    compared = []
    if parts is not None:
        scale = np.array([1 / each.cost for each in costs.candidates if each.cost])
        # Ratios are compared in units of the cheapest candidate's, so that rounding stays small.
        scale = (scale / scale.max())[:, None, None]
        scaled = [replace(part, cells=part.cells * scale) for part in parts]
        compared = differences(TOTAL, table.candidates, scaled, failed, draws, settings)
    return verdict(table.candidates, ratios, compared, found, settings)


def _priced(
    costs: Sequence[Cost | None], clips: int
) -> tuple[Unit | None, bool, list[float | None]]:
    """Unit that the costs of all are known in, whether with training, and the costs."""
    units: tuple[tuple[Unit, str, str], ...] = (
        ("Price", "training_price", "clip_price"),
        ("GpuHours", "training_gpu_hours", "clip_gpu_hours"),
    )
    for with_training in (True, False):
        for unit, training, clip in units:
            fixed = [getattr(each, training, None) if with_training else 0.0 for each in costs]
            known = [
                None if one is None or other is None else one + other * clips
                for one, other in zip(fixed, (getattr(e, clip, None) for e in costs), strict=True)
            ]
            if None not in known:
                return unit, with_training, known
    return None, True, [None] * len(costs)


def _ratio(quality: float | None, cost: float | None) -> float | None:
    return quality / cost if quality is not None and quality > 0 and cost else None


def _on_front(
    name: str, quality: Mapping[str, float | None], costed: Mapping[str, float | None]
) -> bool:
    mine, price = quality[name], costed[name]
    if mine is None or price is None:
        return False
    for other, theirs in quality.items():
        cost = costed[other]
        if other == name or theirs is None or cost is None:
            continue
        if theirs >= mine and cost <= price and (theirs > mine or cost < price):
            return False
    return True
