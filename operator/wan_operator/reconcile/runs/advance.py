"""The next decision on a run: (run as observed) -> decision. Pure and level-based.

A decision either records how an attempt ended or acts on what is recorded, never both: a result is
in the status before anything builds on it, so that a crash between any two calls repeats a part of
the decision and loses none.

A step is `Waiting` while all its attempts are closed, and `Running` while attempt number `attempts`
is open. Steps that wait for no other step run side by side; each has its own attempts and retries.
The first that fails for good ends the run, unless the run can go on without it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from wan_operator.api.v1alpha1.runs import StepStatus
from wan_operator.conditions.merge import RECONCILING, Wanted, is_true
from wan_operator.conditions.runs import SUSPENDED
from wan_operator.reconcile.decision import Decision, Delete, Event
from wan_operator.reconcile.observed import Refusal, is_deleting, step_of
from wan_operator.reconcile.runs import failures, report
from wan_operator.reconcile.runs.attempted import Attempted
from wan_operator.reconcile.runs.ends import complete, fail, record, stalled
from wan_operator.reconcile.runs.failures import Outcome
from wan_operator.reconcile.runs.mend import hastened, replaced
from wan_operator.reconcile.runs.pending import POLL_SECONDS
from wan_operator.reconcile.runs.plan import PlannedStep, Spec, Status
from wan_operator.reconcile.runs.state import (
    Run,
    adopted,
    closed,
    deadline,
    open_attempt,
    opened,
    orphans,
    outdated,
    resumed,
)
from wan_operator.reconcile.runs.watch import watch
from wan_operator.resources.labels import Manifest, job_name
from wan_runtime.contract.reasons import Reason

STRANGER_POLL_SECONDS = 2.0
REFUSED_SECONDS = 10.0
"""Interval after which a Job that the API server refused is tried again, as `RETRY_SECONDS` has it
for pods; each try is a write of the status too."""


def advance(run: Run[Spec, Status]) -> Decision:
    """Records an end, else stops what must not run, else replaces what has not begun and is wanted
    otherwise, else starts what is due, else says what the run waits for."""
    if all(run.is_over(step) for step in run.status.steps):
        return complete(run)
    run = adopted(run)
    # An attempt that we have stopped is no failure, even if spec.suspend is false again meanwhile.
    held = run.spec.suspend or (run.status.suspended_since is not None and bool(run.running))
    ended = first_end(run)
    if ended is not None:
        return record(run, *ended, was_stopped=held)
    limit = deadline(run)
    if limit is not None and run.now >= limit:
        return exceed(run)
    if held:
        return suspend(run)
    run = hastened(resumed(run))
    anew = replaced(run)
    if anew is not None:
        return anew
    due = [planned for planned in run.ready if is_due(run, planned)]
    return start(run, due) if due else watch(run)


def first_end(run: Run[Spec, Status]) -> tuple[StepStatus, Outcome] | None:
    """An attempt that has ended. What ends the run comes last: before it, the others have said what
    they committed."""
    ends = []
    for step in run.running:
        current = open_attempt(run, step)
        outcome = failures.outcome_of(current, run.planned(step.name))
        if outcome is not None and not has_cause_to_come(run, current, outcome):
            said = run.plan.words(run, outcome.message)
            ends.append((step, replace(outcome, message=said)))
    return min(
        ends,
        key=lambda end: failures.is_fatal(end[1], end[0], run.spec.retries, run.is_before_gpus),
        default=None,
    )


def has_cause_to_come(run: Run[Spec, Status], current: Attempted | None, outcome: Outcome) -> bool:
    """Whether a rank says that it lost another, and no other end is known yet: the kubelet of the
    one that died may be slower to say so. The next attempt waits for the end of all anyway."""
    if current is None or outcome.reason != Reason.RANK_LOST:
        return False
    return current.is_stopping(run.now)


def exceed(run: Run[Spec, Status]) -> Decision:
    late = [step.name for step in run.running] or [planned.id for planned in run.ready]
    verb = "was" if len(late) == 1 else "were"
    limit = run.spec.active_deadline_seconds
    text = f"{report.joined(late)} {verb} not done within spec.activeDeadlineSeconds, {limit} s"
    return fail(run, run.step(late[0]), "DeadlineExceeded", text)


def is_due(run: Run[Spec, Status], planned: PlannedStep) -> bool:
    due = run.step(planned.id).next_attempt_time
    return due is None or due <= run.now


def start(run: Run[Spec, Status], due: list[PlannedStep]) -> Decision:
    """Opens the next attempt of each, unless something of its name has to go first, or the API
    server has just refused it."""
    refused = [planned.id for planned in due if planned.id in run.observed.refused]
    if refused and not run.running and len(refused) == len(run.ready):
        return held_up(run, refused[0])
    events = []
    for name in refused:
        run, event = put_off(run, run.step(name), run.observed.refused[name])
        events += event
    due = [planned for planned in due if planned.id not in refused]
    wanted: list[Manifest] = []
    removed: list[Delete] = []
    texts, obstacles = [], []
    for planned in due:
        step = run.step(planned.id)
        number = step.attempts + 1
        made = (*run.plan.files(run, step.name), run.plan.job(run, step.name, number))
        in_the_way = obstacle(run, made, step)
        if in_the_way:
            obstacles.append(in_the_way)
            continue
        if not run.lacks_input(step):
            texts.append(f"Job {job_name(run.owner, step.name, number)} is making its pod")
        wanted += (*run.plan.services(run, step.name), *made)
        removed += outdated(run, step, number)
        run = run.with_step(opened(run, step, number))
        run = run.with_status(start_time=run.status.start_time or run.now)
    news = (Wanted(RECONCILING, True, "StepStarting", text) for text in (*texts, *obstacles))
    decision = watch(run, *news)
    delay = decision.requeue_after or 0.0
    return replace(
        decision,
        children=(*decision.children, *wanted),
        deletes=(*decision.deletes, *removed),
        events=(
            *events,
            *(
                Event(type="Normal", reason="StepStarting", action="StartStep", message=text)
                for text in texts
            ),
        ),
        requeue_after=min(delay, STRANGER_POLL_SECONDS) if obstacles else delay,
    )


def put_off(
    run: Run[Spec, Status], step: StepStatus, refusal: Refusal
) -> tuple[Run[Spec, Status], list[Event]]:
    """The run with a step that is started again later, and the Event for it the first time."""
    text = f"{step.name} is refused by the API server and will be tried again: {refusal.message}"
    event = Event(type="Warning", reason=refusal.reason, action="StartStep", message=text)
    news = [] if step.reason == refusal.reason else [event]
    due = run.now + timedelta(seconds=REFUSED_SECONDS)
    return run.with_step(closed(step, due, reason=refusal.reason, message=text)), news


def held_up(run: Run[Spec, Status], id: str) -> Decision:
    """Stalls the run: nothing goes on, and nothing will until somebody acts."""
    refusal = run.observed.refused[id]
    metadata = {"namespace": run.owner.namespace, "generation": run.generation}
    cr = {"metadata": metadata, "status": run.dump()}
    decision = stalled(run.plan, cr, refusal.reason, refusal.message, run.now)
    return replace(decision, deletes=orphans(run), requeue_after=REFUSED_SECONDS)


def suspend(run: Run[Spec, Status]) -> Decision:
    """Stops the open attempts, whose pods save what they can; then holds."""
    first = run.status.suspended_since is None
    run = run.with_status(suspended_since=run.status.suspended_since or run.now)
    texts, stops = [], []
    for step in run.running:
        current = open_attempt(run, step)
        if current is None:
            continue
        texts.append(stopping(run, step, current))
        if not is_deleting(current.job):
            stops.append(Delete.of(current.job, "Job", "Foreground"))
    if texts:
        text = "; ".join(texts)
        run = report.with_conditions(run, Wanted(RECONCILING, True, "Suspending", text))
        event = Event(type="Normal", reason="Suspending", action="StopStep", message=text)
        return Decision(
            deletes=(*stops, *orphans(run)),
            status=run.dump(),
            events=(event,) if first else (),
            requeue_after=POLL_SECONDS,
        )
    names = report.joined(planned.id for planned in run.ready)
    text = f"held before {names}; set spec.suspend to false to go on"
    news = Wanted(SUSPENDED, True, "SuspendedByUser", text)
    is_news = not is_true(run.status.conditions, SUSPENDED)
    run = report.with_conditions(report.halted(run, display=""), news)
    event = Event(type="Normal", reason="SuspendedByUser", action="Suspend", message=text)
    return Decision(deletes=orphans(run), status=run.dump(), events=(event,) if is_news else ())


def stopping(run: Run[Spec, Status], step: StepStatus, current: Attempted) -> str:
    saves = current.is_running and run.planned(step.name).has_checkpoints
    saving = " and is saving a checkpoint" if saves else ""
    return f"Job {current.name} is stopping{saving}"


def obstacle(run: Run[Spec, Status], wanted: tuple[Manifest, ...], step: StepStatus) -> str:
    """What has to go first, in words; empty if nothing does."""
    names = {item["metadata"]["name"] for item in wanted}
    for item in run.strangers:
        name = item["metadata"]["name"]
        if name in names:
            return f"waits until {name} of an earlier {run.owner.kind} of this name is removed"
    for item in run.observed.jobs:
        attempted = Attempted.read(item, run.observed.pods)
        if step_of(item) == step.name and attempted.is_stopping(run.now):
            return f"waits until Job {item['metadata']['name']} has stopped"
    return ""
