"""The life of a WanFineTune: (resource, observed children) -> decision. Pure and level-based.

A decision either records how an attempt ended or acts on what is recorded, never both: a result is
in the status before anything builds on it, so that a crash between any two calls repeats a part of
the decision and loses none.

A step is `Waiting` while all its attempts are closed, and `Running` while attempt number `attempts`
is open.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import ValidationError

from wan_operator import conditions
from wan_operator.api.v1alpha1.finetune import NAME_LIMIT, StepStatus
from wan_operator.conditions import Wanted
from wan_operator.reconcile import failures, report
from wan_operator.reconcile.decision import Decision, Event
from wan_operator.reconcile.ends import after_end, complete, fail, has_ended, record, stalled
from wan_operator.reconcile.observed import (
    Observed,
    Raw,
    attempt_of,
    container_state,
    controller_uid,
    is_deleting,
    owned_by,
    parse_time,
    pods_of,
    step_of,
)
from wan_operator.reconcile.plan import (
    PlannedStep,
    StoreNotConfiguredError,
    ca_bundle,
    inputs_of,
    job_spec,
    resolve,
)
from wan_operator.reconcile.run import (
    Run,
    deadline,
    delete,
    is_suspending,
    merged_steps,
    open_job,
    opened,
    orphans,
    outdated,
    read,
    resumed,
)
from wan_operator.resources.configmaps import job_config_map
from wan_operator.resources.jobs import Attempt, job
from wan_operator.resources.labels import RECONCILE, Manifest
from wan_operator.settings import Settings

PENDING_LOOK_SECONDS = 30.0
"""While a pod cannot start: what no event announces, such as a node that went silent, is found by
looking."""
STRANGER_LOOK_SECONDS = 2.0
FIRST_LOOK_SECONDS = 2.0
"""Until a pod that has just started answers with its progress."""
YOUNG_SECONDS = 30.0


def reconcile(cr: Raw, observed: Observed, settings: Settings, now: datetime) -> Decision:
    """What is to be done about `cr` now. Asked again without a change in between, the answer
    changes nothing."""
    if not is_ours(cr):
        return Decision()
    try:
        run = read(cr, observed, settings, now)
    except ValidationError as error:
        return stalled(cr, "SpecInvalid", report.of_validation(error), now)
    if has_ended(cr):
        return after_end(run)
    if len(run.owner.name) > NAME_LIMIT:
        text = f"metadata.name is longer than {NAME_LIMIT} characters: Jobs append to it"
        return stalled(cr, "SpecInvalid", text, now)
    try:
        effective = resolve(run.owner, run.spec, settings, run.status.effective)
    except StoreNotConfiguredError as error:
        return stalled(cr, "StoreNotConfigured", str(error), now)
    return advance(run.with_status(effective=effective, steps=merged_steps(run)))


def is_ours(cr: Raw) -> bool:
    """Not while it is being deleted: the garbage collector follows the owner references, pods get
    their grace."""
    disabled = cr["metadata"].get("annotations", {}).get(RECONCILE) == "disabled"
    return not disabled and not is_deleting(cr)


def advance(run: Run) -> Decision:
    """Records an end, else stops what must not run, else starts what is due, else tells what is
    awaited."""
    index = next((i for i, step in enumerate(run.status.steps) if step.state != "Complete"), None)
    if index is None:
        return complete(run)
    planned, step = run.plan[index], run.status.steps[index]
    current = open_job(run, step)
    if current is not None and attempt_of(current) > step.attempts:
        step = opened(run, step, attempt_of(current))
        run = run.with_step(step).with_status(start_time=run.status.start_time or run.now)

    held = run.spec.suspend or is_suspending(run, step)
    if step.state == "Running":
        outcome = failures.outcome_of(current, list(run.observed.pods), step.name)
        if outcome is not None:
            return record(run, step, outcome, was_stopped=held)
    limit = deadline(run)
    if limit is not None and run.now >= limit:
        text = f"{step.name} was not done {run.spec.active_deadline_seconds} s after the start"
        return fail(run, step, "DeadlineExceeded", text)
    if held:
        return suspend(run, step, current)
    run = resumed(run)
    if step.state == "Running" and current is not None:
        return watch(run, planned, step, current)
    if step.next_attempt_time is not None and step.next_attempt_time > run.now:
        return wait(run, step.next_attempt_time)
    return start(run, planned, step)


def start(run: Run, planned: PlannedStep, step: StepStatus) -> Decision:
    """Opens the next attempt."""
    number = step.attempts + 1
    wanted = (config_map(run, planned), job(attempt(run, planned, step, number)))
    in_the_way = stranger(run, wanted)
    if in_the_way is not None:
        text = f"waits until {in_the_way} of an earlier WanFineTune of this name is removed"
        told = report.telling(run, Wanted(conditions.RECONCILING, True, "StepStarting", text))
        return Decision(status=told.dump(), look_again_after=STRANGER_LOOK_SECONDS)
    name = wanted[1]["metadata"]["name"]
    run = run.with_step(opened(run, step, number))
    run = run.with_status(start_time=run.status.start_time or run.now)
    run = report.progressed(run, step, report.STARTING)
    text = f"Job {name} is making its pod"
    run = report.telling(run, Wanted(conditions.RECONCILING, True, "StepStarting", text))
    return Decision(
        children=wanted,
        deletes=(*orphans(run, keep=name), *outdated(run, step, number)),
        status=run.dump(),
        events=(Event(type="Normal", reason="StepStarting", action="StartStep", message=text),),
        look_again_after=until(run, PENDING_LOOK_SECONDS),
    )


def watch(run: Run, planned: PlannedStep, step: StepStatus, current: Raw) -> Decision:
    """The attempt goes on: say how, or why not yet."""
    name, pods = current["metadata"]["name"], list(run.observed.pods)
    waiting = failures.waiting_of(current, pods, run.now)
    if waiting is None:
        run = report.progressed(run, step, report.STARTING)
        news = Wanted(
            conditions.RUNNING, True, "StepRunning", where(run, step, pods_of(pods, current)[0])
        )
        look = progress_look(run, pods_of(pods, current)[0])
    else:
        run = report.progressed(run, step, report.PENDING)
        news = Wanted(conditions.RECONCILING, True, waiting.reason, waiting.message)
        look = PENDING_LOOK_SECONDS
    run = report.telling(run, news)
    # The pod reads the job file once, when it starts: put it back if it is lost, but leave a
    # running attempt's as it is.
    job_file = config_map(run, planned)
    there = {item["metadata"]["name"] for item in run.observed.config_maps}
    lost = job_file["metadata"]["name"] not in there
    return Decision(
        children=(job_file,) if lost else (),
        deletes=orphans(run, keep=name),
        status=run.dump(),
        look_again_after=until(run, look),
    )


def wait(run: Run, due: datetime) -> Decision:
    """Between two attempts: the conditions of the failure stand, only the look is due."""
    seconds = (due - run.now).total_seconds()
    if not conditions.is_true(run.status.conditions, conditions.RECONCILING):
        text = f"the next attempt starts at {due.isoformat()}"
        run = report.telling(run, Wanted(conditions.RECONCILING, True, "StepStarting", text))
    return Decision(deletes=orphans(run), status=run.dump(), look_again_after=until(run, seconds))


def suspend(run: Run, step: StepStatus, current: Raw | None) -> Decision:
    """Stops the open attempt, whose pod saves a checkpoint; then holds."""
    first = run.status.suspended_since is None
    run = run.with_status(suspended_since=run.status.suspended_since or run.now)
    if step.state == "Running" and current is not None:
        name = current["metadata"]["name"]
        states = [container_state(pod)[0] for pod in pods_of(run.observed.pods, current)]
        saving = " and is saving a checkpoint" if "running" in states else ""
        text = f"Job {name} has been told to stop{saving}"
        run = report.telling(run, Wanted(conditions.RECONCILING, True, "Suspending", text))
        stop = () if is_deleting(current) else (delete(current, "Job", "Foreground"),)
        event = Event(type="Normal", reason="Suspending", action="StopStep", message=text)
        return Decision(
            deletes=(*stop, *orphans(run, keep=name)),
            status=run.dump(),
            events=(event,) if first else (),
            look_again_after=PENDING_LOOK_SECONDS,
        )
    text = f"held before {step.name}; set spec.suspend to false to go on"
    news = Wanted(conditions.SUSPENDED, True, "SuspendedByUser", text)
    told = not conditions.is_true(run.status.conditions, conditions.SUSPENDED)
    run = report.telling(run, news)
    event = Event(type="Normal", reason="SuspendedByUser", action="Suspend", message=text)
    return Decision(deletes=orphans(run), status=run.dump(), events=(event,) if told else ())


def config_map(run: Run, planned: PlannedStep) -> Manifest:
    assert run.status.effective is not None
    spec = job_spec(
        run.owner,
        run.spec,
        run.status.effective,
        planned,
        inputs_of(run.status.steps),
        with_ca=ca_bundle(run.spec, run.settings) is not None,
    )
    return job_config_map(run.owner, spec)


def attempt(run: Run, planned: PlannedStep, step: StepStatus, number: int) -> Attempt:
    assert run.status.effective is not None
    source, last = run.spec.model.source, run.status.last_failure
    failed_here = last is not None and (last.step, last.attempt) == (step.name, step.attempts)
    return Attempt(
        owner=run.owner,
        step_id=step.name,
        step=planned.step.value,
        number=number,
        preset=run.spec.model.preset,
        needs_gpu=planned.needs_gpu,
        gpus=run.spec.parallelism.gpus_per_node,
        image=run.status.effective.image,
        image_pull_policy=run.settings.image_pull_policy,
        image_pull_secrets=run.settings.image_pull_secrets,
        store_secret=run.status.effective.store.secret_name,
        ca_bundle=ca_bundle(run.spec, run.settings),
        model_volume=source.persistent_volume_claim if source else None,
        overrides=run.spec.resources,
        pod_template=run.spec.pod_template,
        avoid_node=last.node if last is not None and failed_here else "",
        queue_name=run.queue_name,
    )


def stranger(run: Run, wanted: tuple[Manifest, ...]) -> str | None:
    """What has the name of a wanted child and another owner."""
    names = {item["metadata"]["name"] for item in wanted}
    taken = (item["metadata"]["name"] for item in run.strangers)
    return next((name for name in taken if name in names), None)


def where(run: Run, step: StepStatus, pod: Raw) -> str:
    number = [each.name for each in run.status.steps].index(step.name) + 1
    name, node = pod["metadata"]["name"], pod.get("spec", {}).get("nodeName", "")
    place = f"{step.name} (step {number} of {len(run.status.steps)}) runs as pod {name} on {node}"
    return f"{place}, attempt {step.attempts}" if step.attempts > 1 else place


def until(run: Run, seconds: float) -> float:
    """Sooner, if the deadline is."""
    limit = deadline(run)
    return seconds if limit is None else max(0.0, min(seconds, (limit - run.now).total_seconds()))


def progress_look(run: Run, pod: Raw) -> float:
    """Seconds until the running pod is asked again; soon while it has just started and not
    answered."""
    progress = run.status.progress
    unread = progress is None or progress.activity in report.UNREAD
    started = container_state(pod)[1].get("startedAt")
    young = started and (run.now - parse_time(started)).total_seconds() < YOUNG_SECONDS
    return FIRST_LOOK_SECONDS if unread and young else run.settings.progress_seconds


def progress_address(cr: Raw, observed: Observed, settings: Settings, now: datetime) -> str | None:
    """Address of the pod whose progress is due to be read, if one runs."""
    last = cr.get("status", {}).get("progress")
    jobs = {item["metadata"]["uid"] for item in owned_by(observed.jobs, cr["metadata"]["uid"])}
    for pod in observed.pods:
        address: str = pod.get("status", {}).get("podIP", "")
        running = container_state(pod)[0] == "running" and not is_deleting(pod)
        if not running or not address or controller_uid(pod) not in jobs:
            continue
        fresh = (
            last is not None
            and last["step"] == step_of(pod)
            and last["activity"] not in report.UNREAD
            and ((now - parse_time(last["time"])).total_seconds() < settings.progress_seconds)
        )
        return None if fresh else address
    return None


def needs_look(cr: Raw) -> bool:
    """Whether there can be anything to do: false for ended runs without a TTL, which are most of a
    year's worth."""
    current = cr.get("status", {}).get("observedGeneration") == cr["metadata"]["generation"]
    return not (has_ended(cr) and current and "ttlSecondsAfterFinished" not in cr["spec"])
