"""Mean opinions without the bias of raters, and the raters themselves."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from evidence import START, clips, rated, trial
from wan_runtime.contract.figures import DIMENSIONS
from wan_runtime.contract.opinions import Opinions, Rater
from wan_runtime.evaluation.statistics.decide import decide
from wan_runtime.evaluation.statistics.opinion import effects
from wan_runtime.evaluation.statistics.records import Evidence, Failure, Rating, Settings

NAN = float("nan")
FEW = Settings(resamples=400)


def test_all_ratings_there_give_the_formula_of_the_recommendation() -> None:
    ratings = np.array([[5.0, 3, 4], [3, 1, 2], [4, 2, 4]])
    mean = ratings.mean(axis=1)
    bias = (ratings - mean[:, None]).mean(axis=0)
    found = effects(ratings)
    assert found.bias == pytest.approx(bias)
    assert found.scores == pytest.approx((ratings - bias).mean(axis=1))


def test_missing_ratings_give_least_squares() -> None:
    """A mild rater saw the bad videos alone: plain means would be wrong by his bias."""
    scores, bias = np.array([1.0, 2, 3, 4]), np.array([1.0, -1.0])
    ratings = scores[:, None] + bias
    ratings[3, 0] = ratings[2, 0] = ratings[0, 1] = NAN
    found = effects(ratings)
    assert found.scores == pytest.approx(scores, abs=1e-6)
    assert found.bias == pytest.approx(bias, abs=1e-6)
    assert found.connected


def test_raters_of_different_videos_are_not_linked() -> None:
    found = effects(np.array([[5.0, NAN], [NAN, 1.0]]))
    assert not found.connected


def test_nobody_rated() -> None:
    found = effects(np.full((2, 1), NAN))
    assert np.isnan(found.scores).all()
    assert np.isnan(found.bias).all()


def evidence(ratings: list[Rating], count: int = 12, names: str = "ab") -> Evidence:
    return Evidence(candidates=tuple(names), clips=clips(count), ratings=tuple(ratings))


def opinions(made: Evidence, settings: Settings = FEW) -> Opinions:
    found = decide(made, settings=settings).opinions
    assert found is not None
    return found


def rater(made: Evidence, name: str, settings: Settings = FEW) -> Rater:
    return next(each for each in opinions(made, settings).raters if each.rater == name)


def score(made: Evidence, place: int, metric: str = "accuracy") -> float:
    scores = decide(made, settings=FEW).candidates[place].metrics
    estimate = next(each for each in scores if each.metric == metric).estimate
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < estimate.value < estimate.high
    return estimate.value


def test_bias_of_a_rater_who_saw_one_candidate_moves_no_mean() -> None:
    ratings = rated(1, [0, 0], raters=4, bias=[0, 0, 0, -1.5])
    partial = [each for each in ratings if each.rater != "rater-3" or each.candidate == "a"]
    others = [each for each in ratings if each.rater != "rater-3"]
    apart = [score(evidence(each), 0) - score(evidence(each), 1) for each in (partial, others)]
    assert apart[0] == pytest.approx(apart[1], abs=0.1)
    assert rater(evidence(partial), "rater-3").bias["accuracy"] < -0.6


def test_means_of_dimensions_and_their_sum() -> None:
    made = evidence(rated(1, [0, 1]))
    for place in (0, 1):
        parts = [score(made, place, name) for name in DIMENSIONS]
        assert score(made, place, "subjective") == pytest.approx(sum(parts))
    assert score(made, 1) > score(made, 0) + 0.5


def test_a_failed_clip_is_rated_one() -> None:
    ratings = [
        each for each in rated(1, [0, 0]) if (each.candidate, each.clip) != ("a", "clip-000")
    ]
    plain = evidence(ratings)
    failed = plain.model_copy(
        update={"failures": (Failure(candidate="a", clip="clip-000", reason="Crash"),)}
    )
    for metric, worst in (("accuracy", 1), ("subjective", 4)):
        whole, less = score(plain, 0, metric), score(failed, 0, metric)
        assert less == pytest.approx((whole * 11 + worst) / 12)


def test_an_unrated_clip_is_no_failure() -> None:
    made = evidence([each for each in rated(1, [0, 0]) if each.clip != "clip-000"])
    metrics = decide(made, settings=FEW).candidates[0].metrics
    assert {(each.failed, each.unrated) for each in metrics} == {(0, 1)}


def test_a_rating_sent_twice_counts_once_and_the_last_one() -> None:
    ratings = rated(1, [0, 0])
    late = ratings[0].model_copy(
        update={"time": START + timedelta(days=1), "accuracy": 5 if ratings[0].accuracy < 3 else 1}
    )
    assert score(evidence([late, *ratings]), 0) != score(evidence(ratings), 0)
    assert score(evidence([late, *ratings]), 0) == score(evidence([late, *ratings[1:]]), 0)
    assert opinions(evidence([late, *ratings])).replaced == 1


def test_a_rater_at_random_is_flagged_and_still_counts() -> None:
    generator = np.random.default_rng(4)
    ratings = rated(1, [0, 1], raters=5)
    for place, each in enumerate(ratings):
        if each.rater == "rater-4":
            levels = generator.integers(1, 6, len(DIMENSIONS)).tolist()
            ratings[place] = each.model_copy(update=dict(zip(DIMENSIONS, levels, strict=True)))
    made = evidence(ratings)
    flags = {each.rater: each.flags for each in opinions(made).raters}
    assert flags.pop("rater-4") == ("Correlation",)
    assert set(flags.values()) == {()}
    assert not rater(made, "rater-4").left_out
    without = FEW.model_copy(update={"raters_left_out": frozenset({"rater-4"})})
    assert rater(made, "rater-4", without).left_out
    assert decide(made, settings=without).raters_left_out == ("rater-4",)
    assert decide(made, settings=without).candidates != decide(made, settings=FEW).candidates


def test_equal_ratings_are_flagged() -> None:
    ratings = [
        each.model_copy(update=dict.fromkeys(DIMENSIONS, 3)) if each.rater == "rater-0" else each
        for each in rated(1, [0, 1])
    ]
    found = rater(evidence(ratings), "rater-0")
    assert (found.flags, found.correlation) == (("Constant",), None)


@pytest.mark.parametrize(("apart", "flags"), [(0, ()), (2, ("Repeats",))])
def test_repeats_far_from_the_first_rating_are_flagged(apart: int, flags: tuple[str, ...]) -> None:
    ratings = rated(1, [0, 1])
    again = [
        each.model_copy(
            update={
                name: level + apart if (level := getattr(each, name)) <= 3 else level - apart
                for name in DIMENSIONS
            }
            | {"repeat": 1}
        )
        for each in ratings
        if each.rater == "rater-1" and each.candidate == "a"
    ]
    made = evidence([*ratings, *again])
    assert rater(made, "rater-1").flags == flags
    assert rater(made, "rater-1").repeat_distance == apart
    assert score(made, 0) == score(evidence(ratings), 0)
    assert opinions(made).repeats == len(again)


@pytest.mark.parametrize(("level", "flags"), [(5, ()), (1, ("References",))])
def test_real_clips_rated_below_generated_ones_are_flagged(
    level: int, flags: tuple[str, ...]
) -> None:
    ratings = rated(1, [0, 1])
    real = [
        each.model_copy(
            update={"candidate": "reference"}
            | dict.fromkeys(DIMENSIONS, level if each.rater == "rater-1" else 5)
        )
        for each in ratings
        if each.candidate == "a" and each.clip < "clip-004"
    ]
    made = evidence([*ratings, *real])
    assert set(rater(made, "rater-1").flags) & {"References"} == set(flags)
    assert [each.metric for each in opinions(made).reference] == [*DIMENSIONS, "subjective"]


def test_raters_vary_the_interval_too() -> None:
    """Raters who disagree on which candidate is better widen the interval of the difference."""
    agreed = rated(1, [0, 0.6], count=30, raters=4)
    split = rated(1, [0, 1.2], count=30, raters=2) + [
        each.model_copy(update={"rater": f"other-{each.rater}"})
        for each in rated(2, [0, 0], count=30, raters=2)
    ]
    widths = []
    for ratings in (agreed, split):
        made = evidence(ratings, count=30)
        apart = next(each for each in decide(made).differences if each.metric == "subjective").alone
        assert apart is not None
        assert apart.low is not None
        assert apart.high is not None
        widths.append(apart.high - apart.low)
    assert widths[1] > 2 * widths[0]


def test_a_rating_of_an_unknown_clip_is_refused() -> None:
    made = evidence([rated(1, [0])[0].model_copy(update={"clip": "other"})])
    with pytest.raises(ValueError, match="clip other of a, which is not listed"):
        decide(made)


def test_people_and_pixels_decide_together() -> None:
    made = trial(1, [0, 2], count=12)
    ratings = tuple(rated(1, [0, 1]))
    decision = decide(made.model_copy(update={"ratings": ratings}))
    assert decision.quality.winner == "b"
    contrary = tuple(rated(1, [2, 0]))
    assert decide(made.model_copy(update={"ratings": contrary})).quality.winner == "a"
