"""Bootstrap over clips and raters.

A resample draws one unit fewer than there are, with replacement, so that the variance of a mean is
that of the unbiased estimate (McCarthy and Snowden, The bootstrap and finite population sampling,
1985). An interval is the expanded percentile interval of T. Hesterberg, What teachers should know
about the bootstrap, The American Statistician 69 (2015) 371-386: percentiles as far out as
Student's t is from the normal distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wan_runtime.evaluation.statistics.student import NORMAL, quantile

# Shapes: B resamples, C clips, R raters.

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Resamples:
    """Times that each unit is drawn; the same draws serve all candidates and metrics."""

    clips: Floats
    """[B, C]"""
    raters: Floats
    """[B, R]"""


def resamples(clips: int, raters: int, count: int, seed: int) -> Resamples:
    """Draws of `count` resamples: the same for the same numbers and seed."""
    generator = np.random.Generator(np.random.PCG64(seed))
    return Resamples(_draws(generator, clips, count), _draws(generator, raters, count))


def _draws(generator: np.random.Generator, units: int, count: int) -> Floats:
    if units < 2:
        return np.ones((count, units))
    return generator.multinomial(units - 1, [1 / units] * units, size=count).astype(np.float64)


def means(draws: Floats, values: Floats) -> Floats:
    """Mean of each resample [B] of `values` [C], of which NaN ones do not count. A resample without
    a value takes the mean of all."""
    known = ~np.isnan(values)
    numbers = draws[:, known].sum(axis=1)
    sums = draws[:, known] @ values[known]
    filled = float(values[known].mean()) if known.any() else np.nan
    return np.where(numbers > 0, sums / np.where(numbers > 0, numbers, 1), filled)


def expanded(replicates: Floats, level: float, freedom: float) -> tuple[float, float]:
    """Ends of the expanded percentile interval of replicates that have the unbiased variance."""
    tail = NORMAL.cdf(-quantile((1 - level) / 2, freedom))
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)
