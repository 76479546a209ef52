"""Krippendorff's alpha, on the worked examples of his paper of 2011."""

from __future__ import annotations

import numpy as np
import pytest

from evidence import clips, rated
from wan_runtime.evaluation.statistics.agreement import Level, agreements, alpha
from wan_runtime.evaluation.statistics.panel import panel
from wan_runtime.evaluation.statistics.records import Settings

NAN = float("nan")
FOUR_OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T
"""Twelve units; the last one has a single value and does not count."""


def letters(*observers: str) -> np.ndarray:
    return np.array([[float(ord(letter)) for letter in each] for each in observers]).T


def test_two_observers_of_binary_data() -> None:
    assert alpha(letters("0100000010", "1110010000"), "Nominal") == pytest.approx(0.095, abs=5e-4)


def test_two_observers_of_nominal_data() -> None:
    found = alpha(letters("aabbdcccedda", "babbbcccedda"[:11] + "d"), "Nominal")
    assert found == pytest.approx(0.692, abs=5e-4)


@pytest.mark.parametrize(
    ("level", "published"), [("Nominal", 0.743), ("Ordinal", 0.815), ("Interval", 0.849)]
)
def test_four_observers_with_missing_data(level: Level, published: float) -> None:
    assert alpha(FOUR_OBSERVERS, level) == pytest.approx(published, abs=5e-4)


def test_the_order_of_units_and_observers_changes_nothing() -> None:
    turned = FOUR_OBSERVERS[::-1, ::-1]
    assert alpha(turned, "Ordinal") == pytest.approx(alpha(FOUR_OBSERVERS, "Ordinal"))


def test_perfect_agreement_on_several_values_is_one() -> None:
    assert alpha(np.array([[1.0, 1.0], [4.0, 4.0], [2.0, 2.0]]), "Ordinal") == 1


@pytest.mark.parametrize("level", ["Nominal", "Ordinal", "Interval"])
@pytest.mark.parametrize(
    "ratings", [[[3.0, 3.0], [3.0, 3.0]], [[1.0, NAN], [NAN, 2.0]]], ids=["equal", "single"]
)
def test_what_shows_no_agreement_has_no_coefficient(
    level: Level, ratings: list[list[float]]
) -> None:
    assert alpha(np.array(ratings), level) is None


def test_each_dimension_says_why_it_has_none() -> None:
    people = panel(rated(1, [0, 1], raters=1), "ab", clips(12), Settings())
    assert people is not None
    found = agreements(people, Settings())
    assert [each.ordinal for each in found] == [None] * 4
    assert {each.message for each in found} == {"no video has ratings of two people"}


def test_the_interval_holds_the_coefficient() -> None:
    people = panel(rated(1, [0, 1], raters=4, share=0.8), "ab", clips(12), Settings())
    assert people is not None
    for each in agreements(people, Settings(resamples=400)):
        assert each.ordinal is not None
        assert each.low is not None
        assert each.high is not None
        assert each.low < each.ordinal < each.high < 1
