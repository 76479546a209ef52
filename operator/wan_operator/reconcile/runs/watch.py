"""The state of a run that waits: why or how its open attempts go on, and when the next begin."""

from __future__ import annotations

from dataclasses import replace

from wan_operator.api.v1alpha1.runs import StepStatus
from wan_operator.conditions.merge import RECONCILING, STALLED, Wanted
from wan_operator.conditions.runs import RUNNING
from wan_operator.reconcile.decision import Decision, Resync
from wan_operator.reconcile.observed import created
from wan_operator.reconcile.runs import failures, pending, report
from wan_operator.reconcile.runs.attempted import Attempted
from wan_operator.reconcile.runs.losses import cut_short, with_checkpoint
from wan_operator.reconcile.runs.plan import Spec, Status
from wan_operator.reconcile.runs.state import Run, deadline, open_attempt, orphans
from wan_operator.reconcile.waiting import Waiting
from wan_operator.resources.labels import Manifest
from wan_runtime.contract.reasons import Reason

FIRST_POLL_SECONDS = 2.0
"""Interval until a pod that has just started answers with its progress."""
YOUNG_SECONDS = 30.0
WAITED_FOR = {
    Reason.STORE_UNREACHABLE.value: ("store", "its endpoint in spec.store or the Helm values"),
    Reason.SERVICE_UNREACHABLE.value: ("service", "its name in candidates[].serviceRef"),
}
"""Reason -> what a step waits for, and where its address is given."""


def watch(run: Run[Spec, Status], *starting: Wanted) -> Decision:
    """Changes nothing but the status, and puts back a job file that is lost. `starting`: news of
    attempts that are not observed yet."""
    news, delays = list(starting), [pending.POLL_SECONDS] * bool(starting)
    files: list[Manifest] = []
    resyncs: list[Resync | None] = []
    computing: list[str] = []
    held: list[Waiting] = []
    goes_on = bool(starting)
    asks_warnings = False
    queued: list[str] = []
    for step in run.running:
        current = open_attempt(run, step)
        checked = waiting_input(run, step, current)
        if checked is not None:
            held.append(checked)
            news.append(Wanted(RECONCILING, True, checked.reason, checked.message))
        if current is None:
            delays += [pending.POLL_SECONDS] * (checked is not None)
            continue
        waiting = pending.waiting_of(current, run.observed, run.now)
        if waiting is None:
            computing.append(step.name)
            run = seen(run, step, current)
            news.append(Wanted(RUNNING, True, "StepRunning", where(run, step, current)))
            delays.append(progress_interval(run, current))
            goes_on |= checked is None
        else:
            run = interrupted(run, step, current)
            if checked is None:
                held.append(waiting)
                news.append(Wanted(RECONCILING, True, waiting.reason, waiting.message))
            delays.append(pending.poll_seconds(current, waiting, run.now))
            resyncs.append(pending.resync_of(current, waiting, run.now))
            if pending.asks_workload(current, run.observed):
                queued.append(current.job["metadata"]["uid"])
            asks_warnings |= pending.asks_warnings(current, waiting, run.observed, run.now)
        files += lost_files(run, step)
        refusal = run.observed.refused.get(step.name)
        if refusal is not None:
            news.append(Wanted(RECONCILING, True, refusal.reason, refusal.message))
            goes_on = True
    for planned in run.ready:
        step = run.step(planned.id)
        due = step.next_attempt_time
        if due is not None and due > run.now:
            text = step.message or f"{step.name} starts again at {due:%Y-%m-%dT%H:%M:%SZ}"
            reason = step.reason or "StepStarting"
            held.append(Waiting(reason, text, final=run.lacks_input(step)))
            news.append(Wanted(RECONCILING, True, reason, text))
            delays.append((due - run.now).total_seconds())
    if held and not goes_on and all(each.final for each in held):
        news = [replace(each, type=STALLED) if each.type == RECONCILING else each for each in news]
    if not news:
        # Running without a Job: it is gone, and the next reconcile records that.
        names = [planned.id for planned in run.ready] or [step.name for step in run.running]
        text = f"{report.joined(names)} {'is' if len(names) == 1 else 'are'} next"
        news.append(Wanted(RECONCILING, True, "StepStarting", text))
        delays.append(0.0)
    run = report.progressed(run, computing)
    news = [unanswered(run, each) if each.type == RUNNING else each for each in news]
    run = report.with_conditions(run, *news)
    return Decision(
        children=tuple(files),
        deletes=orphans(run),
        resyncs=tuple(each for each in resyncs if each is not None),
        status=run.dump(),
        asks_warnings=asks_warnings,
        asks_workloads=tuple(queued),
        requeue_after=until(run, min(delays)),
    )


def waiting_input(
    run: Run[Spec, Status], step: StepStatus, current: Attempted | None
) -> Waiting | None:
    """The fault that an attempt has begun to look for again, as long as it is likely to be found
    again soon: the state of a run must not change at each check. None for other attempts."""
    if not run.lacks_input(step):
        return None
    young = current is None or (run.now - created(current.job)).total_seconds() < YOUNG_SECONDS
    return Waiting(step.reason, step.message, final=True) if young else None


def seen(run: Run[Spec, Status], step: StepStatus, current: Attempted) -> Run[Spec, Status]:
    """The run with what an open attempt would take with it: since when it runs, and its newest
    checkpoint."""
    if current.started != step.running_since:
        run = run.with_step(step.model_copy(update={"running_since": current.started}))
    said = run.observed.pages.get(step.name)
    return with_checkpoint(run, run.step(step.name), said.checkpoint if said else None)


def interrupted(run: Run[Spec, Status], step: StepStatus, current: Attempted) -> Run[Spec, Status]:
    """The run with what was lost where a queue took the pods away and will start the same Job
    again, which is no end of the attempt."""
    if step.running_since is None or current.is_running:
        return run
    end = failures.taken(current, run.planned(step.name))
    if end is None:
        return cut_short(run, step)
    # Keeps its final checkpoint. The loss is charged once the pod is gone: until then this may be
    # the attempt's real end.
    return with_checkpoint(run, step, end.result.checkpoint if end.result else None)


def lost_files(run: Run[Spec, Status], step: StepStatus) -> list[Manifest]:
    """The pod reads the job file once, when it starts: a running attempt's is left as it is."""
    there = {item["metadata"]["name"] for item in run.observed.config_maps}
    wanted = run.plan.files(run, step.name)
    return [each for each in wanted if each["metadata"]["name"] not in there]


def where(run: Run[Spec, Status], step: StepStatus, current: Attempted) -> str:
    number = [each.name for each in run.status.steps].index(step.name) + 1
    pod, others = current.newest[0], len(current.ranks) - 1
    name, node = pod["metadata"]["name"], pod.get("spec", {}).get("nodeName", "")
    place = f"{step.name} (step {number} of {len(run.status.steps)}) runs as pod {name} on {node}"
    place += f" and {others} more" if others else ""
    return f"{place}, attempt {step.attempts}" if step.attempts > 1 else place


def unanswered(run: Run[Spec, Status], running: Wanted) -> Wanted:
    """The news of a step that runs, with the store or service that it waits for."""
    progress = run.status.progress
    if progress is None or not progress.waits_for:
        return running
    reason = progress.waits_reason
    if reason not in WAITED_FOR:
        reason = Reason.STORE_UNREACHABLE.value
    what, where = WAITED_FOR[reason]
    text = f"{running.message}, and waits for the {what}: check that it is up, and {where}"
    return replace(running, reason=reason, message=f"{text}, {progress.waits_for}")


def until(run: Run[Spec, Status], seconds: float) -> float:
    """Seconds until the next reconcile: `seconds`, or sooner if the deadline is."""
    limit = deadline(run)
    return seconds if limit is None else max(0.0, min(seconds, (limit - run.now).total_seconds()))


def progress_interval(run: Run[Spec, Status], current: Attempted) -> float:
    """Seconds until the progress of an attempt is read again; soon while it has just started and
    not answered."""
    progress = run.status.progress
    unread = progress is None or progress.activity in report.UNREAD
    started = current.started
    young = started is not None and (run.now - started).total_seconds() < YOUNG_SECONDS
    return FIRST_POLL_SECONDS if unread and young else run.settings.progress_seconds
