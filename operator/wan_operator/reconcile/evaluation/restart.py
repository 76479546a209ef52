"""The run over again, with a spec that was edited before a candidate was at work."""

from __future__ import annotations

import hashlib
import json

from wan_operator.api.v1alpha1.evaluation import WanEvaluationSpec
from wan_operator.api.v1alpha1.evaluation_rules import FIXED, MOVABLE
from wan_operator.api.v1alpha1.runs import StepStatus
from wan_operator.reconcile.decision import Decision, Event
from wan_operator.reconcile.evaluation.plan import EvaluationRun
from wan_operator.reconcile.runs import report
from wan_operator.reconcile.runs.state import orphans
from wan_runtime.contract.steps import FACTS

BEFORE = tuple(step for step, facts in FACTS.items() if facts.verifies)
"""Steps that may have run when an edit of the fixed fields still starts the run over."""


def digest(spec: WanEvaluationSpec) -> str:
    """Hex SHA-256 of the fields that the API server fixes later. What is as by default is left out:
    a release with more fields must not start runs over."""
    content = spec.model_dump(mode="json", by_alias=True, include={*FIXED}, exclude_defaults=True)
    for field in MOVABLE:
        content.get("ratings", {}).pop(field, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def compared(run: EvaluationRun) -> EvaluationRun:
    """The run with the time since which candidates are at work, once they are."""
    if run.status.comparing_since is not None:
        return run
    begun = any(
        step.state != "Waiting" and not step.name.startswith(BEFORE) for step in run.status.steps
    )
    return run.with_status(comparing_since=run.now) if begun else run


def restarted(run: EvaluationRun) -> Decision | None:
    """Forgets what was resolved and made of an earlier spec, and stops the steps that run. None if
    there is no such edit. The numbers of attempts stay, since the names of their Jobs are taken."""
    status = run.status
    if status.comparing_since is not None or status.spec_sha256 in (None, digest(run.spec)):
        return None
    text = "the spec was edited before a candidate was at work: the evaluation starts over"
    steps = [
        StepStatus(name=step.name, state="Waiting", attempts=step.attempts) for step in status.steps
    ]
    run = report.halted(run, display="")
    run = run.with_status(steps=steps, effective=None, spec_sha256=None)
    event = Event(type="Normal", reason="StepStarting", action="RestartRun", message=text)
    return Decision(deletes=orphans(run), status=run.dump(), events=(event,), requeue_after=0.0)
