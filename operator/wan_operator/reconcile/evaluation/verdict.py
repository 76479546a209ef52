"""The verdict of an evaluation, as its status and its condition GatePassed have it."""

from __future__ import annotations

from wan_operator.api.v1alpha1.common import Artifact
from wan_operator.api.v1alpha1.evaluation_status import CandidateStatus, GateStatus
from wan_operator.conditions.evaluation import GATE_PASSED
from wan_operator.conditions.merge import Wanted
from wan_operator.reconcile.bounds import built
from wan_operator.reconcile.evaluation.plan import EvaluationRun
from wan_runtime.contract.verdict import Standing, Verdict

REPORT = "report.html"
PASSED = {True: "GatePassed", False: "GateNotPassed", None: "GateUndecided"}


def with_verdict(run: EvaluationRun, verdict: Verdict | None, report: Artifact) -> EvaluationRun:
    """The run with what its last step found."""
    folder = report.uri.rpartition("/")[0]
    run = run.with_status(report=report, report_uri=f"{folder}/{REPORT}")
    if verdict is None:
        return run
    gate = verdict.gate
    run = run.with_status(
        decision=verdict.decision,
        message=verdict.message,
        metric=verdict.metric,
        winner=verdict.winner or "",
        cheapest_good=verdict.cheapest_good or "",
        candidates=[_candidate(each) for each in verdict.standings],
    )
    if gate is None or run.spec.gate is None:
        return run
    found = built(
        GateStatus,
        candidate=gate.candidate or "",
        passed=gate.passed,
        message=gate.message,
    )
    return run.with_status(gate=found)


def gate_condition(run: EvaluationRun) -> list[Wanted]:
    """GatePassed; none without a gate. Only a verdict that says so makes it true."""
    gate = run.status.gate
    if run.spec.gate is None:
        return []
    if gate is not None:
        return [Wanted(GATE_PASSED, gate.passed, PASSED[gate.passed], gate.message)]
    if run.status.report is not None:
        text = "the comparison reported nothing about the gate"
        return [Wanted(GATE_PASSED, None, "GateUndecided", text)]
    return [Wanted(GATE_PASSED, None, "GateWaiting", "the candidates are not compared yet")]


def _candidate(standing: Standing) -> CandidateStatus:
    return built(
        CandidateStatus,
        name=standing.name,
        clips=standing.clips,
        failed=standing.failed,
        quality=standing.quality,
        low=standing.low,
        high=standing.high,
        opinion=standing.opinion,
        total=standing.total,
        gpu_seconds=standing.seconds,
        cost=standing.cost,
    )
