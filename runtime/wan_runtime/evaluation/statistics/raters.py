"""How far each rater can be relied on. Nobody is left out by this: a person decides that."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wan_runtime.contract.figures import DIMENSIONS
from wan_runtime.contract.opinions import Rater, RaterFlag
from wan_runtime.evaluation.statistics.panel import Panel, counting, levels_of, panel
from wan_runtime.evaluation.statistics.records import Evidence, Rating, Settings
from wan_runtime.evaluation.statistics.student import NORMAL

# Shapes: V videos, J candidates, C clips, R raters.

Floats = NDArray[np.float64]

REPEATED, REPEAT_DISTANCE = 3, 1.0
"""Videos that must have come twice, and levels between the two ratings from which a rater is
flagged. Two ratings at random are 1.6 levels apart."""
REFERENCES = 3
"""Real clips that must have been rated. A rater who rates them below generated ones is flagged."""
IN_COMMON, CORRELATION = 8, 0.5
"""Videos that must have been rated by others too, and the correlation below which a rater is
flagged: with 90 % confidence, so that of 24 videos a rater at random is flagged in nine of ten
cases, and one with a correlation of 0.6 in one of 40."""


def raters(evidence: Evidence, settings: Settings) -> tuple[Rater, ...]:
    """Every rater who answered, those that are left out included."""
    everybody = panel(
        evidence.ratings,
        evidence.candidates,
        sorted(evidence.clips),
        settings.model_copy(update={"raters_left_out": frozenset()}),
    )
    chosen = Counter(each.rater for each in evidence.choices)
    rated = Counter(each.rater for each in counting(evidence.ratings))
    repeats = _repeat_distances(evidence.ratings)
    names = sorted(rated.keys() | chosen.keys() | {each.rater for each in evidence.ratings})
    return tuple(
        _rater(name, everybody, rated[name], chosen[name], repeats, settings) for name in names
    )


def _rater(
    name: str,
    everybody: Panel | None,
    rated: int,
    chosen: int,
    repeats: Mapping[str, list[float]],
    settings: Settings,
) -> Rater:
    flags: list[RaterFlag] = []
    bias, correlation, lead = {}, None, None
    if everybody is not None and name in everybody.raters:
        place = everybody.raters.index(name)
        bias = {
            dimension: float(value)
            for dimension, value in zip(DIMENSIONS, everybody.bias[:, place], strict=True)
        }
        sums = everybody.levels.sum(axis=0)  # [J + 1, C, R]
        own = sums[..., place][~np.isnan(sums[..., place])]
        if own.size >= IN_COMMON and own.min() == own.max():
            flags.append("Constant")
        correlation, common = _correlation(sums, place)
        if correlation is not None and _upper(correlation, common) < CORRELATION:
            flags.append("Correlation")
        lead, references = _reference_lead(sums[..., place])
        if lead is not None and references >= REFERENCES and lead < 0:
            flags.append("References")
    distances = repeats.get(name, [])
    distance = float(np.mean(distances)) if distances else None
    if distance is not None and len(distances) >= REPEATED and distance > REPEAT_DISTANCE:
        flags.append("Repeats")
    return Rater(
        rater=name,
        ratings=rated,
        choices=chosen,
        bias=bias,
        correlation=correlation,
        reference_lead=lead,
        repeat_distance=distance,
        flags=tuple(flags),
        left_out=name in settings.raters_left_out,
    )


def _correlation(sums: Floats, place: int) -> tuple[float | None, int]:
    """Pearson's correlation with the mean of the others, and the number of videos in common."""
    own = sums[..., place].reshape(-1)
    others = np.delete(sums, place, axis=-1).reshape(own.size, -1)
    count = (~np.isnan(others)).sum(axis=1)
    known = ~np.isnan(own) & (count > 0)
    number = int(known.sum())
    mean = np.nansum(others[known], axis=1) / count[known]
    if number < IN_COMMON or np.ptp(own[known]) == 0 or np.ptp(mean) == 0:
        return None, number
    return float(np.corrcoef(own[known], mean)[0, 1]), number


def _upper(correlation: float, common: int) -> float:
    """Upper end of a one-sided 90 % interval, by Fisher's transformation."""
    inside = min(max(correlation, -1 + 1e-12), 1 - 1e-12)
    return math.tanh(math.atanh(inside) + NORMAL.inv_cdf(0.9) / math.sqrt(common - 3))


def _reference_lead(own: Floats) -> tuple[float | None, int]:
    """Mean lead of the real clip over the generated ones of the same clip, and real clips with
    such. `own` is [J + 1, C]."""
    generated = own[:-1]
    count = (~np.isnan(generated)).sum(axis=0)
    known = ~np.isnan(own[-1]) & (count > 0)
    if not known.any():
        return None, 0
    mean = np.nansum(generated[:, known], axis=0) / count[known]
    return float((own[-1, known] - mean).mean()), int(known.sum())


def _repeat_distances(ratings: Sequence[Rating]) -> dict[str, list[float]]:
    """Rater -> mean distance over the dimensions, of each repeat from the first rating."""
    first = {(each.rater, each.candidate, each.clip): each for each in counting(ratings)}
    found: dict[str, list[float]] = {}
    for each in ratings:
        key = each.rater, each.candidate, each.clip
        if each.repeat > 0 and key in first:
            apart = np.abs(np.subtract(levels_of(each), levels_of(first[key])))
            found.setdefault(each.rater, []).append(float(apart.mean()))
    return found
