"""Quality beside cost."""

from __future__ import annotations

import pytest

from evidence import PIXELS, trial
from wan_runtime.contract.decision import CandidateCost, Decision
from wan_runtime.evaluation.statistics.decide import decide
from wan_runtime.evaluation.statistics.records import Cost, Settings

FEW = Settings(resamples=400, clips_of_cost=100)


def decided(better: list[float], costs: list[tuple[float | None, float | None]]) -> Decision:
    """Decision with (training, clip) in money for each candidate."""
    made = tuple(
        Cost(candidate=name, training_price=training, clip_price=clip)
        for name, (training, clip) in zip("abcd", costs, strict=False)
    )
    evidence = trial(1, better).model_copy(update={"costs": made})
    return decide(evidence, PIXELS, settings=FEW)


def row(decision: Decision, name: str) -> CandidateCost:
    return next(each for each in decision.costs.candidates if each.candidate == name)


def test_a_cheap_candidate_wins_by_quality_per_cost() -> None:
    decision = decided([0, 2], [(100, 1), (900, 1)])
    assert decision.quality.winner == "b"
    assert decision.quality_per_cost.winner == "a"
    assert (decision.costs.unit, row(decision, "a").cost) == ("Price", 200)
    assert row(decision, "a").ratio == pytest.approx(row(decision, "a").quality / 200)  # type: ignore[operator]
    assert row(decision, "a").on_front
    assert row(decision, "b").on_front


def test_the_front_leaves_out_what_costs_more_for_less() -> None:
    decision = decided([0, 2, -2], [(100, 1), (200, 1), (150, 1)])
    assert [each.on_front for each in decision.costs.candidates] == [True, True, False]


def test_equal_costs_leave_equal_candidates_undecided() -> None:
    decision = decided([0, 0], [(100, 1), (100, 1)])
    assert decision.quality_per_cost.winner is None
    assert decision.quality_per_cost.outcome == "Inconclusive"


@pytest.mark.parametrize("missing", [(None, None), (100.0, None), (0.0, 0.0)])
def test_a_cost_that_is_not_known_decides_nothing(
    missing: tuple[float | None, float | None],
) -> None:
    decision = decided([0, 2], [(100, 1), missing])
    verdict = decision.quality_per_cost
    assert (verdict.outcome, verdict.winner) == ("Inconclusive", None)
    assert [each.reason for each in verdict.doubts] == ["MissingCost"]
    assert decision.quality.winner == "b"
    decision.model_dump_json()


def test_without_the_training_of_one_the_videos_alone_are_costed() -> None:
    decision = decided([0, 2], [(100, 1), (None, 0.5)])
    assert not decision.costs.with_training
    assert [each.cost for each in decision.costs.candidates] == [100, 50]
    assert decision.quality_per_cost.winner == "b"
    assert decided([0, 2], [(100, 1), (0, 0.5)]).costs.with_training


def test_gpu_hours_count_where_prices_are_missing() -> None:
    costs = (
        Cost(candidate="a", training_gpu_hours=10, clip_gpu_hours=0.1, clip_price=1),
        Cost(candidate="b", training_gpu_hours=0, clip_gpu_hours=0.1),
    )
    evidence = trial(1, [0, 2]).model_copy(update={"costs": costs})
    decision = decide(evidence, PIXELS, settings=FEW)
    assert decision.costs.unit == "GpuHours"
    assert [each.cost for each in decision.costs.candidates] == [20, 10]


def test_the_size_of_the_unit_changes_no_verdict() -> None:
    cents = decided([0, 1], [(100, 1), (150, 1)])
    for unit in (1e-8, 1e8):
        other = decided([0, 1], [(100 * unit, unit), (150 * unit, unit)])
        assert other.quality_per_cost == cents.quality_per_cost
    assert cents.quality_per_cost.winner == "a"


def test_a_total_below_zero_has_no_ratio() -> None:
    """Divided by a higher cost it would be better."""
    evidence = trial(1, [0, -2])
    errors = tuple(each.model_copy(update={"better": "Lower"}) for each in evidence.metrics)
    costs = tuple(
        Cost(candidate=name, training_price=price, clip_price=1)
        for name, price in (("a", 1e6), ("b", 1))
    )
    made = evidence.model_copy(update={"metrics": errors, "costs": costs})
    verdict = decide(made, PIXELS, settings=FEW).quality_per_cost
    assert [each.reason for each in verdict.doubts] == ["NoRatio"]


def test_equals_are_both_on_the_front() -> None:
    evidence = trial(1, [0, 0])
    scores = [each for each in evidence.scores if each.candidate == "a"]
    twins = [each.model_copy(update={"candidate": "b"}) for each in scores]
    costs = tuple(Cost(candidate=name, training_price=1, clip_price=1) for name in "ab")
    made = evidence.model_copy(update={"scores": (*scores, *twins), "costs": costs})
    decision = decide(made, PIXELS, settings=FEW)
    assert [each.on_front for each in decision.costs.candidates] == [True, True]
    assert decision.quality_per_cost.outcome == "Tie"
