"""Paired differences between candidates, with one confidence for all pairs together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from wan_runtime.contract.decision import Difference
from wan_runtime.contract.figures import Estimate
from wan_runtime.evaluation.statistics.records import Settings
from wan_runtime.evaluation.statistics.resampling import Floats, Resamples
from wan_runtime.evaluation.statistics.share import share
from wan_runtime.evaluation.statistics.statistic import TINY, Part, Statistic, statistic
from wan_runtime.evaluation.statistics.student import NORMAL, quantile
from wan_runtime.evaluation.statistics.table import mean_of_known

# Shapes: B resamples, J candidates, C clips.


def differences(
    metric: str,
    candidates: Sequence[str],
    parts: Sequence[Part],
    failed: NDArray[np.bool_],
    draws: Resamples,
    settings: Settings,
    floor: float | None = None,
) -> list[Difference]:
    """A difference for each pair of candidates. `failed` is [J, C].

    Intervals of `estimate` are simultaneous: in at most 1 - level of evaluations any candidate is
    called `better` without being so, however many there are. The critical value is
    the quantile of the largest standardised difference among all pairs (single-step max-T: P. H.
    Westfall and S. S. Young, Resampling-based multiple testing, 1993), widened from the normal
    distribution to Student's t. It takes the correlation of the pairs into account, which Holm's
    correction does not. `alone` has no correction.
    """
    pairs = list(combinations(range(len(candidates)), 2))
    found = {pair: statistic(parts, draws, *pair) for pair in pairs}
    critical = _critical([each for each in found.values() if each is not None], settings.level)
    without = [
        replace(each, cells=np.where(failed[:, :, None], np.nan, each.cells)) for each in parts
    ]
    totals = sum((part.weight * mean_of_known(part.cells) for part in parts), np.float64(0))
    return [
        _difference(
            metric,
            (candidates[first], candidates[second]),
            each,
            critical,
            statistic(without, draws, first, second) if failed[[first, second]].any() else None,
            np.asarray(totals)[[first, second]],
            failed[[first, second]],
            settings,
            floor,
        )
        for (first, second), each in found.items()
    ]


def _critical(found: Sequence[Statistic], level: float) -> float:
    """Standard errors, of a normal distribution, that the largest of the differences stays within
    with the probability `level`."""
    spread = [each.replicates / each.error for each in found if each.error > 0]
    alone = NORMAL.inv_cdf((1 + level) / 2)
    if len(spread) < 2:
        return alone
    return max(alone, float(np.quantile(np.abs(spread).max(axis=0), level)))


def _interval(of: Statistic, critical: float) -> Estimate:
    if of.clips < 2:
        return of.between(None, None)
    half = quantile(NORMAL.cdf(-critical), of.freedom) * of.error
    return of.between(of.value - half, of.value + half)


def _difference(
    metric: str,
    names: tuple[str, str],
    of: Statistic | None,
    critical: float,
    rendered: Statistic | None,
    totals: Floats,
    failed: NDArray[np.bool_],
    settings: Settings,
    floor: float | None,
) -> Difference:
    known = ~np.isnan(totals).any(axis=0)
    apart = totals[0, known] - totals[1, known]
    even = np.abs(apart) <= TINY * np.maximum(1.0, np.abs(totals[:, known]).max(axis=0, initial=0))
    won, tied = int((apart[~even] > 0).sum()), int(even.sum())
    alone = NORMAL.inv_cdf((1 + settings.level) / 2)
    together = None if of is None else _interval(of, critical)
    by_itself = None if of is None else _interval(of, alone)
    size = 0.0 if of is None or abs(of.value) <= TINY else abs(of.value)
    beyond = size > settings.floor_multiple * (floor or 0.0)
    return Difference(
        metric=metric,
        first=names[0],
        second=names[1],
        estimate=together,
        better=_better(names, together) if beyond else None,
        alone=by_itself,
        better_alone=_better(names, by_itself) if beyond else None,
        rendered=None if rendered is None else _interval(rendered, alone),
        common=int((known & ~failed.any(axis=0)).sum()),
        won=won,
        tied=tied,
        lost=int(known.sum()) - won - tied,
        win_rate=share(won + tied / 2, int(known.sum()), settings.level),
        floors=size / floor if floor and of is not None else None,
    )


def _better(names: tuple[str, str], estimate: Estimate | None) -> str | None:
    """Candidate on whose side the whole interval is."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return None
    return names[0] if estimate.low > 0 else names[1] if estimate.high < 0 else None
