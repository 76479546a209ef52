"""Shares of clips or choices that were won."""

from __future__ import annotations

import math

from wan_runtime.contract.figures import Estimate
from wan_runtime.evaluation.statistics.student import NORMAL


def share(won: float, number: int, level: float) -> Estimate | None:
    """Share with the score interval of E. B. Wilson, Journal of the American Statistical
    Association 22 (1927) 209-212, which keeps a width when all or none are won. None of nothing."""
    if number == 0:
        return None
    part, z = won / number, -NORMAL.inv_cdf((1 - level) / 2)
    middle = (part + z * z / (2 * number)) / (1 + z * z / number)
    half = z / (1 + z * z / number) * math.sqrt(part * (1 - part) / number + (z / number / 2) ** 2)
    return Estimate(
        value=part, low=max(0.0, middle - half), high=min(1.0, middle + half), clips=number
    )
