"""What has not begun follows what is wanted of it now.

An edit of the resource, or of the operator's settings, reaches pods that wait for a node, an image
or a Secret, and retries that are put off. What runs is not disturbed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from pydantic import ValidationError

from wan_operator.api.v1alpha1.runs import StepStatus
from wan_operator.reconcile.decision import Decision, Delete, Event
from wan_operator.reconcile.observed import Raw, attempt_of, finished, is_deleting, label, step_of
from wan_operator.reconcile.runs.attempted import Attempted
from wan_operator.reconcile.runs.plan import Spec, Status
from wan_operator.reconcile.runs.state import Run, closed, open_attempt
from wan_operator.reconcile.runs.watch import watch
from wan_operator.resources.configmaps import JOB_KEY
from wan_operator.resources.jobs import hashed, joined, parted
from wan_operator.resources.labels import QUEUE_NAME, SPEC_HASH, Manifest, content_hash
from wan_operator.resources.pods import as_before
from wan_runtime.contract.job import JobSpec


def replaced(run: Run[Spec, Status]) -> Decision | None:
    """Closes the attempts whose pods have not begun and are wanted otherwise, and deletes their
    Jobs; the next reconcile starts the steps anew. None if there are none. It costs no retry."""
    deletes: list[Delete] = []
    texts: list[str] = []
    for step in run.running:
        current = open_attempt(run, step)
        if current is None or not is_stale(run, step, current):
            continue
        deletes.append(Delete.of(current.job, "Job", "Background"))
        text = f"{step.name} starts anew: Job {current.name} had not begun, and is wanted otherwise"
        texts.append(text)
        run = run.with_step(closed(step, run.now, reason="StepStarting", message=text))
    if not deletes:
        return None
    decision = watch(run)
    replacing = {each.uid for each in deletes}  # with a Job that has not begun its pods go at once
    others = [each for each in decision.deletes if each.uid not in replacing]
    events = [
        Event(type="Normal", reason="StepStarting", action="ReplaceStep", message=text)
        for text in texts
    ]
    return replace(
        decision,
        deletes=(*others, *deletes),
        events=(*decision.events, *events),
        requeue_after=0.0,
    )


def is_stale(run: Run[Spec, Status], step: StepStatus, current: Attempted) -> bool:
    """Whether no container of an attempt has begun, and it is wanted otherwise."""
    if current.has_begun or finished(current.job) or is_deleting(current.job):
        return False
    return is_wanted_otherwise(run, step, current.job)


def is_wanted_otherwise(run: Run[Spec, Status], step: StepStatus, job: Raw) -> bool:
    """Whether the Job of a step's newest attempt or its files would be made in another way now."""
    there = {item["metadata"]["name"]: item for item in run.observed.config_maps}
    wanted = run.plan.job(run, step.name, step.attempts)["spec"]
    avoids = bool(run.failed_on(step.name, step.attempts - 1))
    placements = [*_placements(wanted, job, avoids)]
    specs = [*placements, *itertools.chain.from_iterable(map(_earlier, placements))]
    contents = [hashed(spec, run.queue_name) for spec in specs]
    if run.queue_name == label(job, QUEUE_NAME):
        contents += specs  # The hash of earlier releases leaves the queue out.
    if _hash(job) not in map(content_hash, contents):
        return True
    return any(
        # One that is lost is put back.
        each["metadata"]["name"] in there and not _same(each, there[each["metadata"]["name"]])
        for each in run.plan.files(run, step.name)
    )


def _same(wanted: Manifest, live: Raw) -> bool:
    """Whether two job files say the same, be it in the layout of another release."""
    if _hash(wanted) == _hash(live):
        return True
    try:
        ours, theirs = (
            JobSpec.model_validate_json(each["data"][JOB_KEY]) for each in (wanted, live)
        )
    except (KeyError, ValidationError):
        return False
    return ours == theirs


def _placements(spec: Manifest, live: Raw, avoids: bool) -> Iterator[Manifest]:
    """The spec without a node that it avoids, and with that of the live Job: it is that of an end
    which the status may no longer have. What the template itself wants stays.

    `avoids`: the spec avoids a node.
    """
    template = spec["template"]
    pod = dict(template["spec"])
    wanted = pod.pop("affinity", {})
    own = parted(wanted)[0] if avoids else wanted
    _, avoided = parted(live["spec"]["template"]["spec"].get("affinity", {}))
    for affinity in (own, joined(own, avoided)):
        placed = pod | ({"affinity": affinity} if affinity else {})
        yield spec | {"template": template | {"spec": placed}}


def _earlier(spec: Manifest) -> Iterator[Manifest]:
    """The spec as earlier releases made it: an upgrade replaces no pod."""
    template = spec["template"]
    for pod in as_before(template["spec"]):
        yield spec | {"template": template | {"spec": pod}}


def hastened(run: Run[Spec, Status]) -> Run[Spec, Status]:
    """The run with retries that are due at once if the spec was edited since the status was
    written, or settings of the operator make another attempt: what was mended must not wait for the
    back-off."""
    edited = run.status.observed_generation != run.generation
    for step in run.status.steps:
        if step.state != "Waiting" or step.next_attempt_time is None:
            continue
        last = failed_job(run, step)
        if edited or (last is not None and is_wanted_otherwise(run, step, last)):
            due = min(step.next_attempt_time, run.now)
            # What was wrong may not be any more.
            anew = {"next_attempt_time": due, "reason": "", "message": ""}
            run = run.with_step(step.model_copy(update=anew))
    return run


def failed_job(run: Run[Spec, Status], step: StepStatus) -> Raw | None:
    """The Job whose end a step waits after, as long as it is there. None for a step that waits
    because the API server refused its next one: it is wanted otherwise already."""
    failure = run.status.last_failure
    if failure is None or (failure.step, failure.reason) != (step.name, step.reason):
        return None
    jobs = (item for item in run.observed.jobs if step_of(item) == step.name)
    return next((item for item in jobs if attempt_of(item) == step.attempts), None)


def _hash(item: Raw | Manifest) -> str:
    found: str = item["metadata"].get("annotations", {}).get(SPEC_HASH, "")
    return found
