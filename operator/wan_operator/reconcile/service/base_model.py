"""The base model of a service from S3: imported once, by a run of one step.

status.baseModel keeps what the engine of runs has to know from one reconcile to the next. Its
counters are no limit here: a service has no end, so what may heal is tried again for as long as it
is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from wan_operator.api.v1alpha1.inference import BaseModelStatus, EffectiveService
from wan_operator.api.v1alpha1.runs import (
    LastFailure,
    StepStatus,
)
from wan_operator.conditions.merge import STALLED, is_true
from wan_operator.reconcile.bounds import built
from wan_operator.reconcile.decision import Delete, Event, Resync
from wan_operator.reconcile.observed import Raw, attempt_of, owned_by, step_of
from wan_operator.reconcile.runs import failures, state
from wan_operator.reconcile.runs.advance import advance
from wan_operator.reconcile.runs.attempted import Attempted
from wan_operator.reconcile.service.run import (
    PART,
    ImportPlan,
    ImportRun,
    ImportSpec,
    ImportStatus,
    ImportStep,
)
from wan_operator.reconcile.service.state import Service
from wan_operator.resources.labels import Manifest, config_map_name
from wan_runtime.contract.job import ExitClass

OWN_REASONS = {
    "Completed": "ModelImported",
    "StepStarting": "ImportingModel",
    "StepRunning": "ImportingModel",
}
"""Reason of a run -> what a service calls it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Import:
    service: Service
    """With status.baseModel."""
    children: tuple[Manifest, ...] = ()
    deletes: tuple[Delete, ...] = ()
    resyncs: tuple[Resync, ...] = ()
    events: tuple[Event, ...] = ()
    asks_warnings: bool = False
    asks_workloads: tuple[str, ...] = ()
    reason: str = ""
    """Why there is no model yet; empty once there is, or if none is to be imported."""
    message: str = ""
    final: bool = False
    """Whether somebody has to act."""
    requeue_after: float | None = None


def imported(service: Service, effective: EffectiveService) -> Import:
    """The next decision on the import. status.baseModel.artifact is there once its Job has
    committed it."""
    source = service.spec.model.source
    if source is None or source.s3 is None:
        return Import(service=service.with_status(base_model=None))
    before = service.status.base_model
    if before is None or before.source != source.s3:
        # Jobs for another source are past; their numbers stay taken.
        ours = owned_by(_jobs(service), service.owner.uid)
        taken = max(map(attempt_of, ours), default=0)
        due = service.now if taken else None
        before = BaseModelStatus(source=source.s3, attempts=taken, next_attempt_time=due)
    if before.artifact is not None:
        return Import(service=service)
    decision = advance(_run(service, effective, before))
    after = ImportStatus.model_validate(decision.status)
    step, leading = after.steps[0], after.conditions[0]
    reason, message = _kept(before, after, service.now)
    kept = {
        "artifact": step.artifact,
        "attempts": step.attempts,
        "next_attempt_time": step.next_attempt_time,
        "reason": reason,
        "message": message,
    }
    status = before.model_copy(update=kept)
    is_news = status != service.status.base_model
    if step.state == "Running":
        reason, message = OWN_REASONS.get(leading.reason, leading.reason), leading.message
    return Import(
        service=service.with_status(base_model=status),
        children=decision.children,
        deletes=decision.deletes,
        resyncs=decision.resyncs,
        events=_own(decision.events) if is_news else (),
        asks_warnings=decision.asks_warnings,
        asks_workloads=decision.asks_workloads,
        reason=reason,
        message=message or leading.message,
        final=is_true(after.conditions, STALLED),
        requeue_after=decision.requeue_after,
    )


def _kept(before: BaseModelStatus, after: ImportStatus, now: datetime) -> tuple[str, str]:
    """(reason, message) that status.baseModel keeps: of the last failure, or of the wait for the
    next attempt."""
    step, leading, failure = after.steps[0], after.conditions[0], after.last_failure
    if step.artifact is not None:
        return "", ""
    if step.state == "Failed" and failure is not None:
        return failure.reason, failure.message
    due = step.next_attempt_time
    if step.state == "Waiting" and due is not None and due != before.next_attempt_time:
        if failure is None:
            return step.reason, step.message
        seconds = (due - now).total_seconds()
        return failure.reason, f"{failure.message}; tried again in {seconds:.0f} s"
    if step.state == "Running":
        return step.reason or "ImportingModel", before.message
    if leading.type == STALLED:
        return leading.reason, leading.message
    return before.reason or "ImportingModel", before.message


def _own(events: Iterable[Event]) -> tuple[Event, ...]:
    """Events of the run, as the service's. The end of the step is that of the run."""
    return tuple(
        replace(each, reason=OWN_REASONS.get(each.reason, each.reason))
        for each in events
        if each.action != "FinishStep"
    )


def _run(service: Service, effective: EffectiveService, before: BaseModelStatus) -> ImportRun:
    observed, files = service.observed, config_map_name(service.owner, PART)
    maps = [each for each in observed.config_maps if each["metadata"]["name"] == files]
    refused = [
        refusal
        for unit, refusal in observed.refused.items()
        if unit.startswith("Job/") or unit == f"ConfigMap/{files}"
    ]
    return state.read(
        replace(
            observed,
            children={"Job": _jobs(service), "Pod": observed.pods, "ConfigMap": maps},
            pages={},
            refused={PART: refused[0]} if refused else {},
        ),
        service.settings,
        service.now,
        plan=ImportPlan(service, effective),
        owner=service.owner,
        generation=service.generation,
        queue_name=service.queue_name,
        spec=ImportSpec(),
        status=_status(service, before),
    )


def _jobs(service: Service) -> list[Raw]:
    """Jobs of the import, of all attempts."""
    return [each for each in service.observed.jobs if step_of(each) == PART]


def _status(service: Service, before: BaseModelStatus) -> ImportStatus:
    is_open = bool(before.attempts) and before.next_attempt_time is None
    retries = max(0, before.attempts - 1)
    step = StepStatus(
        name=PART,
        state="Running" if is_open else "Waiting",
        reason=before.reason,
        message=before.message,
        attempts=before.attempts,
        infrastructure_retries=retries,
        out_of_memory_retries=retries,
        next_attempt_time=before.next_attempt_time,
    )
    return ImportStatus(
        observed_generation=service.status.observed_generation,
        steps=[step],
        last_failure=None if is_open else _failure(service, before),
    )


def _failure(service: Service, before: BaseModelStatus) -> LastFailure | None:
    """The end of the attempt that the next one follows, as far as its pod is still there: it names
    the node to avoid."""
    jobs = owned_by(_jobs(service), service.owner.uid)
    last = next((each for each in jobs if attempt_of(each) == before.attempts), None)
    if last is None:
        return None
    outcome = failures.outcome_of(Attempted.read(last, service.observed.pods), ImportStep())
    if outcome is None or outcome.exit_class is ExitClass.DONE:
        return None
    return built(
        LastFailure,
        step=PART,
        attempt=before.attempts,
        reason=outcome.reason,
        message=outcome.message,
        node=outcome.node,
        time=service.now,
    )
