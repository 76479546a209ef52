"""Decisions on a WanFineTune: (resource, observed children) -> decision. Pure and level-based."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from wan_operator.api.v1alpha1.finetune import (
    KIND,
    LABEL,
    NAME_LIMIT,
    WanFineTuneSpec,
    WanFineTuneStatus,
)
from wan_operator.conditions.merge import is_true
from wan_operator.conditions.runs import FAILED
from wan_operator.reconcile.decision import Decision
from wan_operator.reconcile.finetune import fit, left
from wan_operator.reconcile.finetune.plan import FineTuneRun, has_begun, has_exported, resolve
from wan_operator.reconcile.finetune.restart import digest, restarted
from wan_operator.reconcile.finetune.run import FineTunePlan
from wan_operator.reconcile.observed import Observed, Raw, condition, is_ours
from wan_operator.reconcile.runs import ends, state
from wan_operator.reconcile.runs.advance import advance
from wan_operator.reconcile.runs.ends import after_end, has_ended
from wan_operator.reconcile.runs.state import merged_steps
from wan_operator.reconcile.stall import unreadable
from wan_operator.reconcile.store import StoreNotConfiguredError
from wan_operator.resources.labels import QUEUE_NAME, Manifest, Owner
from wan_operator.settings import Settings

PLAN = FineTunePlan()


def reconcile(cr: Raw, observed: Observed, settings: Settings, now: datetime) -> Decision:
    """The next decision on `cr`. Taken again without a change in between, it changes nothing."""
    if not is_ours(cr):
        return Decision()
    try:
        run = read(cr, observed, settings, now)
    except ValidationError as error:
        return stalled(cr, "SpecInvalid", unreadable(error), now)
    if has_ended(cr):
        return cleared(run, after_end(run))
    if len(run.owner.name) > NAME_LIMIT:
        text = f"metadata.name is longer than {NAME_LIMIT} characters: Jobs append to it"
        return stalled(cr, "SpecInvalid", text, now)
    edited = restarted(run)
    if edited is not None:
        return edited
    try:
        before = run.status.effective if has_begun(run) else None
        effective = resolve(run.owner, run.spec, settings, before, has_exported(run))
    except StoreNotConfiguredError as error:
        return stalled(cr, "StoreNotConfigured", str(error), now)
    known, steps = run.status.steps, merged_steps(run)
    refused_edit = fit.refused_edit(cr, run)
    if refused_edit is None:
        effective = fit.planned(run, effective, steps)
    else:  # what runs is left to run
        effective = fit.as_begun(run, effective)
    run = run.with_status(effective=effective, steps=steps)
    if run.status.spec_sha256 is None:
        run = run.with_status(spec_sha256=digest(run.spec))
    held = bool(run.running) or run.spec.suspend
    refusal = fit.refusal(cr, run) if refused_edit is None or held else refused_edit
    if refusal is not None:
        return stalled({**cr, "status": run.dump()}, "DoesNotFit", refusal, now)
    too_long = fit.long_warm_up(run)
    if too_long is not None:
        return stalled({**cr, "status": run.dump()}, "WarmUpTooLong", too_long, now)
    if known and not {step.name for step in known}.issuperset(
        each.id for each in run.planned_steps
    ):
        # An edit has added a step. Recorded before it starts, with the number of its last Job.
        return Decision(status=run.dump(), requeue_after=0.0)
    return advance(run)


def cleared(run: FineTuneRun, decision: Decision) -> Decision:
    """The decision after the end; for a failure, with what becomes of its checkpoints."""
    status = run.status
    over, due = status.completion_time, status.checkpoint_deletion_time
    failed = is_true(status.conditions, FAILED) and over is not None
    if not failed or not left.has_checkpoints(status):
        return decision
    assert over is not None
    if due is None or status.observed_generation != run.generation:
        # Counted from now: the failure may be older than this field, and its edit extends it.
        due = left.due_of(run)
    if run.now < due:
        waits = ((due - run.now).total_seconds(), decision.requeue_after)
        soonest = min(each for each in waits if each is not None)
        kept = run.with_status(checkpoint_deletion_time=due).dump()
        return replace(decision, status=kept, requeue_after=soonest)
    job = left.clearing(run, over, due)
    # What is refused is tried again: the status shows the checkpoint until the Job is made.
    after = run if run.observed.refused else left.without_checkpoints(run)
    return replace(decision, children=(*decision.children, job), status=after.dump())


def has_failed_checkpoint(cr: Raw) -> bool:
    """Whether the run has failed and its checkpoints are still kept."""
    status = cr.get("status", {})
    failed = condition(cr, FAILED)
    kept = any("checkpoint" in each for each in (status, *status.get("steps", ())))
    return failed is not None and failed["status"] == "True" and kept


def left_by(cr: Raw, settings: Settings, now: datetime) -> tuple[Manifest, ...]:
    """Jobs for what the run, just deleted, has left. Raises pydantic's ValidationError for a
    resource that another release wrote."""
    return left.left(read(cr, Observed(), settings, now))


def read(cr: Raw, observed: Observed, settings: Settings, now: datetime) -> FineTuneRun:
    """Raises pydantic's ValidationError for a resource that another release wrote."""
    metadata = cr["metadata"]
    owner = Owner.of(KIND, LABEL, cr)
    return state.read(
        observed,
        settings,
        now,
        plan=PLAN,
        owner=owner,
        generation=metadata["generation"],
        queue_name=metadata.get("labels", {}).get(QUEUE_NAME, ""),
        spec=WanFineTuneSpec.model_validate(cr["spec"]),
        status=WanFineTuneStatus.model_validate(cr.get("status", {})),
    )


def stalled(cr: Raw, reason: str, message: str, now: datetime) -> Decision:
    """The decision on a resource that cannot be acted on until somebody changes something."""
    return ends.stalled(PLAN, cr, reason, message, now)
