"""The run over again, with a spec that was edited before a candidate was at work."""

from __future__ import annotations

from wan_operator.api.v1alpha1.evaluation import WanEvaluationSpec
from wan_operator.api.v1alpha1.evaluation_rules import FIXED, MOVABLE
from wan_operator.reconcile.decision import Decision
from wan_operator.reconcile.evaluation.plan import EvaluationRun
from wan_operator.reconcile.runs.restart import hashed, started_over
from wan_runtime.contract.steps import FACTS

BEFORE = tuple(step for step, facts in FACTS.items() if facts.verifies)
"""Steps that may have run when an edit of the fixed fields still starts the run over."""


LATE = frozenset({"legacy_psnr"})
"""Fixed fields that no step reads before a candidate is at work: an edit needs no start."""


def digest(spec: WanEvaluationSpec) -> str:
    """Hex SHA-256 of the fields that the API server fixes later, and that a step has read."""
    fields = {*FIXED} - LATE
    content = spec.model_dump(mode="json", by_alias=True, include=fields, exclude_defaults=True)
    for field in MOVABLE:
        content.get("ratings", {}).pop(field, None)
    return hashed(content)


def compared(run: EvaluationRun) -> EvaluationRun:
    """The run with the time since which candidates are at work, once they are."""
    if run.status.comparing_since is not None:
        return run
    begun = any(
        step.state != "Waiting" and not step.name.startswith(BEFORE) for step in run.status.steps
    )
    return run.with_status(comparing_since=run.now) if begun else run


def restarted(run: EvaluationRun) -> Decision | None:
    """The run started over. None if there is no such edit."""
    status = run.status
    if status.comparing_since is not None or status.spec_sha256 in (None, digest(run.spec)):
        return None
    text = "the spec was edited before a candidate was at work: the evaluation starts over"
    return started_over(run, text, None)
