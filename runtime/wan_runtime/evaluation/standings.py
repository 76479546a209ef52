"""The decision as the status has it: a line for each candidate, and the reasons."""

from __future__ import annotations

from collections.abc import Sequence

from wan_runtime.contract.decision import CandidateScore, Decision, Difference
from wan_runtime.contract.evaluation import EvaluationWork
from wan_runtime.contract.figures import DIMENSIONS, SUBJECTIVE, TOTAL, Estimate
from wan_runtime.contract.job import RESULT_LIMIT
from wan_runtime.contract.verdict import MESSAGE_LIMIT, GateVerdict, Standing, Verdict
from wan_runtime.evaluation.evidence import cost_of, seconds_of
from wan_runtime.evaluation.records import Ratings, Video

ROOM = RESULT_LIMIT - 800
"""Bytes of a verdict in a Result, which also has the address of the report and a message."""
SHORT = 200
"""Characters of a message where room is short."""
WHOLE = 4
"""Candidates of which every figure is kept."""
SMALL_DOUBTS = frozenset({"IntervalTooWide", "WithinFloor", "Identical"})
"""Doubts of enough evidence: the candidates that are not apart are about equally good."""


def verdict_of(
    work: EvaluationWork,
    deciding: str,
    decision: Decision,
    totals: Decision,
    videos: Sequence[Video],
    ratings: Ratings | None,
) -> Verdict:
    """The verdict, best candidate first. `decision`: by what decides; `totals`: by the total."""
    simulated = ratings is not None and ratings.simulated
    by_total = {each.candidate: each.total for each in totals.candidates}
    standings = [
        standing(work, deciding, each, by_total[each.candidate], videos)
        for each in decision.candidates
    ]
    order = {each.candidate: each.total.value for each in decision.candidates if each.total}
    standings.sort(key=lambda each: order.get(each.name, float("-inf")), reverse=True)
    gate = totals.gate
    verdict = Verdict(
        decision=decision.quality.outcome,
        metric=deciding,
        winner=decision.quality.winner,
        cheapest_good=cheapest_good(decision),
        message=_cut(("simulated ratings; " if simulated else "") + message(deciding, decision)),
        standings=tuple(standings),
        gate=None
        if gate is None
        else GateVerdict(candidate=gate.candidate, passed=gate.passed, message=_cut(_said(totals))),
    )
    return small(verdict)


def small(verdict: Verdict) -> Verdict:
    """The verdict with no more than a Result has room for: of many candidates it leaves out first
    the ends of messages, then figures of those that are far from the best. The report has all."""
    if _size(verdict) > ROOM:
        gate = verdict.gate
        verdict = verdict.model_copy(
            update={
                "message": _cut(verdict.message, SHORT),
                "gate": gate and gate.model_copy(update={"message": _cut(gate.message, SHORT)}),
            }
        )
    for figures in (("low", "high"), ("total", "opinion"), ("seconds", "cost")):
        if _size(verdict) > ROOM:
            left_out = dict.fromkeys(figures)
            verdict = verdict.model_copy(
                update={
                    "standings": tuple(
                        each if index < WHOLE else each.model_copy(update=left_out)
                        for index, each in enumerate(verdict.standings)
                    )
                }
            )
    return verdict


def _size(verdict: Verdict) -> int:
    return len(verdict.model_dump_json(by_alias=True, exclude_defaults=True).encode())


def standing(
    work: EvaluationWork,
    deciding: str,
    score: CandidateScore,
    total: Estimate | None,
    videos: Sequence[Video],
) -> Standing:
    """One candidate, in a line."""
    failed = sum(each.clips for each in score.failures)
    quality = quality_of(deciding, score)
    cost = cost_of(work, work.candidate(score.candidate), videos)
    return Standing(
        name=score.candidate,
        clips=score.clips - failed,
        failed=failed,
        quality=_rounded(quality.value if quality else None),
        low=_rounded(quality.low if quality else None),
        high=_rounded(quality.high if quality else None),
        opinion=_opinion(score),
        total=_rounded(total.value if total else None),
        seconds=seconds_of(score.candidate, videos),
        cost=_rounded(cost.clip_price),
    )


def quality_of(deciding: str, score: CandidateScore) -> Estimate | None:
    """The number that decides, as people read it: with the sign and the unit of its metric."""
    if deciding == TOTAL:
        return score.total
    return next((each.estimate for each in score.metrics if each.metric == deciding), None)


def _opinion(score: CandidateScore) -> float | None:
    """Mean of the four dimensions, from 1 to 5."""
    found = quality_of(SUBJECTIVE, score)
    return None if found is None else _rounded(found.value / len(DIMENSIONS))


def cheapest_good(decision: Decision) -> str | None:
    """The cheapest of the candidates that are not apart from the best, where the evidence is
    enough to say that they are not."""
    doubts = {each.reason for each in decision.quality.doubts}
    if not doubts <= SMALL_DOUBTS:
        return None
    costs = {
        each.candidate: each.cost
        for each in decision.costs.candidates
        if each.cost is not None and each.candidate in decision.quality.leaders
    }
    known = len(costs) == len(decision.quality.leaders)
    return min(costs, key=lambda name: costs[name] or 0.0) if costs and known else None


def message(deciding: str, decision: Decision) -> str:
    """Why, with the numbers."""
    quality = decision.quality
    if quality.winner is None:
        said = "; ".join(dict.fromkeys(each.message for each in quality.doubts))
        return said or "no candidate is better than each other one"
    clips = next(each.clips for each in decision.candidates if each.candidate == quality.winner)
    apart = [
        each
        for each in decision.differences
        if each.metric == TOTAL and quality.winner in (each.first, each.second)
    ]
    beside = ", ".join(
        f"than {_other(each, quality.winner)} by {_by(each, quality.winner)}" for each in apart
    )
    return f"{quality.winner} is better by {deciding} over {clips} clips: {beside}"


def _other(each: Difference, name: str) -> str:
    return each.second if each.first == name else each.first


def _by(each: Difference, name: str) -> str:
    found = each.alone
    if found is None:
        return "an unknown amount"
    sign = 1 if each.first == name else -1
    ends = sorted(sign * end for end in (found.low, found.high) if end is not None)
    span = f" ({ends[0]:.3g} to {ends[1]:.3g})" if len(ends) == 2 else ""
    floors = f", {each.floors:.1f} noise floors" if each.floors is not None else ""
    return f"{sign * found.value:.3g}{span}{floors}"


def _said(totals: Decision) -> str:
    gate = totals.gate
    assert gate is not None
    return "; ".join((gate.message, *(each.message for each in gate.checks)))


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _cut(text: str, limit: int = MESSAGE_LIMIT) -> str:
    return text if len(text) <= limit else text[: limit - 2] + " …"
