"""The import of a service's base model, for the engine of runs: a run of one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pydantic import Field

from wan_operator.api.v1alpha1.common import ApiModel, Artifact, Condition
from wan_operator.api.v1alpha1.inference import EffectiveService
from wan_operator.api.v1alpha1.runs import (
    CheckpointStatus,
    LastFailure,
    ProgressStatus,
    StepStatus,
)
from wan_operator.conditions.merge import Wanted
from wan_operator.conditions.runs import RUNS
from wan_operator.reconcile.runs.plan import Plan
from wan_operator.reconcile.runs.state import Run
from wan_operator.reconcile.service.state import Service
from wan_operator.reconcile.store import ca_bundle, model_spec, named, store_spec
from wan_operator.resources.configmaps import JOB_KEY
from wan_operator.resources.jobs import Attempt, job
from wan_operator.resources.labels import Manifest, config_map_name
from wan_operator.resources.service.names import child
from wan_runtime.contract.job import JobSpec, Result
from wan_runtime.contract.model_import import ImportWork
from wan_runtime.contract.steps import Step

PART = "model"
"""Not `import`: a WanFineTune of the service's name may have a Job of that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportStep:
    """The one step of the run."""

    id: str = PART
    reports_as: str = Step.IMPORT.value
    group: str = PART
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    needs_gpu: bool = False
    has_checkpoints: bool = False
    must_commit: bool = True
    may_fail: bool = False


class NoLimit(NamedTuple):
    infrastructure: int | None = None
    out_of_memory: int | None = None


class ImportSpec(NamedTuple):
    suspend: bool = False
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None
    retries: NoLimit = NoLimit()


class ImportStatus(ApiModel):
    """The status of the run. Of it, status.baseModel keeps what the next reconcile cannot find
    out."""

    observed_generation: int | None = None
    conditions: list[Condition] = Field(default=[])
    start_time: datetime | None = None
    completion_time: datetime | None = None
    suspended_seconds: int = 0
    suspended_since: datetime | None = None
    steps: list[StepStatus] = Field(default=[])
    progress: ProgressStatus | None = None
    artifact: Artifact | None = None
    checkpoint: CheckpointStatus | None = None
    lost_gpu_seconds: int = 0
    last_failure: LastFailure | None = None


ImportRun = Run[ImportSpec, ImportStatus]


@dataclass(frozen=True, slots=True)
class ImportPlan(Plan[ImportSpec, ImportStatus]):
    service: Service
    effective: EffectiveService

    vocabulary = RUNS
    status = ImportStatus

    def steps(self, spec: ImportSpec) -> Sequence[ImportStep]:
        return [ImportStep()]

    def files(self, run: ImportRun, id: str) -> tuple[Manifest, ...]:
        return (_config_map(self.service, self.effective),)

    def job(self, run: ImportRun, id: str, number: int) -> Manifest:
        return job(_attempt(self.service, self.effective, run, number))

    def finished(self, run: ImportRun, id: str, result: Result) -> ImportRun:
        return run.with_status(artifact=run.step(id).artifact)

    def conditions(self, run: ImportRun, leading: Wanted) -> Sequence[Wanted]:
        return ()

    def words(self, run: ImportRun, said: str) -> str:
        return named(said, self.service.spec.store, self.effective.store)

    def outcome(self, run: ImportRun) -> str:
        artifact = run.status.artifact
        assert artifact is not None, "the step must commit"
        return f"the base model is at {artifact.uri}"

    def repeats_on(self, run: ImportRun, id: str) -> int:
        return 0


def _attempt(service: Service, effective: EffectiveService, run: ImportRun, number: int) -> Attempt:
    spec, settings = service.spec, service.settings
    return Attempt(
        owner=service.owner,
        step_id=PART,
        step=Step.IMPORT.value,
        number=number,
        preset=spec.model.preset,
        needs_gpu=False,
        deterministic=False,
        host=None,
        gpus=0,
        image=settings.runtime_image,
        image_pull_policy=settings.image_pull_policy,
        image_pull_secrets=settings.image_pull_secrets,
        store_secret=effective.store.secret_name,
        ca_bundle=ca_bundle(spec.store, settings),
        model_volume=None,
        model_cache=None,
        overrides=spec.workers.resources,
        pod_template=spec.workers.pod_template,
        avoid_node=run.failed_on(PART, number - 1),
        queue_name=run.queue_name,
    )


def _config_map(service: Service, effective: EffectiveService) -> Manifest:
    spec = service.spec
    bundle = ca_bundle(spec.store, service.settings)
    wanted = JobSpec(
        namespace=service.owner.namespace,
        name=service.owner.name,
        uid=service.owner.uid,
        step=Step.IMPORT,
        model=model_spec(spec.model),
        store=store_spec(effective.store, bundle is not None),
        work=ImportWork(),
        image=service.settings.runtime_image,
    )
    text = wanted.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"
    name = config_map_name(service.owner, PART)
    return child(service.owner, "v1", "ConfigMap", name, PART, data={JOB_KEY: text})
