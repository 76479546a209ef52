"""Quantiles of Student's t, against its tables and its density."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wan_runtime.evaluation.statistics.student import quantile


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [
        (1, 12.7062),
        (2, 4.3027),
        (3, 3.1824),
        (4, 2.7764),
        (7, 2.3646),
        (29, 2.0452),
        (1e9, 1.95996),
    ],
)
def test_two_sided_95_percent(freedom: float, expected: float) -> None:
    assert quantile(0.025, freedom) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("freedom", [1.3, 1.9, 2.5, 3.7, 7.5, 40.5])
@pytest.mark.parametrize("tail", [0.2, 0.025, 0.001])
def test_fractions_of_degrees_of_freedom(tail: float, freedom: float) -> None:
    """The density is integrated from 0 to the quantile."""
    grid = np.linspace(0, quantile(tail, freedom), 20001)
    log = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    density = math.exp(log) / math.sqrt(freedom * math.pi)
    inside = np.trapezoid(density * (1 + grid**2 / freedom) ** (-(freedom + 1) / 2), grid)
    assert 0.5 - inside == pytest.approx(tail, rel=0.01 if freedom > 2 else 0.04)


@pytest.mark.parametrize(("tail", "freedom"), [(0.5, 3), (0, 3), (0.1, 0.5)])
def test_what_has_no_quantile_is_refused(tail: float, freedom: float) -> None:
    with pytest.raises(ValueError, match="not"):
        quantile(tail, freedom)
