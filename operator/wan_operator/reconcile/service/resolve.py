"""What a service's spec comes to with the operator's settings, the preset and the planner."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from wan_operator.api.v1alpha1.common import Store
from wan_operator.api.v1alpha1.inference import (
    EffectiveDistance,
    EffectiveService,
    WanInferenceServiceSpec,
)
from wan_operator.reconcile import gpus
from wan_operator.reconcile.service.spread import parallel_of
from wan_operator.reconcile.store import resolve_store
from wan_operator.resources.jobs import TINY, Size, size_for
from wan_operator.settings import Settings
from wan_runtime.contract.sampling import Profile, StepCachePolicy, computed_steps
from wan_runtime.contract.service import SamplingSpec, layout_of
from wan_runtime.contract.service import Size as VideoSize
from wan_runtime.planner.distance import distance_of
from wan_runtime.planner.gpus import Gpu, measured_gpu
from wan_runtime.planner.host import plan_worker
from wan_runtime.planner.serving import plan_serving
from wan_runtime.planner.workload import Serving
from wan_runtime.presets import PRESETS, Preset

LEAST_DRAIN_SECONDS = 60
SLACK = 1.5
"""Ratio of a drain's seconds to the planner's: it covers the planner's error and the encoding of
text and first frame."""
NEAR = (0.9, 1.5)
"""Least and largest drain, over the one that is wanted, that does as well: a longer one costs
nothing but patience."""


class DatabaseNotConfiguredError(Exception):
    """Its text names the field and the Helm value."""


def resolve(
    spec: WanInferenceServiceSpec, settings: Settings, before: EffectiveService | None = None
) -> EffectiveService:
    """status.effective once workers of this spec serve; `before`: as it is in use. Raises
    StoreNotConfiguredError, DatabaseNotConfiguredError."""
    store = resolve_store(spec.store or Store(), settings)
    database = spec.database.secret_ref.name if spec.database else settings.database_secret
    if not database:
        text = "set spec.database.secretRef.name (or the Helm value database.secretName)"
        raise DatabaseNotConfiguredError(text)
    sampling, gpu = sampling_of(spec), gpu_of(spec, settings)
    usual = None if gpu is None or _preset(spec).tiny else plan_serving(work(spec), gpu)
    guidance = _preset(spec).guidance if sampling.guidance is None else sampling.guidance
    return EffectiveService(
        store=store,
        database_secret=database,
        sizes=[str(size) for size in sizes_of(spec)],
        frames=sampling.frames or _preset(spec).frames,
        fps=sampling.fps or _preset(spec).fps,
        steps=sampling.steps or _preset(spec).inference_steps,
        guidance=guidance,
        parallelism=layout_of(spec.workers.gpus, parallel_of(spec)),
        distance=distance(spec),
        gpu="" if gpu is None else gpu.name,
        predicted_seconds=None if usual is None else round(usual.seconds_per_clip, 1),
        peak_gib=None if usual is None else round(usual.gib, 1),
        drain_seconds=spec.workers.drain_seconds or drain_seconds(spec, gpu, before),
        gateway_image=settings.operator_image,
        worker_image=settings.runtime_image,
    )


def unchanged(before: EffectiveService | None, effective: EffectiveService) -> EffectiveService:
    """status.effective while workers of an earlier spec serve. `before`: of theirs; None: there are
    none. What gateways have is that of the spec at once."""
    if before is None:
        return effective
    at_once = {"store", "database_secret", "gateway_image"}
    return before.model_copy(update={name: getattr(effective, name) for name in at_once})


def distance(spec: WanInferenceServiceSpec) -> EffectiveDistance | None:
    """Distance of the service's profile from Lossless; None: not measured, or Lossless itself."""
    preset, by = _preset(spec), spec.acceleration
    if by.attention not in ("Auto", "FlashAttention-3 FP8"):  # which the rows were measured with
        return None
    steps = sampling_of(spec).steps or preset.inference_steps
    found = distance_of(preset, by.profile, by.step_cache, steps)
    if found is None:
        return None
    return EffectiveDistance(
        kernels=found.kernels, skipped_steps=found.skipped, measured_on=found.model
    )


def sampling_of(spec: WanInferenceServiceSpec) -> SamplingSpec:
    """The service's own defaults. Of a model whose videos are longer than requests may be, the
    length is the longest of these: workers warm up with it, and it is planned."""
    own = SamplingSpec.model_validate(spec.defaults.model_dump())
    if own.frames is None and _preset(spec).frames > spec.limits.frames:
        return own.model_copy(update={"frames": spec.limits.frames})
    return own


def sizes_of(spec: WanInferenceServiceSpec) -> tuple[VideoSize, ...]:
    """The default first."""
    preset = _preset(spec)
    listed = [VideoSize(width=each.width, height=each.height) for each in spec.sizes or ()]
    sizes = listed or [VideoSize(width=preset.width, height=preset.height)]
    first = sampling_of(spec).size
    return tuple(sorted(sizes, key=lambda size: size != first)) if first else tuple(sizes)


def gpu_of(spec: WanInferenceServiceSpec, settings: Settings) -> Gpu | None:
    """GPU type of the service's workers; None if it is not known."""
    template = spec.workers.pod_template
    return gpus.gpu_of(template, settings.default_gpu, settings.gpu_catalogue)


def work(spec: WanInferenceServiceSpec, *, longest: bool = False) -> Serving:
    """A video of the default size and length; or of the largest that a request may ask for."""
    sampling, by = sampling_of(spec), spec.acceleration
    return planned_video(
        preset=_preset(spec),
        sampling=sampling,
        sizes=sizes_of(spec),
        frames=spec.limits.frames if longest else None,
        profile=by.profile,
        policy=by.step_cache,
        gpus=spec.workers.gpus,
    )


def planned_video(
    *,
    preset: Preset,
    sampling: SamplingSpec,
    sizes: Sequence[VideoSize],
    frames: int | None,
    profile: Profile,
    policy: StepCachePolicy,
    gpus: int,
) -> Serving:
    """A video for the planner: of so many `frames` and the largest of `sizes`, with the slowest
    profile that a request may name; None: of the default length, the first of them and `profile`.
    """
    size = sizes[0]
    if frames is not None:
        size = max(sizes, key=lambda each: each.width * each.height)
        profile = "Exact" if profile == "Exact" else "Lossless"
    guidance = preset.guidance if sampling.guidance is None else sampling.guidance
    low = guidance if sampling.guidance_low is None else sampling.guidance_low
    steps = sampling.steps or preset.inference_steps
    return Serving(
        preset=preset.name,
        frames=frames or sampling.frames or preset.frames,
        width=size.width,
        height=size.height,
        steps=steps,
        computed=computed_steps(profile, steps, policy),
        guided=guidance != 1.0 or low != 1.0,
        gpus=gpus,
        profile=profile,
    )


def drain_seconds(
    spec: WanInferenceServiceSpec, gpu: Gpu | None, before: EffectiveService | None = None
) -> int:
    """For the longest video at the usual number of steps; of an unknown GPU, as if it were the one
    that was measured. What is in use stays where it is near enough: another would replace all
    workers, for a planner that was fitted anew."""
    if _preset(spec).tiny:
        return LEAST_DRAIN_SECONDS
    seconds = plan_serving(work(spec, longest=True), gpu or measured_gpu()).seconds_per_clip
    wanted = max(LEAST_DRAIN_SECONDS, math.ceil(SLACK * seconds))
    least, most = (share * wanted for share in NEAR)
    near = before is not None and least <= before.drain_seconds <= most
    return before.drain_seconds if before is not None and near else wanted


def pod_size(spec: WanInferenceServiceSpec, settings: Settings) -> Size:
    """What a worker's pod asks for."""
    if _preset(spec).tiny:
        return replace(TINY, cpu="100m")
    source = spec.model.source
    fetches = source is not None and source.s3 is not None and not settings.model_cache
    host = plan_worker(work(spec, longest=True), fetches_model=fetches)
    return size_for(host, cpu=4 + 4 * spec.workers.gpus)


def _preset(spec: WanInferenceServiceSpec) -> Preset:
    return PRESETS[spec.model.preset]
