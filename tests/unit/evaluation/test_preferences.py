"""Strengths from pairwise choices, beside a published example."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

import numpy as np
import pytest

from evidence import START, clips
from wan_runtime.contract.opinions import Preferences
from wan_runtime.evaluation.statistics.davidson import fit
from wan_runtime.evaluation.statistics.preferences import preferences
from wan_runtime.evaluation.statistics.records import Choice, Evidence, Settings

Answer = Literal["Left", "Right", "Tie", "BothBad"]
FEW = Settings(resamples=400)

PUDDINGS = """1 2 19 22 16
1 3 16 19 12
2 3 19 19 10
1 4 18 23 13
2 4 23 19 9
3 4 19 20 15
1 5 13 19 18
2 5 16 20 12
3 5 16 15 17
4 5 17 14 16
1 6 18 21 12
2 6 22 20 12
3 6 13 18 10
4 6 14 19 18
5 6 11 21 12"""
"""Chocolate puddings of Davidson (1970): two brands, who preferred the first, who the second, and
who neither."""


def test_strengths_of_davidsons_puddings() -> None:
    rows = np.array([[int(word) for word in line.split()] for line in PUDDINGS.splitlines()])
    counts = rows[None, :, [2, 4, 3]].astype(float)
    found = fit(counts, rows[:, :2] - 1, 6, prior=0)
    shares = np.exp(found.strengths[0])
    published = [0.1388, 0.1730, 0.1617, 0.1654, 0.1587, 0.2024]
    assert shares / shares.sum() == pytest.approx(published, abs=5e-5)
    assert found.ties[0] == pytest.approx(0.7468, abs=5e-5)


def choices(answers: list[tuple[str, str, Answer]], raters: int = 2) -> tuple[Choice, ...]:
    """Each on a clip of its own, by each rater."""
    return tuple(
        Choice(
            rater=f"rater-{rater}",
            clip=clips(len(answers))[place],
            left=left,
            right=right,
            answer=answer,
            time=START + timedelta(seconds=place),
        )
        for place, (left, right, answer) in enumerate(answers)
        for rater in range(raters)
    )


def preferred(
    answers: list[tuple[str, str, Answer]], names: str = "ab", raters: int = 2
) -> Preferences:
    evidence = Evidence(
        candidates=tuple(names),
        clips=clips(len(answers)),
        choices=choices(answers, raters),
    )
    found = preferences(evidence, FEW)
    assert found is not None
    return found


def strengths(found: Preferences) -> dict[str, float | None]:
    return {each.candidate: each.strength for each in found.strengths}


def test_the_side_does_not_matter() -> None:
    one = preferred([("a", "b", "Left")] * 6 + [("a", "b", "Right")] * 4)
    other = preferred([("b", "a", "Right")] * 6 + [("a", "b", "Right")] * 4)
    assert strengths(one) == pytest.approx(strengths(other))
    assert one.pairs == other.pairs
    first = one.strengths[0]  # raters who always agree do not make the clips certain
    assert first.low is not None
    assert first.high is not None
    assert first.high - first.low > 0.5
    assert (one.left and one.left.value, other.left and other.left.value) == (0.6, 0.0)


def test_one_who_always_wins_has_a_finite_strength() -> None:
    found = preferred([("a", "b", "Left")] * 10)
    first, second = found.strengths
    assert first.strength is not None
    assert first.strength > 1
    assert first.low is not None
    assert first.high is not None
    assert second.strength == pytest.approx(-first.strength)
    assert found.pairs[0].win_rate is not None
    assert found.pairs[0].win_rate.value == 1
    assert found.pairs[0].win_rate.low is not None
    assert found.pairs[0].win_rate.low < 0.9


def test_ties_only_make_equals() -> None:
    found = preferred([("a", "b", "Tie")] * 6 + [("a", "b", "BothBad")] * 4)
    assert list(strengths(found).values()) == pytest.approx([0, 0])
    assert (found.pairs[0].tied, found.pairs[0].both_bad) == (20, 8)
    assert found.tie is not None
    assert found.tie > 10
    assert found.left is None
    found.model_dump_json()


def test_candidates_that_nothing_links_have_no_strength() -> None:
    found = preferred([("a", "b", "Left")] * 5 + [("c", "d", "Left")] * 5, "abcd")
    assert set(strengths(found).values()) == {None}
    assert "no chain of choices" in found.message
    assert [(each.first, each.second) for each in found.pairs] == [("a", "b"), ("c", "d")]


def test_one_rater_and_one_clip_give_no_interval() -> None:
    found = preferred([("a", "b", "Left")], raters=1)
    assert found.strengths[0].strength is not None
    assert (found.strengths[0].low, found.strengths[0].high) == (None, None)


def test_the_last_of_two_choices_counts() -> None:
    made = choices([("a", "b", "Left")] * 2, raters=1)
    later = made[0].model_copy(
        update={"answer": "Right", "time": START + timedelta(hours=1), "left": "b", "right": "a"}
    )
    again = made[1].model_copy(update={"answer": "Right", "time": START + timedelta(hours=1)})
    evidence = Evidence(candidates=("a", "b"), clips=clips(2), choices=(later, *made, again))
    found = preferences(evidence, FEW)
    assert found is not None
    assert (found.pairs[0].won, found.pairs[0].lost) == (1, 1)
    assert (found.choices, found.replaced) == (2, 2)


def test_one_candidate_on_both_sides_is_refused() -> None:
    with pytest.raises(ValueError, match="a on both sides"):
        preferred([("a", "a", "Left")])


def test_intervals_hold_the_truth() -> None:
    """Of 30 sets of choices with known strengths, nearly all intervals contain them."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(30):
        drawn: list[tuple[str, str, Answer]] = [
            ("a", "b", "Left" if generator.random() < 0.7 else "Right") for _ in range(24)
        ]
        first = preferred(drawn, raters=1).strengths[0]
        assert first.low is not None
        assert first.high is not None
        held += first.low <= np.log(0.7 / 0.3) / 2 <= first.high
    assert held >= 26
