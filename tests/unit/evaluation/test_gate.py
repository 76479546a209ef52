"""A gate passes on evidence alone."""

from __future__ import annotations

from typing import Any

import pytest

from evidence import PIXELS, rated, trial
from wan_runtime.contract.decision import Gate, GateVerdict
from wan_runtime.evaluation.statistics.decide import decide
from wan_runtime.evaluation.statistics.records import Evidence, Failure, Settings

FEW = Settings(resamples=400)


def judged(evidence: Evidence, **gate: Any) -> GateVerdict:
    verdict = decide(evidence, PIXELS, Gate.model_validate(gate), FEW).gate
    assert verdict is not None
    return verdict


@pytest.mark.parametrize(
    "gate",
    [
        {"maximumRegression": {"psnr": 0.0, "total": 0.0, "ssim": 0.0}, "baseline": "a"},
        {"minimum": {"psnr": 30, "ssim": 0.8, "total": 0.7}},
        {"minimum": {"psnr": 30}, "maximumRegression": {"psnr": 0.5}, "baseline": "a"},
        {"candidate": "b", "baseline": "a", "maximumRegression": {"total": 0.0}},
    ],
)
def test_a_better_candidate_passes(gate: dict[str, object]) -> None:
    verdict = judged(trial(1, [0, 3]), **gate)
    assert (verdict.candidate, verdict.passed) == ("b", True)
    assert {each.passed for each in verdict.checks} == {True}
    assert all(each.estimate for each in verdict.checks)


@pytest.mark.parametrize(
    "gate",
    [
        {"maximumRegression": {"total": 0.0}},
        {"maximumRegression": {"psnr": 1.0}},
        {"maximumRegression": {"psnr": 5.0}, "minimum": {"ssim": 0.99}},
    ],
)
def test_a_worse_candidate_fails(gate: dict[str, object]) -> None:
    verdict = judged(trial(1, [0, 3]), candidate="a", baseline="b", **gate)
    assert verdict.passed is False
    assert "failed" in verdict.message


def test_an_estimate_on_the_good_side_alone_does_not_pass() -> None:
    made = trial(1, [0, 0.1])
    verdict = judged(made, candidate="b", baseline="a", maximumRegression={"total": 0.0})
    check = verdict.checks[0]
    assert check.estimate is not None
    assert check.estimate.value >= 0
    assert "needs at least 0 with" in check.message
    assert (check.passed, verdict.passed) == (None, None)
    assert "undecided regressions[total]" in verdict.message


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"minimum": {"vmaf": 80}}, "undecided thresholds[vmaf]"),
        ({"maximumRegression": {"vmaf": 5}, "baseline": "a"}, "undecided regressions[vmaf]"),
        ({"maximumRegression": {"psnr": 1}}, "names none"),
        ({"maximumRegression": {"psnr": 1}, "baseline": "x"}, "x is no candidate"),
        ({"maximumRegression": {"psnr": 1}, "baseline": "b"}, "b is the baseline itself"),
        ({"candidate": "x", "minimum": {"psnr": 1}}, "x is no candidate"),
        ({}, "no threshold"),
    ],
)
def test_what_is_missing_never_passes(gate: dict[str, object], message: str) -> None:
    verdict = judged(trial(1, [0, 3]), **gate)
    assert verdict.passed is None
    assert message in verdict.message


def test_without_a_winner_the_gate_stays_closed() -> None:
    verdict = judged(trial(1, [0, 3], count=5), minimum={"psnr": 1})
    assert (verdict.candidate, verdict.passed) == (None, None)
    assert "no winner" in verdict.message


def test_too_few_clips_never_pass_a_named_candidate_either() -> None:
    verdict = judged(trial(1, [0, 3], count=5), candidate="b", minimum={"psnr": 1})
    assert verdict.passed is None
    assert "5 clips, fewer than 8" in verdict.checks[0].message


def test_one_failed_threshold_outweighs_a_missing_one() -> None:
    verdict = judged(trial(1, [0, 3]), minimum={"psnr": 99, "vmaf": 1})
    assert verdict.passed is False


def test_a_limit_of_an_error_is_an_upper_one() -> None:
    made = trial(1, [0, 3])
    as_error = made.model_copy(
        update={
            "metrics": tuple(
                each.model_copy(update={"better": "Lower"}) if each.name == "ssim" else each
                for each in made.metrics
            )
        }
    )
    assert judged(as_error, candidate="b", minimum={"ssim": 0.9}).passed is True
    assert judged(as_error, candidate="b", minimum={"ssim": 0.7}).passed is False
    mean = decide(made, PIXELS, settings=FEW).candidates[1].metrics[1].estimate
    assert mean is not None
    assert judged(as_error, candidate="b", minimum={"ssim": mean.value + 1e-6}).passed is None


def test_one_rater_alone_passes_no_threshold() -> None:
    made = trial(1, [0, 3])
    for raters, passed in ((1, None), (5, True)):
        ratings = tuple(rated(1, [0, 1], count=30, raters=raters))
        people = made.model_copy(update={"ratings": ratings})
        verdict = judged(people, candidate="b", baseline="a", minimum={"subjective": 5})
        assert verdict.passed is passed


def test_a_baseline_without_a_score_is_beaten_by_nobody() -> None:
    made = trial(1, [0, 3])
    failures = tuple(Failure(candidate="a", clip=clip, reason="Crash") for clip in made.clips)
    scores = tuple(each for each in made.scores if each.candidate == "b")
    made = made.model_copy(update={"scores": scores, "failures": failures})
    verdict = judged(made, candidate="b", baseline="a", maximumRegression={"psnr": 1})
    assert (verdict.passed, verdict.message) == (None, "a has no score")


def test_other_clips_of_a_baseline_are_no_comparison() -> None:
    """Each failed where the other did not; the candidate has more clips."""
    made = trial(1, [0, 3])
    first = set(made.clips[:8])
    scores = [each for each in made.scores if (each.clip in first) == (each.candidate == "a")]
    made = made.model_copy(update={"scores": tuple(scores)})
    verdict = judged(made, candidate="b", baseline="a", maximumRegression={"psnr": 1})
    assert verdict.passed is None
    assert verdict.checks[0].message == "not measured"


def test_a_ratio_has_no_lowest_mean() -> None:
    made = trial(1, [0, 3])
    ratios = tuple(
        each.model_copy(update={"better": "NearerToOne"}) if each.name == "ssim" else each
        for each in made.metrics
    )
    made = made.model_copy(update={"metrics": ratios})
    assert judged(made, candidate="b", minimum={"ssim": 0.1}).passed is None
    regression = {"ssim": 0.1}
    verdict = judged(made, candidate="b", baseline="a", maximumRegression=regression)
    assert verdict.passed is True


def test_a_failing_candidate_cannot_pass_on_the_clips_that_it_rendered() -> None:
    verdict = judged(
        trial(1, [0, 3], failing=0.3), candidate="b", baseline="a", maximumRegression={"psnr": 1}
    )
    assert verdict.passed is not True


@pytest.mark.parametrize(("kept", "more", "passed"), [(5, 0, None), (20, -3, None), (20, 1, True)])
def test_failures_of_the_baseline_pass_nobody(kept: int, more: float, passed: bool | None) -> None:
    """It failed on all clips but `kept`, on which the candidate is better by `more`."""
    made = trial(1, [0, more])
    lost = made.clips[kept:]
    failures = tuple(Failure(candidate="a", clip=clip, reason="Preempted") for clip in lost)
    scores = tuple(each for each in made.scores if each.candidate == "b" or each.clip not in lost)
    made = made.model_copy(update={"scores": scores, "failures": failures})
    verdict = judged(made, candidate="b", baseline="a", maximumRegression={"psnr": 1})
    assert verdict.passed is passed, verdict
