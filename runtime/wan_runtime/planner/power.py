"""How many clips an evaluation needs to tell two candidates apart.

An effect is the mean of the differences of two candidates, clip by clip, in standard deviations of
these differences.
"""

from __future__ import annotations

import math
from statistics import NormalDist

NORMAL = NormalDist()
POWER = 0.95
"""Share of evaluations that shall find a difference."""
MOST_CLIPS = 1000
"""Clips that an evaluation may have."""


def smallest_effect(clips: int, level: float = 0.95) -> float:
    """Smallest effect that so many clips tell from none in 95 of 100 evaluations.

    That of a paired t-test, for which no test of this level does better where the differences are
    normal. By the approximation of W. C. Guenther, Sample size formulas for normal theory t tests,
    The American Statistician 35 (1981) 243-244. Infinite for clips that can tell nothing.
    """
    tail, power = _quantiles(level)
    left = clips - tail**2 / 2
    return (tail + power) / math.sqrt(left) if left > 0 else math.inf


def clips_for(effect: float, level: float = 0.95) -> float:
    """Number of clips that tell an effect from none in 95 of 100 evaluations; infinite for none."""
    if effect == 0:
        return math.inf
    tail, power = _quantiles(level)
    return float(math.ceil(((tail + power) / effect) ** 2 + tail**2 / 2))


def _quantiles(level: float) -> tuple[float, float]:
    return NORMAL.inv_cdf((1 + level) / 2), NORMAL.inv_cdf(POWER)
