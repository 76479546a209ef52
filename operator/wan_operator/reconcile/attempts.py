"""What an attempt is made of, and what may stand in the way of its names."""

from __future__ import annotations

from wan_operator.api.v1alpha1.finetune import StepStatus
from wan_operator.reconcile import fit
from wan_operator.reconcile.attempted import Attempted
from wan_operator.reconcile.observed import step_of
from wan_operator.reconcile.plan import PlannedStep, inputs_of, job_spec, sources
from wan_operator.reconcile.run import Run
from wan_operator.reconcile.store import ca_bundle, cache_volume
from wan_operator.resources.configmaps import job_config_map
from wan_operator.resources.jobs import Attempt, job
from wan_operator.resources.labels import Manifest
from wan_runtime.job import Step, step_id


def children(run: Run, planned: PlannedStep, step: StepStatus) -> tuple[Manifest, ...]:
    """What the next attempt is made of, in the order in which it is created."""
    return config_map(run, planned), job(attempt(run, planned, step, step.attempts + 1))


def config_map(run: Run, planned: PlannedStep) -> Manifest:
    assert run.status.effective is not None
    spec = job_spec(
        run.owner,
        run.spec,
        run.status.effective,
        planned,
        inputs_of(run.status.steps, sources(run.plan, planned.id)),
        with_ca=ca_bundle(run.spec.store, run.settings) is not None,
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
        deterministic=planned.step is Step.TRAIN and run.spec.training.deterministic,
        host=fit.host_plan(run, planned),
        gpus=run.spec.parallelism.gpus_per_node,
        image=run.status.effective.image,
        image_pull_policy=run.settings.image_pull_policy,
        image_pull_secrets=run.settings.image_pull_secrets,
        store_secret=run.status.effective.store.secret_name,
        ca_bundle=ca_bundle(run.spec.store, run.settings),
        model_volume=source.persistent_volume_claim if source else None,
        model_cache=model_cache(run, planned),
        overrides=run.spec.resources,
        pod_template=run.spec.pod_template,
        avoid_node=last.node if last is not None and failed_here else "",
        queue_name=run.queue_name,
    )


def model_cache(run: Run, planned: PlannedStep) -> Manifest | None:
    """Of the steps that fetch an imported model."""
    source = run.spec.model.source
    if source is None or source.s3 is None or step_id(Step.IMPORT) not in planned.needs:
        return None
    return cache_volume(run.settings)


def obstacle(run: Run, wanted: tuple[Manifest, ...], step: StepStatus) -> str:
    """What has to go first, in words; empty if nothing does."""
    names = {item["metadata"]["name"] for item in wanted}
    for item in run.strangers:
        name = item["metadata"]["name"]
        if name in names:
            return f"waits until {name} of an earlier WanFineTune of this name is removed"
    for item in run.observed.jobs:
        if step_of(item) == step.name and Attempted.read(item, run.observed.pods).is_stopping:
            return f"waits until Job {item['metadata']['name']} has stopped"
    return ""
