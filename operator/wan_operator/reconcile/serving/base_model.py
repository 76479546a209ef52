"""The base model of a service from S3: imported once, by a Job, as a fine-tune's is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

from wan_operator.api.v1alpha1.common import Artifact
from wan_operator.api.v1alpha1.inference import BaseModelStatus, EffectiveService
from wan_operator.reconcile.observed import Raw, attempt_of, step_of
from wan_operator.reconcile.runs import failures
from wan_operator.reconcile.runs.attempted import Attempted
from wan_operator.reconcile.serving.moment import Moment
from wan_operator.reconcile.serving.resolve import sizes_of
from wan_operator.reconcile.store import ca_bundle, model_spec, store_spec
from wan_operator.resources.configmaps import JOB_KEY
from wan_operator.resources.jobs import Attempt, job
from wan_operator.resources.labels import Manifest, config_map_name
from wan_operator.resources.serving.names import child
from wan_runtime.job import Bucket, DatasetSpec, ExitClass, JobSpec, LoraSpec, Step
from wan_runtime.presets import PRESETS

PART = "model"
"""Not `import`: a WanFineTune of the service's name may have a Job of that."""
LOOK_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportStep:
    """The import, as the engine of runs reads its end."""

    id: str = Step.IMPORT.value
    group: str = Step.IMPORT.value
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    has_checkpoints: bool = False
    must_commit: bool = False


@dataclass(frozen=True, slots=True)
class Import:
    moment: Moment
    children: tuple[Manifest, ...] = ()
    reason: str = ""
    """Why there is no model yet; empty once there is, or if none is to be imported."""
    message: str = ""
    final: bool = False
    """Somebody has to act."""
    look_again_after: float | None = None


def imported(moment: Moment, effective: EffectiveService) -> Import:
    """With status.baseModel.artifact, once the Job has committed it."""
    source = moment.spec.model.source
    if source is None or source.s3 is None:
        return Import(moment.with_status(base_model=None))
    status = moment.status.base_model
    if status is None or status.source != source.s3:
        # Jobs for another source are past; their numbers stay taken.
        taken = max((attempt_of(each) for each in jobs(moment)), default=0)
        status = BaseModelStatus(source=source.s3, attempts=taken, reason="ImportingModel")
        return _started(moment, effective, status)
    if status.artifact is not None:
        return Import(moment)
    due = status.next_attempt_time
    if due is not None and moment.now < due:
        wait = (due - moment.now).total_seconds()
        return Import(moment, (), status.reason, status.message, look_again_after=wait)
    if due is not None:
        return _started(moment, effective, status)
    return _watched(moment, effective, status)


def _watched(moment: Moment, effective: EffectiveService, status: BaseModelStatus) -> Import:
    """The open attempt."""
    found = next((each for each in jobs(moment) if attempt_of(each) == status.attempts), None)
    current = None if found is None else Attempted.read(found, moment.observed.pods)
    outcome = failures.outcome_of(current, ImportStep())
    if outcome is None:
        assert current is not None
        waiting = failures.waiting_of(current, moment.now)
        reason = waiting.reason if waiting else "ImportingModel"
        text = waiting.message if waiting else f"Job {current.name} runs"
        return Import(moment, (), reason, text, look_again_after=LOOK_SECONDS)
    result = outcome.result
    if outcome.exit_class is ExitClass.DONE and result is not None and result.manifest is not None:
        artifact = Artifact(uri=result.manifest.uri, sha256=result.manifest.sha256)
        update = {"artifact": artifact, "reason": "", "message": ""}
        return Import(moment.with_status(base_model=status.model_copy(update=update)))
    if outcome.exit_class is ExitClass.INPUT:
        return Import(moment, (), outcome.reason, outcome.message, final=True)
    base = moment.settings.retry_base_seconds
    tries = status.attempts
    seconds = failures.retry_delay(moment.owner.uid, tries, tries, base).total_seconds()
    text = f"{outcome.message}; tried again in {seconds:.0f} s"
    update = {
        "next_attempt_time": moment.now + timedelta(seconds=math.ceil(seconds)),
        "reason": outcome.reason,
        "message": text,
    }
    moment = moment.with_status(base_model=status.model_copy(update=update))
    return Import(moment, (), outcome.reason, text, look_again_after=seconds)


def _started(moment: Moment, effective: EffectiveService, status: BaseModelStatus) -> Import:
    """The next attempt."""
    number = status.attempts + 1
    update = {"attempts": number, "next_attempt_time": None}
    moment = moment.with_status(base_model=status.model_copy(update=update))
    made = job(_attempt(moment, effective, number))
    text = f"Job {made['metadata']['name']} is making its pod"
    return Import(
        moment, (_config_map(moment, effective), made), "ImportingModel", text,
        look_again_after=LOOK_SECONDS,
    )  # fmt: skip


def jobs(moment: Moment) -> list[Raw]:
    """Of the import, all attempts."""
    return [each for each in moment.own("Job") if step_of(each) == PART]


def _attempt(moment: Moment, effective: EffectiveService, number: int) -> Attempt:
    spec, settings = moment.spec, moment.settings
    return Attempt(
        owner=moment.owner,
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
    )


def _config_map(moment: Moment, effective: EffectiveService) -> Manifest:
    spec, preset = moment.spec, PRESETS[moment.spec.model.preset]
    size = sizes_of(spec)[0]
    bundle = ca_bundle(spec.store, moment.settings)
    wanted = JobSpec(
        namespace=moment.owner.namespace,
        name=moment.owner.name,
        uid=moment.owner.uid,
        step=Step.IMPORT,
        model=model_spec(spec.model),
        store=store_spec(effective.store, bundle is not None),
        # The import reads neither: a job file without them is none.
        dataset=DatasetSpec(
            source=f"s3://{effective.store.bucket}",
            buckets=(Bucket(width=size.width, height=size.height, frames=preset.frames),),
            fps=preset.fps,
        ),
        lora=LoraSpec(),
        image=moment.settings.runtime_image,
    )
    text = wanted.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"
    name = config_map_name(moment.owner, PART)
    return child(moment.owner, "v1", "ConfigMap", name, PART, data={JOB_KEY: text})
