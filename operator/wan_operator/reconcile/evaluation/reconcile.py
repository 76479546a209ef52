"""Decisions on a WanEvaluation: (resource, observed children) -> decision. Pure and level-based."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from wan_operator.api.v1alpha1.evaluation import (
    KIND,
    LABEL,
    NAME_LIMIT,
    WanEvaluationSpec,
    WanEvaluationStatus,
)
from wan_operator.conditions.merge import RECONCILING, STALLED, Wanted, is_true
from wan_operator.conditions.runs import SUSPENDED
from wan_operator.reconcile.decision import Decision, Event
from wan_operator.reconcile.evaluation import fit, page
from wan_operator.reconcile.evaluation.finetunes import Missing
from wan_operator.reconcile.evaluation.plan import EvaluationRun
from wan_operator.reconcile.evaluation.resolve import refreshed, resolved
from wan_operator.reconcile.evaluation.restart import compared, digest, restarted
from wan_operator.reconcile.evaluation.run import EvaluationPlan
from wan_operator.reconcile.observed import Observed, Raw, is_ours
from wan_operator.reconcile.runs import ends, report, state
from wan_operator.reconcile.runs.advance import advance
from wan_operator.reconcile.runs.ends import after_end, has_ended
from wan_operator.reconcile.runs.state import merged_steps
from wan_operator.reconcile.stall import unreadable
from wan_operator.reconcile.store import StoreNotConfiguredError
from wan_operator.resources.labels import QUEUE_NAME, Owner
from wan_operator.settings import Settings

NEEDS_SOMEBODY = frozenset({"FineTuneNotFound", "FineTuneFailed", "FineTuneUnsuitable"})


def reconcile(cr: Raw, observed: Observed, settings: Settings, now: datetime) -> Decision:
    """The next decision on `cr`. Taken again without a change in between, it changes nothing."""
    if not is_ours(cr):
        return Decision()
    try:
        run = read(cr, observed, settings, now)
    except ValidationError as error:
        return stalled(cr, "SpecInvalid", unreadable(error), now)
    if has_ended(cr):
        run = page.with_page(run)
        return with_page_of(run, after_end(run))
    if len(run.owner.name) > NAME_LIMIT:
        text = f"metadata.name is longer than {NAME_LIMIT} characters: Jobs append to it"
        return stalled(cr, "SpecInvalid", text, now)
    over = restarted(run)
    if over is not None:
        return over
    before = run.status.effective
    try:
        if before is None:
            return begin(cr, run)
        effective = refreshed(before, run.spec, settings)
    except StoreNotConfiguredError as error:
        if before is None:
            return stalled(cr, "StoreNotConfigured", str(error), now)
        effective = before
    run = run.with_status(effective=effective, steps=merged_steps(run))
    run = compared(page.with_page(run))
    return with_page_of(run, advance(run))


def with_page_of(run: EvaluationRun, decision: Decision) -> Decision:
    """The decision, and what the page for raters needs, or leaves."""
    return replace(
        decision,
        children=(*decision.children, *page.wanted(run)),
        deletes=(*decision.deletes, *page.unwanted(run)),
    )


def begin(cr: Raw, run: EvaluationRun) -> Decision:
    """Waits for the fine-tunes. Once they are there, writes down what is compared before anything
    starts. Raises StoreNotConfiguredError."""
    found = resolved(run)
    if isinstance(found, list):
        return wait(run, found)
    refusal = fit.refusal(cr, run.spec, found, run.settings)
    if refusal is not None:
        return stalled(cr, "DoesNotFit", refusal, run.now)
    if run.spec.suspend:
        text = "held before it begins; set spec.suspend to false to go on"
        return _waiting(run, [Wanted(SUSPENDED, True, "SuspendedByUser", text)])
    effective = fit.planned(run.spec, found, run.settings)
    run = run.with_status(effective=effective, spec_sha256=digest(run.spec))
    news = Wanted(RECONCILING, True, "StepStarting", "all that is compared is there")
    return Decision(status=report.with_conditions(run, news).dump(), requeue_after=0.0)


def wait(run: EvaluationRun, missing: list[Missing]) -> Decision:
    """Says which fine-tunes are waited for. Stalled, if one will not come by itself."""
    ordered = sorted(missing, key=lambda each: each.reason not in NEEDS_SOMEBODY)
    type_ = STALLED if ordered[0].reason in NEEDS_SOMEBODY else RECONCILING
    said = {each.message: Wanted(type_, True, each.reason, each.message) for each in ordered}
    return _waiting(run, list(said.values()))


def _waiting(run: EvaluationRun, news: list[Wanted]) -> Decision:
    """It has not begun: an event of what it waits for, or an edit, asks for the next decision."""
    first = news[0]
    known = is_true(run.status.conditions, first.type) and any(
        each.reason == first.reason for each in run.status.conditions
    )
    run = report.with_conditions(run, *news)
    text = run.status.conditions[0].message
    is_fault = first.type == STALLED
    event = Event(
        type="Warning" if is_fault else "Normal",
        reason=first.reason,
        action="Stall" if is_fault else "Wait",
        message=text,
    )
    return Decision(status=run.dump(), events=() if known else (event,))


def read(cr: Raw, observed: Observed, settings: Settings, now: datetime) -> EvaluationRun:
    """Raises pydantic's ValidationError for a resource that another release wrote."""
    metadata = cr["metadata"]
    owner = Owner.of(KIND, LABEL, cr)
    spec = WanEvaluationSpec.model_validate(cr["spec"])
    status = WanEvaluationStatus.model_validate(cr.get("status", {}))
    effective = status.effective
    return state.read(
        observed,
        settings,
        now,
        plan=EvaluationPlan.of(spec, () if effective is None else effective.candidates),
        owner=owner,
        generation=metadata["generation"],
        queue_name=metadata.get("labels", {}).get(QUEUE_NAME, ""),
        spec=spec,
        status=status,
    )


def stalled(cr: Raw, reason: str, message: str, now: datetime) -> Decision:
    """The decision on a resource that cannot be acted on until somebody changes something."""
    return ends.stalled(EvaluationPlan(), cr, reason, message, now)
