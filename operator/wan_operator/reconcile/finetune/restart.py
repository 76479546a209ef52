"""The run over again, with a spec that was edited before a GPU worked for it."""

from __future__ import annotations

import hashlib
import json

from wan_operator.api.v1alpha1.finetune import FIXED, FIXED_OPTIONAL, WanFineTuneSpec
from wan_operator.api.v1alpha1.runs import StepStatus
from wan_operator.reconcile.decision import Decision, Event
from wan_operator.reconcile.finetune.plan import FineTuneRun
from wan_operator.reconcile.runs import report
from wan_operator.reconcile.runs.state import orphans
from wan_runtime.contract.steps import FACTS


def digest(spec: WanFineTuneSpec) -> str:
    """Hex SHA-256 of the fields that the API server fixes later. What is as by default is left out:
    a release with more fields must not start runs over."""
    names = {*FIXED, *FIXED_OPTIONAL}
    content = spec.model_dump(mode="json", by_alias=True, include=names, exclude_defaults=True)
    content["everySteps"] = spec.validation.every_steps
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def has_trained(run: FineTuneRun) -> bool:
    """Whether a training was started."""
    kinds = tuple(step for step, facts in FACTS.items() if facts.has_checkpoints)
    return any(step.attempts and step.name.startswith(kinds) for step in run.status.steps)


def restarted(run: FineTuneRun) -> Decision | None:
    """Forgets what the steps made of an earlier spec, and stops those that run; the next reconcile
    starts them anew. None if there is no such edit.

    An edit may come in while the first encoding is being started: that is stopped too. The numbers
    of attempts stay, since the names of their Jobs are taken.
    """
    wanted = digest(run.spec)
    if run.status.spec_sha256 in (None, wanted) or has_trained(run):
        return None
    text = "the spec was edited before a GPU had worked for the run, which starts over"
    steps = [
        StepStatus(name=step.name, state="Waiting", attempts=step.attempts)
        for step in run.status.steps
    ]
    run = report.halted(run, display="")
    run = run.with_status(steps=steps, effective=None, spec_sha256=wanted)
    event = Event(type="Normal", reason="StepStarting", action="RestartRun", message=text)
    return Decision(deletes=orphans(run), status=run.dump(), events=(event,), requeue_after=0.0)
