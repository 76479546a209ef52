"""Winners, and the reasons why there is none."""

from __future__ import annotations

import json
import math

import pytest

from evidence import PIXELS, clips, rated, scored, trial
from wan_runtime.contract.decision import Decision, Difference, Scoring
from wan_runtime.contract.figures import DIMENSIONS
from wan_runtime.contract.metric_names import METRICS
from wan_runtime.evaluation.statistics.decide import decide
from wan_runtime.evaluation.statistics.records import Evidence, Failure, Score, Settings, metric

PSNR = Scoring.model_validate({"components": [{"metric": "psnr", "weight": 1}]})
FEW = Settings(resamples=400)


def evidence(values: dict[str, dict[str, float]], **fields: object) -> Evidence:
    """Evidence of PSNR alone, on all clips that a candidate has."""
    names = tuple(sorted({clip for by_clip in values.values() for clip in by_clip}))
    made = {
        "candidates": tuple(values),
        "clips": names,
        "metrics": (metric("psnr"),),
        "scores": tuple(scored(values)),
    }
    return Evidence.model_validate(made | fields)


def total(decision: Decision) -> Difference:
    return next(each for each in decision.differences if each.metric == "total")


def reasons(decision: Decision) -> set[str]:
    return {each.reason for each in decision.quality.doubts}


def level(value: float, count: int = 10, step: float = 0.0) -> dict[str, float]:
    return {clip: value + step * place for place, clip in enumerate(clips(count))}


def test_a_better_candidate_wins() -> None:
    decision = decide(trial(1, [0, 2, 0]), PIXELS)
    assert decision.quality.outcome == "Winner"
    assert (decision.quality.winner, decision.quality.leaders) == ("b", ("b",))


def test_the_order_of_records_changes_nothing() -> None:
    made = trial(1, [0, 2], failing=0.1)
    turned = made.model_copy(
        update={
            "scores": made.scores[::-1],
            "failures": made.failures[::-1],
            "clips": made.clips[::-1],
        }
    )
    assert decide(made, PIXELS, settings=FEW) == decide(turned, PIXELS, settings=FEW)


def test_another_seed_gives_other_intervals() -> None:
    first, second = (
        decide(trial(1, [0, 2]), PIXELS, settings=Settings(resamples=400, seed=seed))
        for seed in (0, 1)
    )
    assert total(first).estimate != total(second).estimate


def test_identical_candidates_are_a_tie() -> None:
    decision = decide(evidence({"a": level(30, step=0.5), "b": level(30, step=0.5)}), PSNR)
    assert (decision.quality.outcome, decision.quality.winner) == ("Tie", None)
    assert decision.quality.leaders == ("a", "b")
    assert reasons(decision) == {"Identical"}


def test_rounding_makes_no_winner() -> None:
    made = {"a": level(0.1 + 0.2), "b": level(0.3)}
    assert made["a"] != made["b"]
    assert decide(evidence(made), PSNR).quality.outcome == "Tie"


def test_one_constant_difference_without_variance_wins() -> None:
    decision = decide(evidence({"a": level(30, step=1), "b": level(31, step=1)}), PSNR)
    assert decision.quality.winner == "b"
    assert (estimate := total(decision).estimate)
    assert estimate.low == estimate.high == pytest.approx(-1)


def test_fewer_than_eight_common_clips_decide_nothing() -> None:
    decision = decide(evidence({"a": level(30, 7), "b": level(35, 7)}), PSNR)
    assert decision.quality.outcome == "Inconclusive"
    assert reasons(decision) == {"FewClips"}
    assert "7 common clips, fewer than 8" in decision.quality.doubts[0].message
    assert decide(evidence({"a": level(30, 8), "b": level(35, 8)}), PSNR).quality.winner == "b"


def test_candidates_without_a_common_clip_are_not_compared() -> None:
    names = clips(20)
    made = {"a": dict.fromkeys(names[:10], 20.0), "b": dict.fromkeys(names[10:], 40.0)}
    decision = decide(evidence(made), PSNR)
    assert decision.quality.outcome == "Inconclusive"
    assert "NoCommonClips" in reasons(decision)


def test_one_candidate_does_not_win() -> None:
    decision = decide(evidence({"a": level(30)}), PSNR)
    assert (decision.quality.outcome, reasons(decision)) == ("Inconclusive", {"OneCandidate"})


def test_a_metric_that_one_candidate_lacks_blocks_the_verdict() -> None:
    made = trial(1, [0, 5])
    kept = [each for each in made.scores if (each.candidate, each.metric) != ("a", "ssim")]
    decision = decide(made.model_copy(update={"scores": tuple(kept)}), PIXELS)
    assert decision.quality.outcome == "Inconclusive"
    assert "MissingMetric" in reasons(decision)
    assert decision.quality.doubts[0].message == "a has no ssim, which the total needs"
    assert decision.candidates[0].total is None


def test_a_metric_that_nobody_measured_blocks_the_verdict() -> None:
    decision = decide(trial(1, [0, 5]))  # the recipe's total needs people
    assert (decision.quality.outcome, reasons(decision)) == ("Inconclusive", {"MissingMetric"})
    (why,) = decision.quality.doubts
    assert why.message.startswith("nobody rated a video, and marks decide: have people rate anew")


def test_a_failed_clip_stays_in_the_denominator() -> None:
    failure = Failure(candidate="a", clip="clip-000", reason="OutOfMemory")
    values = {"a": level(30), "b": level(30)}
    del values["a"]["clip-000"], values["a"]["clip-001"]
    decision = decide(evidence(values, failures=(failure,)), PSNR)
    first, second = decision.candidates
    assert first.total is not None
    assert first.total.value == pytest.approx(24)  # 8 of 10 clips have 30 dB
    assert (first.metrics[0].failed, first.metrics[0].rendered) == (2, 30)
    assert [(each.reason, each.clips) for each in first.failures] == [
        ("Missing", 1),
        ("OutOfMemory", 1),
    ]
    assert second.failures == ()
    assert (total(decision).won, total(decision).tied, total(decision).lost) == (0, 8, 2)
    assert decision.quality.winner is None


def test_a_metric_that_failed_on_a_clip_counts_as_worst() -> None:
    values = {"a": level(30), "b": level(30)}
    del values["a"]["clip-000"]
    failure = Failure(candidate="a", clip="clip-000", metric="psnr", reason="Timeout")
    decision = decide(evidence(values, failures=(failure,)), PSNR)
    assert decision.candidates[0].failures == ()  # there is a video
    assert decision.candidates[0].metrics[0].failed == 1


def test_clips_that_both_rendered_are_compared_beside_failures() -> None:
    made = {"a": level(30, 20), "b": {clip: v + 2 for clip, v in level(30, 20, 0.01).items()}}
    del made["b"]["clip-003"]
    decision = decide(evidence(made), PSNR)
    assert decision.quality.winner is None
    assert "Failures" in reasons(decision)
    assert total(decision).common == 19
    assert total(decision).rendered is not None


def test_a_candidate_that_always_fails_has_no_score_and_loses() -> None:
    names = clips(10)
    failures = tuple(Failure(candidate="a", clip=clip, reason="Crash") for clip in names)
    decision = decide(evidence({"a": {}, "b": level(30)}, failures=failures), PSNR)
    assert decision.candidates[0].total is None
    assert decision.candidates[0].metrics[0].estimate is None
    assert decision.quality.winner == "b"


def test_all_failed_is_inconclusive() -> None:
    names = clips(10)
    failures = tuple(
        Failure(candidate=name, clip=clip, reason="Crash") for clip in names for name in "ab"
    )
    made = evidence({"a": {}, "b": {}}, failures=failures, clips=names)
    decision = decide(made, PSNR)
    assert (decision.quality.outcome, reasons(decision)) == ("Inconclusive", {"NoClips"})
    json.loads(decision.model_dump_json())


def test_no_clips_is_no_score() -> None:
    decision = decide(evidence({"a": {}, "b": {}}), PSNR)
    assert reasons(decision) >= {"NoClips"}
    assert [each.total for each in decision.candidates] == [None, None]


def again(value: float, noise: float) -> list[Score]:
    return [
        Score(candidate="a", clip=clip, metric="psnr", render="seed 2", value=value + noise * sign)
        for clip, sign in zip(clips(10), [1, -1] * 5, strict=True)
    ]


def test_a_difference_within_the_noise_floor_is_none() -> None:
    values = {"a": level(30), "b": level(30.5)}
    scores = (*scored(values), *again(30, 3.0))
    decision = decide(evidence(values, scores=scores), PSNR)
    floor = decision.floors[0].value
    assert floor == pytest.approx(3.0 * math.sqrt(10 / 9) / math.sqrt(10))
    assert total(decision).floors == pytest.approx(0.5 / floor)
    assert reasons(decision) == {"WithinFloor"}
    calm = evidence(values, scores=(*scored(values), *again(30, 0.3)))
    assert decide(calm, PSNR).quality.winner == "b"


def test_kernels_that_move_all_clips_one_way_raise_the_floor() -> None:
    values = {"a": level(30), "b": level(30.5)}
    moved = [each.model_copy(update={"value": 30.4}) for each in again(30, 0)]
    decision = decide(evidence(values, scores=(*scored(values), *moved)), PSNR)
    assert decision.floors[0].value == pytest.approx(0.4)
    assert reasons(decision) == {"WithinFloor"}


def test_the_floor_is_that_of_the_kind_of_render_that_differs_most() -> None:
    values = {"a": level(30), "b": level(30.5)}
    kernels = [each.model_copy(update={"render": "kernels"}) for each in again(30, 0.03)]
    (seeds,) = decide(evidence(values, scores=(*scored(values), *again(30, 3.0))), PSNR).floors
    (both,) = decide(
        evidence(values, scores=(*scored(values), *again(30, 3.0), *kernels)), PSNR
    ).floors
    assert both.value == pytest.approx(seeds.value)
    assert both.by_render == {
        "kernels": pytest.approx(seeds.value / 100),
        "seed 2": pytest.approx(seeds.value),
    }


def test_less_is_better_for_an_error() -> None:
    values = {"a": level(0.3), "b": level(0.2)}
    made = evidence(values, metrics=(metric("lpips"),), scores=tuple(scored(values, "lpips")))
    scoring = Scoring.model_validate({"components": [{"metric": "lpips", "weight": 1}]})
    decision = decide(made, scoring)
    assert decision.quality.winner == "b"
    assert decision.candidates[1].metrics[0].estimate is not None
    assert decision.candidates[1].metrics[0].estimate.value == pytest.approx(0.2)


def test_a_ratio_is_better_nearer_to_one() -> None:
    values = {"a": level(2.0), "b": level(0.9)}
    made = evidence(
        values, metrics=(metric("motion_ratio"),), scores=tuple(scored(values, "motion_ratio"))
    )
    scoring = Scoring.model_validate({"components": [{"metric": "motion_ratio", "weight": 1}]})
    decision = decide(made, scoring)
    assert decision.quality.winner == "b"
    assert total(decision).estimate is not None
    assert total(decision).estimate.value == pytest.approx(0.5 - 0.9)


@pytest.mark.parametrize("name", METRICS)
def test_a_failed_clip_is_the_worst_of_each_metric(name: str) -> None:
    definition = METRICS[name]  # type: ignore[index]
    assert (definition.worst > 0) == (definition.better == "Lower")


def test_one_rater_decides_nothing() -> None:
    made = trial(1, [0, 2], count=12)
    alone = made.model_copy(update={"ratings": tuple(rated(1, [0, 1], raters=1))})
    decision = decide(alone)
    assert (decision.quality.outcome, "OneRater" in reasons(decision)) == ("Inconclusive", True)
    several = made.model_copy(update={"ratings": tuple(rated(1, [0, 1], raters=4))})
    assert decide(several).quality.winner == "b"


def test_raters_of_one_candidate_each_decide_nothing() -> None:
    """Whether the raters or the candidates differ, nobody knows."""
    people = {"a": ("rater-0", "rater-1"), "b": ("rater-2", "rater-3")}
    ratings = [each for each in rated(1, [0, 1]) if each.rater in people[each.candidate]]
    made = Evidence(candidates=("a", "b"), clips=clips(12), ratings=tuple(ratings))
    scoring = Scoring.model_validate({"components": [{"metric": "subjective", "weight": 1}]})
    decision = decide(made, scoring, settings=FEW)
    assert decision.quality.outcome == "Inconclusive"
    assert "OneRater" in reasons(decision)
    assert decision.quality.doubts[0].message.startswith("0 of the raters rated both a and b")


def test_a_mean_of_easier_clips_is_no_lead() -> None:
    """People rated the easy clips of a alone, and there b is better."""
    ratings = []
    for clip in clips(20):
        easy = clip < "clip-010"
        for name, level in (("a", 4 if easy else 1), ("b", 5 if easy else 2)):
            if easy or name == "b":
                ratings += [
                    each.model_copy(update=dict.fromkeys(DIMENSIONS, level))
                    for each in rated(1, [0, 0], count=20)
                    if (each.candidate, each.clip) == (name, clip)
                ]
    made = Evidence(candidates=("a", "b"), clips=clips(20), ratings=tuple(ratings))
    scoring = Scoring.model_validate({"components": [{"metric": "subjective", "weight": 1}]})
    decision = decide(made, scoring, settings=FEW)
    assert decision.quality.outcome == "Inconclusive"
    assert reasons(decision) == {"OtherClips"}


def test_a_record_of_an_unknown_candidate_is_refused() -> None:
    made = evidence({"a": level(30)})
    other = made.model_copy(update={"candidates": ("b",)})
    with pytest.raises(ValueError, match="clip clip-000 of a, which is not listed"):
        decide(other, PSNR)


def test_two_values_of_one_clip_are_refused() -> None:
    made = evidence({"a": level(30)})
    twice = made.model_copy(update={"scores": made.scores * 2})
    with pytest.raises(ValueError, match="two scores"):
        decide(twice, PSNR)


def test_a_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        Score(candidate="a", clip="c", metric="psnr", value=math.inf)


def test_a_decision_is_read_back_from_json() -> None:
    decision = decide(trial(1, [0, 2], failing=0.1), PIXELS, settings=FEW)
    text = decision.model_dump_json(by_alias=True)
    assert Decision.model_validate_json(text) == decision
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
