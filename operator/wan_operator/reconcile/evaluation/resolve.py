"""What an evaluation comes to when it begins: its candidates with their weights, its clips, its
size."""

from __future__ import annotations

from collections.abc import Sequence

from wan_operator.api.v1alpha1.common import Artifact, EffectiveStore, Store
from wan_operator.api.v1alpha1.evaluation import Candidate, WanEvaluationSpec
from wan_operator.api.v1alpha1.evaluation_status import EffectiveCandidate, EffectiveEvaluation
from wan_operator.reconcile.bounds import built
from wan_operator.reconcile.evaluation import finetunes
from wan_operator.reconcile.evaluation.finetunes import FineTune, Missing
from wan_operator.reconcile.evaluation.plan import EvaluationRun
from wan_operator.reconcile.observed import Key
from wan_operator.reconcile.store import resolve_store
from wan_operator.resources.labels import Owner
from wan_operator.settings import Settings
from wan_runtime.contract.dataset import Bucket
from wan_runtime.presets import PRESETS


def resolved(run: EvaluationRun) -> EffectiveEvaluation | list[Missing]:
    """What it begins with; or what it waits for. Raises StoreNotConfiguredError."""
    spec, owner = run.spec, run.owner
    store = resolve_store(spec.store or Store(), run.settings)
    found = {
        key.name: finetunes.find(key.name, run.observed.followed.get(key), owner.namespace, store)
        for key in _named(spec, owner)
    }
    missing = [each for each in found.values() if isinstance(each, Missing)]
    ready = {name: each for name, each in found.items() if isinstance(each, FineTune)}
    candidates: list[EffectiveCandidate] = []
    for candidate in spec.candidates:
        name = candidate.fine_tune_ref.name if candidate.fine_tune_ref else None
        made = None if name is None or name not in ready else finetunes.weights(name, ready[name])
        unfit = None if name is None else _unfit(candidate, ready.get(name))
        if isinstance(made, Missing):
            missing.append(made)
        elif unfit is not None:
            missing.append(unfit)
        elif name is None or made is not None:
            candidates.append(candidate_of(candidate, ready.get(name or ""), made))
    clips: Artifact | Missing | None = None
    source = spec.clips.fine_tune_ref
    if source is not None and source.name in ready:
        clips = finetunes.clips(source.name, ready[source.name])
    if isinstance(clips, Missing):
        missing.append(clips)
    if missing or isinstance(clips, Missing):
        return missing
    trained = ready[source.name].status.effective if source is not None else None
    buckets = [] if trained is None else [Bucket(**each.model_dump()) for each in trained.buckets]
    recorded = None if trained is None or not buckets else (buckets[0], trained.fps)
    size, fps = size_of(spec, candidates, recorded)
    return EffectiveEvaluation(
        store=store,
        image=run.settings.runtime_image,
        run_prefix=_run_prefix(owner, store),
        width=size.width,
        height=size.height,
        frames=size.frames,
        fps=fps,
        clips=clips,
        candidates=candidates,
    )


def _unfit(candidate: Candidate, run: FineTune | None) -> Missing | None:
    """Why weights of a fine-tune cannot be rendered as the candidate says."""
    acceleration = candidate.acceleration
    if run is None or acceleration is None or acceleration.step_cache != "TeaCache":
        return None
    preset = run.spec.model.preset
    if PRESETS[preset].teacache is not None:
        return None
    text = (
        f"candidate {candidate.name} has TeaCache, which was never fitted for {preset}: take "
        "EasyCache"
    )
    return Missing("FineTuneUnsuitable", text)


def refreshed(
    before: EffectiveEvaluation, spec: WanEvaluationSpec, settings: Settings
) -> EffectiveEvaluation:
    """With what follows the settings while a run is at work: endpoint, region, Secret and image.
    Bucket and prefix stay, where its artifacts lie. Raises StoreNotConfiguredError."""
    store = resolve_store(spec.store or Store(), settings)
    pinned = {"bucket": before.store.bucket, "prefix": before.store.prefix}
    update = {"store": store.model_copy(update=pinned), "image": settings.runtime_image}
    return before.model_copy(update=update)


def _named(spec: WanEvaluationSpec, owner: Owner) -> list[Key]:
    raw = spec.model_dump(by_alias=True, exclude_none=True)
    return [*finetunes.follows({"spec": raw, "metadata": {"namespace": owner.namespace}})]


def candidate_of(
    candidate: Candidate, run: FineTune | None, weights: Artifact | None = None
) -> EffectiveCandidate:
    """A candidate with its base model: that of its fine-tune, if it names one."""
    model = run.spec.model if run is not None else candidate.model
    source = model.source if model is not None else None
    claim = source.persistent_volume_claim if source is not None else None
    trained = run.status.effective if run is not None else None
    plan = trained.plan if trained is not None else None
    method = "" if run is None else "LoRA" if run.spec.method.lora is not None else "Full"
    return built(
        EffectiveCandidate,
        name=candidate.name,
        preset=model.preset if model is not None else "",
        s3=(source.s3 if source is not None else None) or "",
        claim_name=claim.claim_name if claim is not None else "",
        claim_path=claim.path if claim is not None else "",
        fine_tune=candidate.fine_tune_ref.name if candidate.fine_tune_ref is not None else "",
        method=method,
        weights=weights,
        training_gpu_seconds=None if run is None else run.gpu_seconds,
        training_gpu="" if plan is None else plan.gpu,
    )


def size_of(
    spec: WanEvaluationSpec,
    candidates: Sequence[EffectiveCandidate],
    recorded: tuple[Bucket, int] | None,
) -> tuple[Bucket, int]:
    """(size and length, frames per second) of all videos: the spec's, else those of the first
    preset.

    Args:
        recorded: the same of the fine-tune whose held-out clips they are, the largest if it has
            several; None for a dataset.
    """
    sampling = spec.sampling
    named = next((PRESETS[each.preset] for each in candidates if each.preset), None)
    if recorded is not None:
        bucket, fps = recorded
    elif named is not None:
        bucket = Bucket(width=named.width, height=named.height, frames=named.frames)
        fps = int(named.fps)
    else:
        bucket, fps = Bucket(width=0, height=0, frames=0), 0  # a rule asks for the spec's
    size = sampling.size or bucket
    frames = sampling.frames or bucket.frames
    return Bucket(width=size.width, height=size.height, frames=frames), sampling.fps or fps


def _run_prefix(owner: Owner, store: EffectiveStore) -> str:
    parts = (store.prefix, owner.namespace, owner.name, owner.uid[:8])
    return f"s3://{store.bucket}/" + "/".join(part for part in parts if part)
