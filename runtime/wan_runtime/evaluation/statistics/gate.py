"""Verdict of a gate: passed only on evidence."""

from __future__ import annotations

from collections.abc import Sequence

from wan_runtime.contract.decision import (
    CandidateScore,
    Check,
    Difference,
    Gate,
    GateVerdict,
    Verdict,
)
from wan_runtime.contract.figures import TOTAL, Estimate


def judge(
    gate: Gate,
    winner: Verdict,
    scores: Sequence[CandidateScore],
    differences: Sequence[Difference],
    minimum_clips: int,
) -> GateVerdict:
    """Verdict of each threshold and of all. What is missing or undecided is null, and null never
    passes: a metric that was not measured, fewer clips than `minimum_clips`, one rater alone, a
    baseline without a score. Thresholds are few and named beforehand, so that intervals are those
    of each alone."""
    candidate = gate.candidate or winner.winner
    if candidate is None:
        return _closed(gate, None, "there is no winner to judge, and the gate names no candidate")
    names = [each.candidate for each in scores]
    for name in (candidate, gate.baseline):
        if name is not None and name not in names:
            return _closed(gate, candidate, f"{name} is no candidate of this evaluation")
    if gate.maximum_regression and gate.baseline is None:
        return _closed(gate, candidate, "the gate compares with a baseline and names none")
    if gate.baseline == candidate:
        return _closed(gate, candidate, f"{candidate} is the baseline itself")
    by_name = {each.candidate: each for each in scores}
    for name in (candidate, gate.baseline):
        if name is not None and all(each.rendered is None for each in by_name[name].metrics):
            return _closed(gate, candidate, f"{name} has no score")
    checks = _means(gate, by_name[candidate])
    if gate.baseline is not None:
        checks += _beside(gate, candidate, gate.baseline, differences, minimum_clips)
    if not checks:
        return _closed(gate, candidate, "the gate has no threshold")
    checks = [_enough(each, minimum_clips) for each in checks]
    passed = [each.passed for each in checks]
    verdict = False if False in passed else None if None in passed else True
    failed = [each.threshold for each in checks if each.passed is False]
    unsure = [each.threshold for each in checks if each.passed is None]
    message = f"passed {passed.count(True)} of {len(checks)} thresholds"
    message += f"; failed {', '.join(failed)}" if failed else ""
    message += f"; undecided {', '.join(unsure)}" if unsure else ""
    return GateVerdict(
        candidate=candidate,
        baseline=gate.baseline,
        passed=verdict,
        checks=tuple(checks),
        message=message,
    )


def _closed(gate: Gate, candidate: str | None, message: str) -> GateVerdict:
    return GateVerdict(
        candidate=candidate, baseline=gate.baseline, passed=None, checks=(), message=message
    )


def _means(gate: Gate, score: CandidateScore) -> list[Check]:
    metrics = {each.metric: each for each in score.metrics}
    checks = []
    for metric, limit in sorted(gate.minimum.items()):
        found = metrics.get(metric)
        estimate = score.total if metric == TOTAL else found.estimate if found else None
        if found is not None and found.better == "NearerToOne":
            estimate = None  # a mean of ratios on both sides of one says nothing
        less = found is not None and found.better == "Lower"
        checks.append(_check(f"thresholds[{metric}]", estimate, limit, less=less))
    return checks


def _beside(
    gate: Gate,
    candidate: str,
    baseline: str,
    differences: Sequence[Difference],
    minimum_clips: int,
) -> list[Check]:
    by_metric = {
        each.metric: each
        for each in differences
        if {each.first, each.second} == {candidate, baseline} and each.common
    }
    checks = []
    for metric, limit in sorted(gate.maximum_regression.items()):
        of, name = by_metric.get(metric), f"regressions[{metric}]"
        lowest = 0.0 - limit  # no minus before a zero
        check = _check(name, None if of is None else _apart(of, candidate, of.alone), lowest)
        if of is not None and of.rendered is not None:
            both = _check(name, _apart(of, candidate, of.rendered), lowest)
            check = _also(check, _enough(both, minimum_clips))
        checks.append(check)
    return checks


def _also(check: Check, rendered: Check) -> Check:
    """The check, undecided if it passed only because the baseline failed: clips that the baseline
    has no video of say nothing about how good the candidate is beside it."""
    if not check.passed or rendered.passed:
        return check
    message = f"{check.message}; on the clips that both rendered, {rendered.message}"
    return check.model_copy(update={"passed": None, "message": message})


def _apart(of: Difference, candidate: str, found: Estimate | None) -> Estimate | None:
    """Candidate minus baseline, where more is better. `found`: one of the estimates of `of`, which
    is first minus second."""
    if found is None or of.first == candidate:
        return found
    low = None if found.high is None else -found.high
    high = None if found.low is None else -found.low
    return found.model_copy(update={"value": -found.value, "low": low, "high": high})


def _enough(check: Check, minimum_clips: int) -> Check:
    """The check, undecided if it passed on too little."""
    if check.estimate is None or not check.passed:
        return check
    clips, raters = check.estimate.clips, check.estimate.raters
    if clips < minimum_clips:
        message = f"{check.message}, but {clips} clips, fewer than {minimum_clips}, decide nothing"
    elif raters is not None and raters < 2:
        message = f"{check.message}, but one person's taste decides nothing"
    else:
        return check
    return check.model_copy(update={"passed": None, "message": message})


def _check(threshold: str, estimate: Estimate | None, limit: float, less: bool = False) -> Check:
    passed, message = None, "not measured"
    if estimate is not None:
        value, sure = estimate.value, estimate.high if less else estimate.low
        message = f"{value:.4g}"
        if estimate.low is not None and estimate.high is not None:
            message += f" (from {estimate.low:.4g} to {estimate.high:.4g})"
        good = value <= limit if less else value >= limit
        if not good:
            passed = False
        elif sure is not None and (sure <= limit if less else sure >= limit):
            passed = True
        side = "at most" if less else "at least"
        message += f", needs {side} {limit:.4g} with its whole interval"
    return Check(
        threshold=threshold, limit=limit, estimate=estimate, passed=passed, message=message
    )
