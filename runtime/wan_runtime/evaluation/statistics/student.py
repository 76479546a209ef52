"""Quantiles of Student's t with any number of degrees of freedom, without scipy."""

from __future__ import annotations

import math
from statistics import NormalDist

NORMAL = NormalDist()
MANY = 1e6
"""Degrees of freedom from which the distribution is the normal one."""


def quantile(tail: float, freedom: float) -> float:
    """Positive t that is exceeded with the probability `tail`, below one half.

    The expansion of G. W. Hill, Algorithm 396: Student's t-quantiles, Communications of the ACM 13
    (1970) 619-620. From 2 degrees of freedom on, the probability is right to 1 %; between 1 and 2
    it is up to 4 % smaller, so that an interval is rather too wide.
    """
    if not 0 < tail < 0.5:
        raise ValueError(f"the probability of one tail is between 0 and 0.5, not {tail}")
    if freedom < 1:
        raise ValueError(f"Student's t has at least 1 degree of freedom, not {freedom}")
    both = 2 * tail
    if freedom >= MANY:
        return -NORMAL.inv_cdf(tail)
    if freedom == 1:
        return 1 / math.tan(math.pi * tail)
    if freedom == 2:
        return math.sqrt(2 / (both * (2 - both)) - 2)
    a = 1 / (freedom - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * freedom
    y = (d * both) ** (2 / freedom)
    if y > 0.05 + a:
        x = NORMAL.inv_cdf(tail)
        y = x * x
        if freedom < 5:
            c += 0.3 * (freedom - 4.5) * (x + 0.6)
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = math.expm1(a * y * y)
    else:
        near = (freedom + 6) / (freedom * y) - 0.089 * d - 0.822
        y = ((1 / (near * (freedom + 2) * 3) + 0.5 / (freedom + 4)) * y - 1) * (
            (freedom + 1) / (freedom + 2)
        ) + 1 / y
    return math.sqrt(freedom * y)
