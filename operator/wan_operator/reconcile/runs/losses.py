"""Checkpoints that are safe in the store, and the GPU time that was lost since the last one."""

from __future__ import annotations

from datetime import datetime

from wan_operator.api.v1alpha1.runs import CheckpointStatus, StepStatus
from wan_operator.reconcile.bounds import built
from wan_operator.reconcile.runs.failures import Outcome
from wan_operator.reconcile.runs.plan import Spec, Status
from wan_operator.reconcile.runs.state import Run
from wan_runtime.contract.job import Checkpoint, ExitClass


def with_checkpoint(
    run: Run[Spec, Status], step: StepStatus, said: Checkpoint | None
) -> Run[Spec, Status]:
    """The run with what its pod says is committed, if it is news."""
    if said is None:
        return run
    fresh = built(
        CheckpointStatus,
        name=step.name,
        step=said.step,
        uri=said.manifest.uri,
        sha256=said.manifest.sha256,
        time=said.saved.replace(microsecond=0),
    )
    if fresh == step.checkpoint:
        return run
    run = run.with_step(step.model_copy(update={"checkpoint": fresh}))
    newest = run.status.checkpoint
    # In the order of the pods' clocks, or of what one pod says.
    if newest is None or newest.name == fresh.name or newest.time <= fresh.time:
        run = run.with_status(checkpoint=fresh)
    return run


def without_checkpoint(run: Run[Spec, Status], step: StepStatus) -> Run[Spec, Status]:
    """The run once the step is done: its pod has deleted what it would have gone on from."""
    if step.checkpoint is None:
        return run.with_step(step)
    run = run.with_step(step.model_copy(update={"checkpoint": None}))
    left = [each.checkpoint for each in run.status.steps if each.checkpoint is not None]
    return run.with_status(checkpoint=max(left, key=lambda each: each.time, default=None))


def with_loss(run: Run[Spec, Status], step: StepStatus, outcome: Outcome) -> Run[Spec, Status]:
    """The run with what the end of this attempt cost. Nothing, if its container never ran."""
    if outcome.exit_class is ExitClass.DONE:
        return run
    return _lost(run, step, outcome.began or step.running_since, outcome.ended or run.now)


def cut_short(run: Run[Spec, Status], step: StepStatus) -> Run[Spec, Status]:
    """The run with what an open attempt costs whose container is stopped now, or was, and whose own
    end nobody waits for."""
    said = run.observed.pages.get(step.name)
    run = with_checkpoint(run, step, said.checkpoint if said else None)
    step = run.step(step.name)
    run = _lost(run, step, step.running_since, run.now)
    return run.with_step(step.model_copy(update={"running_since": None}))


def _lost(
    run: Run[Spec, Status], step: StepStatus, began: datetime | None, ended: datetime
) -> Run[Spec, Status]:
    gpus = run.plan.repeats_on(run, step.name)
    if not gpus or began is None:
        return run
    safe = max(began, step.checkpoint.time) if step.checkpoint else began
    seconds = max(0.0, (ended - safe).total_seconds())
    return run.with_status(lost_gpu_seconds=run.status.lost_gpu_seconds + round(seconds * gpus))
