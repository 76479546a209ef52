"""The run over again, with a spec that was edited before anything was lost by that."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from wan_operator.api.v1alpha1.runs import StepStatus
from wan_operator.reconcile.decision import Decision, Event
from wan_operator.reconcile.runs import report
from wan_operator.reconcile.runs.plan import Spec, Status
from wan_operator.reconcile.runs.state import Run, orphans


def hashed(content: Any) -> str:
    """Hex SHA-256 of fields of a spec, in JSON's types. What is as by default is to be left out: a
    release with more fields must not start runs over."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def started_over(run: Run[Spec, Status], message: str, spec_sha256: str | None) -> Decision:
    """Forgets what was resolved and made of an earlier spec, and stops the steps that run; the next
    reconcile starts them anew. The numbers of attempts stay, since the names of their Jobs are
    taken.

    Args:
        message: why, for the event.
        spec_sha256: `hashed` of the new spec, if it is known to be what the steps will get.
    """
    steps = [
        StepStatus(name=step.name, state="Waiting", attempts=step.attempts)
        for step in run.status.steps
    ]
    run = report.halted(run, display="")
    run = run.with_status(steps=steps, effective=None, spec_sha256=spec_sha256)
    event = Event(type="Normal", reason="StepStarting", action="RestartRun", message=message)
    return Decision(deletes=orphans(run), status=run.dump(), events=(event,), requeue_after=0.0)
