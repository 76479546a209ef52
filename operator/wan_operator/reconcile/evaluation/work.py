"""The job file of each step of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping

from wan_operator.api.v1alpha1.evaluation import Candidate, WanEvaluationSpec
from wan_operator.api.v1alpha1.evaluation_status import EffectiveCandidate, EffectiveEvaluation
from wan_operator.reconcile.evaluation.fit import floor_renders
from wan_operator.reconcile.evaluation.plan import EvaluationStep
from wan_operator.reconcile.store import mounted, store_spec
from wan_operator.resources.jobs import API_KEY_PATH
from wan_operator.resources.labels import Owner
from wan_runtime.contract.dataset import Bucket, Columns, DatasetSpec
from wan_runtime.contract.evaluation import (
    AdapterFile,
    CandidateSpec,
    ClipsSpec,
    DecisionSpec,
    EvaluationWork,
    GateSpec,
    RatingSpec,
    ServiceAddress,
    TrainingCost,
    WeightSpec,
)
from wan_runtime.contract.job import JobSpec, ManifestRef, ModelSpec
from wan_runtime.contract.model_import import ImportWork
from wan_runtime.contract.sampling import SamplingSpec
from wan_runtime.contract.steps import Expert


def job_spec(
    owner: Owner,
    spec: WanEvaluationSpec,
    effective: EffectiveEvaluation,
    planned: EvaluationStep,
    inputs: Mapping[str, ManifestRef],
    with_ca: bool,
) -> JobSpec:
    """The job file of one step; the same for all its attempts."""
    candidate = planned.candidate
    is_import = planned.step in ImportWork.steps
    return JobSpec(
        namespace=owner.namespace,
        name=owner.name,
        uid=owner.uid,
        step=planned.step,
        shard=planned.shard,
        candidate=None if candidate is None else candidate.name,
        model=None if candidate is None else model_of(candidate),
        store=store_spec(effective.store, with_ca),
        work=ImportWork() if is_import else evaluation_work(spec, effective, owner.namespace),
        inputs=dict(inputs),
        image=effective.image,
    )


def model_of(candidate: EffectiveCandidate) -> ModelSpec | None:
    """The base model of a candidate; None if it is not rendered here."""
    if not candidate.preset:
        return None
    path = mounted(candidate.claim_path) if candidate.claim_name else None
    return ModelSpec(preset=candidate.preset, path=path, source=candidate.s3 or None)


def evaluation_work(
    spec: WanEvaluationSpec, effective: EffectiveEvaluation, namespace: str
) -> EvaluationWork:
    """The work of all steps but the imports."""
    resolved = {each.name: each for each in effective.candidates}
    return EvaluationWork(
        candidates=tuple(
            candidate_spec(each, resolved[each.name], namespace)
            for each in spec.candidates
            if each.name in resolved
        ),
        clips=clips_spec(spec, effective),
        sampling=SamplingSpec.model_validate(spec.sampling.model_dump()),
        seed=spec.seed,
        noise_floor=spec.noise_floor,
        noise_floor_renders=tuple(floor_renders(spec)),
        metrics=tuple(spec.metrics),
        metric_weights=spec.metric_weights,
        score_on_gpu=spec.score_on_gpu,
        legacy_psnr=spec.legacy_psnr,
        ratings=rating_spec(spec),
        decision=DecisionSpec(
            metric=spec.decision.metric,
            level=spec.decision.level,
            minimum_clips=spec.decision.minimum_clips,
            weights=WeightSpec(**spec.decision.weights.model_dump()),
            seed=spec.decision.seed,
        ),
        gate=gate_spec(spec),
        price_per_gpu_hour=spec.price_per_gpu_hour,
    )


def candidate_spec(
    candidate: Candidate, resolved: EffectiveCandidate, namespace: str
) -> CandidateSpec:
    """A candidate, with what its fine-tune made."""
    by, made = candidate.acceleration, resolved.weights
    cost = resolved.training_gpu_seconds
    return CandidateSpec(
        name=candidate.name,
        preset=resolved.preset or None,
        weights=None if made is None else ManifestRef(uri=made.uri, sha256=made.sha256),
        adapter=adapter_file(candidate),
        service=service_address(candidate, namespace),
        videos=candidate.videos,
        profile=None if by is None else by.profile,
        step_cache=None if by is None else by.step_cache,
        attention=None if by is None or by.attention == "Auto" else by.attention,
        training=None
        if cost is None
        else TrainingCost(gpu_seconds=cost, gpu=resolved.training_gpu),
    )


def service_address(candidate: Candidate, namespace: str) -> ServiceAddress | None:
    """The API of a service of this namespace, and where its key is mounted."""
    service = candidate.service_ref
    if service is None:
        return None
    return ServiceAddress(
        url=f"http://{service.name}.{namespace}.svc",
        model=service.model,
        key_file=f"{API_KEY_PATH}/{service.key_secret_ref.key}",
    )


def adapter_file(candidate: Candidate) -> AdapterFile | None:
    adapter = candidate.adapter
    if adapter is None:
        return None
    named = {
        Expert.ONLY: adapter.uri,
        Expert.HIGH_NOISE: adapter.high_noise,
        Expert.LOW_NOISE: adapter.low_noise,
    }
    files = {expert: uri for expert, uri in named.items() if uri is not None}
    return AdapterFile(files=files, strength=adapter.strength)


def clips_spec(spec: WanEvaluationSpec, effective: EffectiveEvaluation) -> ClipsSpec:
    """The held-out clips of a fine-tune, or a dataset of which each clip is cut to the size of all
    videos."""
    prepared, dataset = effective.clips, spec.clips.dataset
    if prepared is not None:
        held_out = ManifestRef(uri=prepared.uri, sha256=prepared.sha256)
        return ClipsSpec(held_out=held_out, count=spec.clips.count)
    assert dataset is not None, "a rule of the schema"
    bucket = Bucket(width=effective.width, height=effective.height, frames=effective.frames)
    wanted = DatasetSpec(
        source=dataset.source,
        format=dataset.format,
        columns=Columns(**dataset.columns.model_dump()),
        buckets=(bucket,),
        fps=effective.fps,
        rejected_clips=dataset.rejected_clips,
    )
    return ClipsSpec(dataset=wanted, count=spec.clips.count)


def rating_spec(spec: WanEvaluationSpec) -> RatingSpec | None:
    return None if spec.ratings is None else RatingSpec(**spec.ratings.model_dump())


def gate_spec(spec: WanEvaluationSpec) -> GateSpec | None:
    gate = spec.gate
    if gate is None:
        return None
    return GateSpec(
        candidate=gate.candidate,
        baseline=gate.baseline,
        minimums={each.metric: each.value for each in gate.thresholds},
        largest_regressions={each.metric: each.value for each in gate.regressions},
    )
