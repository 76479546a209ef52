"""Checkpoints that nobody will resume from: of runs that failed or were deleted."""

from __future__ import annotations

from datetime import datetime, timedelta

from wan_operator.api.v1alpha1.finetune import WanFineTuneStatus
from wan_operator.conditions.merge import is_true
from wan_operator.conditions.runs import COMPLETE, FAILED
from wan_operator.reconcile.finetune.plan import FineTuneRun, experts_of, trains_jointly
from wan_operator.reconcile.store import ca_bundle, store_spec
from wan_operator.resources.labels import Manifest
from wan_operator.resources.left import clearing_job, folders
from wan_runtime.contract.left import FOLDERS, Left, LeftFolders
from wan_runtime.contract.results import training_id
from wan_runtime.contract.steps import CHECKPOINTED

ENDING = timedelta(seconds=600)
"""Pods of a run that is over have ended after this, and write no checkpoint any more."""


def left(run: FineTuneRun) -> tuple[Manifest, ...]:
    """Job for the checkpoints of a run that was just deleted; none if it has none."""
    status = run.status
    if is_true(status.conditions, COMPLETE) or not trained(status):
        return ()
    if is_true(status.conditions, FAILED) and not has_checkpoints(status):
        return ()
    return (clearing(run, run.now, due_of(run)),)


def has_checkpoints(status: WanFineTuneStatus) -> bool:
    """Whether checkpoints are in the store."""
    of_steps = any(each.checkpoint is not None for each in status.steps)
    return of_steps or status.checkpoint is not None


def due_of(run: FineTuneRun) -> datetime:
    """When they may go, if their retention begins now."""
    retention = timedelta(hours=run.spec.checkpoint.retention_hours)
    return run.now.replace(microsecond=0) + max(retention, ENDING)


def without_checkpoints(run: FineTuneRun) -> FineTuneRun:
    """The run once the Job is made that removes them."""
    steps = [each.model_copy(update={"checkpoint": None}) for each in run.status.steps]
    return run.with_status(checkpoint=None, checkpoint_deletion_time=None, steps=steps)


def clearing(run: FineTuneRun, over: datetime, due: datetime) -> Manifest:
    """Job that removes them. `over`: when the run failed or was deleted."""
    effective = run.status.effective
    assert effective is not None, "a step has begun"
    steps = trained(run.status)
    if trains_jointly(run.spec) and steps:  # each expert has its own in the place of its own step
        steps = [training_id(expert) for expert in experts_of(run.spec)]
    bundle = ca_bundle(run.spec.store, run.settings)
    wanted = Left(
        store=store_spec(effective.store, bundle is not None),
        due=due,
        folders=LeftFolders(
            keys=folders(effective.run_prefix, steps, FOLDERS),
            ended_at=over + ENDING,
        ),
    )
    return clearing_job(
        run.owner,
        wanted,
        "clear",
        run.spec.pod_template,
        run.settings,
        store_secret=effective.store.secret_name,
        bundle=bundle,
        cpu_limit=run.spec.resources.cpu_limit,
    )


def trained(status: WanFineTuneStatus) -> list[str]:
    """Names of the steps with checkpoints that have begun."""
    return [
        each.name
        for each in status.steps
        if each.name.startswith(CHECKPOINTED) and each.attempts > 0
    ]
