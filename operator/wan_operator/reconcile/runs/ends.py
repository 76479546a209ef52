"""Ends: of an attempt, of a step, of the run, and what is left to do after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from wan_operator.api.v1alpha1.common import Artifact, Condition
from wan_operator.api.v1alpha1.runs import LastFailure, StepStatus
from wan_operator.conditions.merge import RECONCILING, STALLED, STATUSES, Wanted
from wan_operator.conditions.runs import COMPLETE, FAILED, RUNNING
from wan_operator.reconcile import stall
from wan_operator.reconcile.bounds import built
from wan_operator.reconcile.decision import Decision, Delete, Event
from wan_operator.reconcile.observed import Raw, is_deleting
from wan_operator.reconcile.runs import failures, report
from wan_operator.reconcile.runs.failures import Outcome, Verdict
from wan_operator.reconcile.runs.losses import (
    cut_short,
    with_checkpoint,
    with_loss,
    without_checkpoint,
)
from wan_operator.reconcile.runs.plan import Plan, Spec, Status
from wan_operator.reconcile.runs.state import Run, closed, orphans, resumed
from wan_operator.reconcile.runs.watch import watch
from wan_runtime.contract.job import ExitClass

STATUS_OF = {text: status for status, text in STATUSES.items()}
"""Status of a condition -> that of what it should say."""


def record(
    run: Run[Spec, Status], step: StepStatus, outcome: Outcome, was_stopped: bool
) -> Decision:
    """Writes down how the attempt ended; the next reconcile acts on it.

    `was_stopped`: by us, for a suspension. What we stopped and could not save costs no retry.
    """
    run = with_checkpoint(run, step, outcome.result.checkpoint if outcome.result else None)
    run = with_loss(report.halted(run), run.step(step.name), outcome)
    step = run.step(step.name).model_copy(update={"running_since": None})
    if outcome.exit_class is ExitClass.DONE:
        return step_done(run, step, outcome)
    if was_stopped and outcome.exit_class in (ExitClass.STOPPED, ExitClass.INFRASTRUCTURE):
        return release(run, step)
    match failures.verdict(outcome, step, run.spec.retries, run.is_before_gpus):
        case Verdict.RESTART:
            return restart(run, step, outcome)
        case Verdict.RETRY:
            return retry(run, step, outcome)
        case Verdict.WAIT:
            return wait(run, step, outcome)
        case Verdict.FAIL:
            spent, allowed = failures.budget(outcome, step, run.spec.retries)
            used_up = f"; all {allowed} retries are used up" if allowed and spent >= allowed else ""
            run = run.with_status(last_failure=last_failure(run, step, outcome))
            return give_up(run, step, outcome.reason, outcome.message + used_up)


def step_done(run: Run[Spec, Status], step: StepStatus, outcome: Outcome) -> Decision:
    assert outcome.result is not None, "an exit code of 0 alone is no success"
    result, manifest = outcome.result, outcome.result.manifest
    artifact = Artifact(uri=manifest.uri, sha256=manifest.sha256) if manifest else None
    done = step.model_copy(
        update={
            "state": "Complete",
            "completion_time": run.now,
            "reason": "",
            "message": "",
            "artifact": artifact,
            "summary": report.summary(result.summary),
        }
    )
    run = without_checkpoint(run, done)
    run = run.plan.finished(run, step.name, result)
    event = Event(
        type="Normal",
        reason="Completed",
        action="FinishStep",
        message=f"{step.name} is done" + (f": {outcome.message}" if outcome.message else ""),
    )
    if all(run.is_over(each) for each in run.status.steps):
        ended = complete(run)
        return replace(ended, events=(event, *ended.events))
    return replace(watch(run), events=(event,), requeue_after=0.0)


def restart(run: Run[Spec, Status], step: StepStatus, outcome: Outcome) -> Decision:
    """Starts the step again without using a retry: at once, unless the attempt ended as soon as it
    began, since a pod that is stopped again and again must not spin."""
    base = run.settings.retry_base_seconds
    pause = timedelta(seconds=0 if outcome.seconds >= base else base)
    text = f"{step.name} was stopped and {goes_on(run, step)}: {outcome.message}"
    due = round_up(run.now + pause)
    run = run.with_step(closed(step, due, reason=outcome.reason, message=text))
    event = Event(type="Normal", reason=outcome.reason, action="RestartStep", message=text)
    decision = watch(run)
    delay = decision.requeue_after if pause else 0.0
    return replace(decision, events=(event,), requeue_after=delay)


def goes_on(run: Run[Spec, Status], step: StepStatus) -> str:
    saves = run.planned(step.name).has_checkpoints
    return "goes on from its last checkpoint" if saves else "starts again"


def release(run: Run[Spec, Status], step: StepStatus) -> Decision:
    """The attempt that a suspension stopped is over; its Job may be gone by now. The next reconcile
    holds or resumes."""
    run = run.with_step(closed(step))
    text = f"{step.name} has stopped; once resumed it {goes_on(run, step)}"
    run = report.with_conditions(run, Wanted(RECONCILING, True, "Suspending", text))
    return Decision(status=run.dump(), requeue_after=0.0)


def retry(run: Run[Spec, Status], step: StepStatus, outcome: Outcome) -> Decision:
    spent, allowed = failures.budget(outcome, step, run.spec.retries)
    of_all = "" if allowed is None else f" (retry {spent + 1} of {allowed})"
    field = (
        "out_of_memory_retries"
        if outcome.exit_class is ExitClass.OUT_OF_MEMORY
        else "infrastructure_retries"
    )
    base = run.settings.retry_base_seconds
    delay = failures.retry_delay(run.owner.uid, step.attempts, spent + 1, base)
    due = round_up(run.now + delay)
    text = (
        f"{step.name} failed: {outcome.message or outcome.reason}. "
        f"Attempt {step.attempts + 1}{of_all} starts at {due:%Y-%m-%dT%H:%M:%SZ}"
    )
    spending = {field: spent + 1}
    run = run.with_step(closed(step, due, reason=outcome.reason, message=text, **spending))
    run = run.with_status(last_failure=last_failure(run, step, outcome))
    event = Event(type="Warning", reason=outcome.reason, action="RetryStep", message=text)
    return replace(watch(run), events=(event,))


def wait(run: Run[Spec, Status], step: StepStatus, outcome: Outcome) -> Decision:
    """Has the input that somebody must mend checked again later, at no cost in retries. An Event
    says it once."""
    base = run.settings.retry_base_seconds
    delay = failures.check_delay(run.owner.uid, step.attempts, base, outcome.seconds)
    due = round_up(run.now + delay)
    text = (
        f"{step.name} failed: {outcome.message or outcome.reason}. It is checked again at "
        f"{due:%Y-%m-%dT%H:%M:%SZ}, and at once after an edit"
    )
    known = step.reason == outcome.reason and outcome.message in step.message
    run = run.with_step(closed(step, due, reason=outcome.reason, message=text))
    run = run.with_status(last_failure=last_failure(run, step, outcome))
    if not run.running:
        run = report.halted(run, display="")
    event = Event(type="Warning", reason=outcome.reason, action="WaitForInput", message=text)
    return replace(watch(run), events=() if known else (event,))


def round_up(time: datetime) -> datetime:
    whole = time.replace(microsecond=0)
    return whole if whole == time else whole + timedelta(seconds=1)


def last_failure(run: Run[Spec, Status], step: StepStatus, outcome: Outcome) -> LastFailure:
    return built(
        LastFailure,
        step=step.name,
        attempt=step.attempts,
        exit_code=outcome.exit_code,
        reason=outcome.reason,
        message=outcome.message,
        pod=outcome.pod,
        node=outcome.node,
        time=run.now,
    )


def fail(run: Run[Spec, Status], step: StepStatus, reason: str, message: str) -> Decision:
    """The end without a result. What runs or would be tried again is stopped and keeps what it has
    committed."""
    text = message or reason
    over = {"completion_time": run.now, "next_attempt_time": None}
    others = [
        each
        for each in run.status.steps
        if each.name != step.name and (each.state == "Running" or each.next_attempt_time)
    ]
    run = resumed(report.halted(run)).with_status(completion_time=run.now)
    run = cut_short(run.with_step(step), step)
    run = run.with_step(run.step(step.name).model_copy(update={"state": "Failed", **over}))
    for each in others:
        run = cut_short(run, each)
        stopped = {"state": "Stopped", "message": "", **over}
        run = run.with_step(run.step(each.name).model_copy(update=stopped))
    message = f"{step.name} failed: {text}" if reason != "DeadlineExceeded" else text
    if others and reason != "DeadlineExceeded":
        names = report.joined(each.name for each in others)
        message += f"; {names} {'was' if len(others) == 1 else 'were'} stopped"
    run = report.with_conditions(
        run,
        Wanted(FAILED, True, reason, message),
        Wanted(STALLED, True, reason, message),
    )
    event = Event(type="Warning", reason=reason, action="FailRun", message=message)
    return Decision(
        deletes=orphans(run),
        status=run.dump(),
        events=(event,),
        requeue_after=ttl_seconds(run),
    )


def give_up(run: Run[Spec, Status], step: StepStatus, reason: str, message: str) -> Decision:
    """Goes on without a step that has failed for good and those that need it, if the run can; else
    ends it."""
    over = {"completion_time": run.now, "next_attempt_time": None}
    text, lost = message or reason, {step.name}
    after = run.with_step(step.model_copy(update={"state": "Failed", **over}))
    after = after.with_step(
        after.step(step.name).model_copy(update={"reason": reason, "message": text})
    )
    for planned in run.planned_steps:
        if planned.may_fail and lost.intersection(planned.needs):
            lost.add(planned.id)
            why = {"reason": reason, "message": f"{step.name} failed: {text}"}
            stopped = after.step(planned.id).model_copy(update={"state": "Stopped", **over, **why})
            after = after.with_step(built(StepStatus, **stopped.model_dump()))
    if not run.planned(step.name).may_fail or is_hopeless(after):
        return fail(run, step, reason, message)
    text = f"{step.name} failed: {text}; the run goes on without it"
    event = Event(type="Warning", reason=reason, action="GiveUpStep", message=text)
    return replace(watch(after), events=(event,), requeue_after=0.0)


def is_hopeless(run: Run[Spec, Status]) -> bool:
    """Whether a step has lost all those of its inputs that it can do without one by one."""
    over = {step.name for step in run.status.steps if step.state in ("Failed", "Stopped")}
    inputs = (
        [each for each in planned.needs if run.planned(each).may_fail]
        for planned in run.planned_steps
        if not planned.may_fail
    )
    return any(each and over.issuperset(each) for each in inputs)


def complete(run: Run[Spec, Status]) -> Decision:
    text = run.plan.outcome(run)
    run = resumed(report.halted(run, display="done")).with_status(completion_time=run.now)
    run = report.with_conditions(run, Wanted(COMPLETE, True, "Completed", text))
    event = Event(type="Normal", reason="Completed", action="FinishRun", message=text)
    return Decision(
        deletes=orphans(run), status=run.dump(), events=(event,), requeue_after=ttl_seconds(run)
    )


def after_end(run: Run[Spec, Status]) -> Decision:
    """What is left to do after the end, which is final: an edit changes observedGeneration and the
    TTL, nothing else."""
    left = ttl_seconds(run)
    if left is None or left > 0:
        return Decision(deletes=orphans(run), status=run.dump(), requeue_after=left)
    return Decision(deletes=everything(run), status=run.dump())


def ttl_seconds(run: Run[Spec, Status]) -> float | None:
    """Seconds until the children are to be removed; None if they stay."""
    ttl, ended = run.spec.ttl_seconds_after_finished, run.status.completion_time
    if ttl is None or ended is None:
        return None
    return max(0.0, (ended + timedelta(seconds=ttl) - run.now).total_seconds())


def everything(run: Run[Spec, Status]) -> tuple[Delete, ...]:
    jobs = (
        Delete.of(item, "Job", "Background") for item in run.observed.jobs if not is_deleting(item)
    )
    files = (Delete.of(item, "ConfigMap", "Background") for item in run.observed.config_maps)
    return (*jobs, *files)


def has_ended(cr: Raw) -> bool:
    """Complete or Failed, for good."""
    listed = cr.get("status", {}).get("conditions", [])
    ends = (COMPLETE, FAILED)
    return any(each["type"] in ends and each["status"] == "True" for each in listed)


def needs_reconcile(cr: Raw) -> bool:
    """Whether there can be anything to do: false for ended runs without a TTL, which are most of a
    year's worth."""
    status = cr.get("status", {})
    seen = {each.get("observedGeneration") for each in (status, *status.get("conditions", []))}
    current = seen == {cr["metadata"]["generation"]}
    return not (has_ended(cr) and current and "ttlSecondsAfterFinished" not in cr["spec"])


def stalled(
    plan: Plan[Spec, Status], cr: Raw, reason: str, message: str, now: datetime
) -> Decision:
    """The decision for a resource that cannot be acted on until somebody changes something. An end
    stands, and what lasts of its own conditions."""
    if has_ended(cr):
        seen = {"observedGeneration": cr["metadata"]["generation"]}
        conditions = [each | seen for each in cr["status"]["conditions"]]
        return Decision(status=cr["status"] | seen | {"conditions": conditions})

    def wanted(previous: Sequence[Condition]) -> list[Wanted]:
        kept = [
            Wanted(old.type, STATUS_OF[old.status], old.reason, old.message)
            for old in previous
            if old.type in plan.lasting
        ]
        return [
            Wanted(STALLED, True, reason, message),
            Wanted(RUNNING, False, reason, message),
            *kept,
        ]

    status = cr.get("status", {})
    if isinstance(progress := status.get("progress"), dict):
        # The columns of kubectl get are of what runs, or of how far a run came that has ended.
        progress = progress | {"activity": "", "display": "", "eta": ""}
        cr = {**cr, "status": status | {"progress": progress}}
    return stall.stalled(
        cr, reason, message, now, wanted=wanted, vocabulary=plan.vocabulary, status=plan.status
    )
