"""Agreement of raters: Krippendorff's alpha.

Written from K. Krippendorff, Computing Krippendorff's alpha-reliability (2011), University of
Pennsylvania: the form for any number of observers, any metric and missing data.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wan_runtime.contract.figures import DIMENSIONS
from wan_runtime.contract.opinions import Agreement
from wan_runtime.evaluation.statistics.panel import Panel
from wan_runtime.evaluation.statistics.records import Settings
from wan_runtime.evaluation.statistics.resampling import resamples

# Shapes: B resamples, U units, R raters, V values.

Floats = NDArray[np.float64]
Level = Literal["Nominal", "Ordinal", "Interval"]


def alpha(ratings: Floats, level: Level) -> float | None:
    """Coefficient of `ratings` [U, R], NaN where one is missing. Units with a single rating do not
    count. None where it is not defined: nothing can be paired, or all values are equal."""
    values, coincidences = _coincidences(ratings)
    found = _alphas(values, coincidences.sum(axis=0, keepdims=True), level)[0]
    return None if np.isnan(found) else float(found)


def agreements(panel: Panel, settings: Settings) -> tuple[Agreement, ...]:
    """Agreement of each dimension, on the candidates' videos as they were rated. Hidden references
    are left aside: everybody agrees on them, which would raise the coefficient."""
    found = []
    for name, levels in zip(DIMENSIONS, panel.levels[:, :-1], strict=True):
        ratings = levels.reshape(-1, len(panel.raters))
        pairable = ratings[(~np.isnan(ratings)).sum(axis=1) > 1]
        low, high = _interval(pairable, settings)
        message = ""
        if not len(pairable):
            message = "no video has ratings of two people"
        elif len(np.unique(pairable[~np.isnan(pairable)])) == 1:
            message = "all ratings are equal, which shows no agreement on a difference"
        found.append(
            Agreement(
                dimension=name,
                ordinal=alpha(pairable, "Ordinal"),
                interval=alpha(pairable, "Interval"),
                nominal=alpha(pairable, "Nominal"),
                low=low,
                high=high,
                videos=len(pairable),
                message=message,
            )
        )
    return tuple(found)


def _coincidences(ratings: Floats) -> tuple[Floats, Floats]:
    """Values [V] in their order, and the coincidence matrix of each unit [U, V, V]: pairs of values
    from different raters, each weighing 1 / (ratings of the unit - 1)."""
    values = np.unique(ratings[~np.isnan(ratings)])
    counts = (ratings[:, :, None] == values).sum(axis=1).astype(np.float64)  # [U, V]
    raters = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :]
    places = np.arange(len(values))
    pairs[:, places, places] -= counts
    weight = np.where(raters > 1, 1 / np.maximum(raters - 1, 1), 0.0)
    return values, pairs * weight[:, None, None]


def _alphas(values: Floats, coincidences: Floats, level: Level) -> Floats:
    """Coefficient of each coincidence matrix [B, V, V], NaN where it is not defined."""
    margins = coincidences.sum(axis=2)  # [B, V]
    total = margins.sum(axis=1)
    apart = _distances(values, margins, level)
    observed = (coincidences * apart).sum(axis=(1, 2))
    expected = (margins[:, :, None] * margins[:, None, :] * apart).sum(axis=(1, 2))
    defined = expected > 0
    ratio = observed / np.where(defined, expected, 1.0)
    found: Floats = np.where(defined, 1 - (total - 1) * ratio, np.nan)
    return found


def _distances(values: Floats, margins: Floats, level: Level) -> Floats:
    """Squared differences between values, [V, V] or [B, V, V]."""
    gaps: Floats
    match level:
        case "Nominal":
            gaps = (values[:, None] != values).astype(np.float64)
        case "Interval":
            gaps = values[:, None] - values
        case "Ordinal":
            # Values from one to the other, with half of each end: a difference of mean ranks.
            ranks = np.cumsum(margins, axis=1) - margins / 2
            gaps = ranks[:, :, None] - ranks[:, None, :]
    return gaps * gaps


def _interval(ratings: Floats, settings: Settings) -> tuple[float | None, float | None]:
    """Percentile interval of the ordinal coefficient over videos."""
    if len(ratings) < settings.minimum_clips:
        return None, None
    values, coincidences = _coincidences(ratings)
    draws = resamples(len(ratings), 0, settings.resamples, settings.seed).clips
    again = np.einsum("bu,uvw->bvw", draws, coincidences, optimize=True)
    found = _alphas(values, again, "Ordinal")
    found = found[~np.isnan(found)]
    if len(found) < 0.9 * settings.resamples:
        return None, None
    tail = (1 - settings.level) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)
