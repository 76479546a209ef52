"""A WanFineTune for the engine of runs: its steps, the job file and the Job of each attempt, and
what the end of a step adds to its status."""

from __future__ import annotations

from collections.abc import Sequence

from wan_operator.api.v1alpha1.common import Artifact
from wan_operator.api.v1alpha1.finetune import FormatStatus, WanFineTuneSpec, WanFineTuneStatus
from wan_operator.conditions.merge import Wanted
from wan_operator.conditions.runs import DATASET_READY, RUNS
from wan_operator.reconcile.bounds import built
from wan_operator.reconcile.finetune import fit
from wan_operator.reconcile.finetune.plan import (
    FineTuneRun,
    FineTuneStep,
    inputs_of,
    plan_steps,
    prepare_of,
    sources,
)
from wan_operator.reconcile.finetune.spread import parallelism_of
from wan_operator.reconcile.finetune.work import job_spec
from wan_operator.reconcile.runs.plan import Plan
from wan_operator.reconcile.store import ca_bundle, cache_volume, named
from wan_operator.resources.configmaps import job_config_map
from wan_operator.resources.jobs import Attempt, job
from wan_operator.resources.labels import Manifest
from wan_operator.resources.meeting import meeting_service
from wan_runtime.contract.job import Certificate, Result
from wan_runtime.contract.steps import FACTS, Step
from wan_runtime.contract.training import Parallelism

DATASET_REASONS = frozenset({"DatasetNotFound", "DatasetEmpty", "DatasetInvalid", "ClipInvalid"})


class FineTunePlan(Plan[WanFineTuneSpec, WanFineTuneStatus]):
    """The part of a run that is a fine-tune's own."""

    vocabulary = RUNS
    status = WanFineTuneStatus
    lasting = frozenset({DATASET_READY})

    def steps(self, spec: WanFineTuneSpec) -> Sequence[FineTuneStep]:
        return plan_steps(spec)

    def files(self, run: FineTuneRun, id: str) -> tuple[Manifest, ...]:
        assert run.status.effective is not None
        spec = job_spec(
            run.owner,
            run.spec,
            run.status.effective,
            _step(run, id),
            inputs_of(run.status.steps, sources(plan_steps(run.spec), id)),
            with_ca=ca_bundle(run.spec.store, run.settings) is not None,
        )
        return (job_config_map(run.owner, spec),)

    def services(self, run: FineTuneRun, id: str) -> tuple[Manifest, ...]:
        nodes = _spread(run, _step(run, id).step).nodes
        return (meeting_service(run.owner, id),) if nodes > 1 else ()

    def job(self, run: FineTuneRun, id: str, number: int) -> Manifest:
        return job(_attempt(run, _step(run, id), number))

    def finished(self, run: FineTuneRun, id: str, result: Result) -> FineTuneRun:
        """The run with the exported weights and their certificates."""
        if not _step(run, id).must_commit or result.manifest is None:
            return run
        artifact = Artifact(uri=result.manifest.uri, sha256=result.manifest.sha256)
        formats = [_certified(each) for each in result.certificates]
        return run.with_status(artifact=artifact, formats=formats)

    def conditions(self, run: FineTuneRun, leading: Wanted) -> list[Wanted]:
        """The state of the dataset, once it is known."""
        prepare = prepare_of(run.status.steps)
        if prepare is not None and prepare.state == "Complete":
            facts = ", ".join(f"{value} {name}" for name, value in sorted(prepare.summary.items()))
            return [Wanted(DATASET_READY, True, "DatasetPrepared", facts)]
        if prepare is not None and prepare.reason in DATASET_REASONS:
            return [Wanted(DATASET_READY, False, prepare.reason, prepare.message)]
        if leading.reason in DATASET_REASONS:
            return [Wanted(DATASET_READY, False, leading.reason, leading.message)]
        return []

    def words(self, run: FineTuneRun, said: str) -> str:
        assert run.status.effective is not None
        return named(said, run.spec.store, run.status.effective.store)

    def outcome(self, run: FineTuneRun) -> str:
        artifact = run.status.artifact
        return f"the weights are at {artifact.uri}" if artifact else "all steps are done"

    def repeats_on(self, run: FineTuneRun, id: str) -> int:
        step = _step(run, id).step
        return _spread(run, step).world if FACTS[step].repeats else 0


def _step(run: FineTuneRun, id: str) -> FineTuneStep:
    return next(step for step in plan_steps(run.spec) if step.id == id)


def _attempt(run: FineTuneRun, planned: FineTuneStep, number: int) -> Attempt:
    assert run.status.effective is not None
    source, spread = run.spec.model.source, _spread(run, planned.step)
    return Attempt(
        owner=run.owner,
        step_id=planned.id,
        step=planned.step.value,
        number=number,
        preset=run.spec.model.preset,
        needs_gpu=planned.needs_gpu,
        deterministic=planned.trains and run.spec.training.deterministic,
        host=fit.host_plan(run, planned),
        gpus=spread.gpus_per_node,
        nodes=spread.nodes,
        environment=(run.spec.parallelism.environment or {}) if FACTS[planned.step].spreads else {},
        image=run.status.effective.image,
        image_pull_policy=run.settings.image_pull_policy,
        image_pull_secrets=run.settings.image_pull_secrets,
        store_secret=run.status.effective.store.secret_name,
        ca_bundle=ca_bundle(run.spec.store, run.settings),
        model_volume=source.persistent_volume_claim if source else None,
        model_cache=_model_cache(run, planned),
        overrides=run.spec.resources,
        pod_template=run.spec.pod_template,
        avoid_node=run.failed_on(planned.id, number - 1),
        queue_name=run.queue_name,
    )


def _spread(run: FineTuneRun, step: Step) -> Parallelism:
    """GPUs on which a step is done."""
    effective = run.status.effective
    if effective is None or not FACTS[step].spreads:
        return Parallelism()
    return parallelism_of(effective)


def _model_cache(run: FineTuneRun, planned: FineTuneStep) -> Manifest | None:
    """Source of the volume for imported models, for a step that fetches one."""
    source = run.spec.model.source
    if source is None or source.s3 is None or not planned.reads_import:
        return None
    return cache_volume(run.settings)


def _certified(certificate: Certificate) -> FormatStatus:
    return built(
        FormatStatus,
        name=certificate.format,
        consumer=certificate.consumer,
        worst_difference=f"{certificate.worst_difference:.1e}",
    )
