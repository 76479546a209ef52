"""The service as its pods read it: workers know what they can render, gateways what they may
offer."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from wan_operator.api.v1alpha1.inference import (
    Effect,
    EffectiveService,
    WanInferenceServiceSpec,
)
from wan_operator.reconcile.gpus import gpu_by
from wan_operator.reconcile.service.adapters import reference, spec_of
from wan_operator.reconcile.service.finetunes import Followed
from wan_operator.reconcile.service.resolve import sampling_of, sizes_of
from wan_operator.reconcile.service.spread import parallel_of
from wan_operator.reconcile.service.state import Service
from wan_operator.reconcile.store import model_spec, store_spec
from wan_operator.resources.pods import GPU
from wan_operator.resources.service import network
from wan_operator.resources.service.gateway import SERVICE_KEY
from wan_operator.resources.service.names import Part, name_of
from wan_operator.resources.service.worker import Revision
from wan_operator.settings import Settings
from wan_runtime.contract.service import (
    DEFAULT_PROFILE,
    UNWRITTEN_STEP_CACHE,
    AdapterSpec,
    AdapterUse,
    EffectSpec,
    KeyLimit,
    LimitSpec,
    ModerationSpec,
    ResultSpec,
    SamplingSpec,
    ServiceSpec,
    Size,
)
from wan_runtime.contract.steps import Expert
from wan_runtime.planner.gpus import Gpu

HOUR = 3600
MEBIBYTE = 2**20
MEGAPIXEL = 1_000_000


def of_workers(
    service: Service, effective: EffectiveService, followed: Followed, *, with_ca: bool
) -> ServiceSpec:
    """Only what they act on: an effect that is edited must not replace a worker."""
    by = service.spec.acceleration
    spec, owner, base = service.spec, service.owner, service.status.base_model
    artifacts = {each.name: each.artifact for each in followed.adapters}
    return ServiceSpec(
        namespace=owner.namespace,
        name=owner.name,
        uid=owner.uid,
        cluster=service.settings.cluster_id or None,
        model=model_spec(spec.model),
        imported=reference(base.artifact if base else None),
        weights=reference(followed.weights),
        # Left out as older releases left them out: their workers keep their revision.
        profile=None if by.profile == DEFAULT_PROFILE else by.profile,
        step_cache=None if by.step_cache == UNWRITTEN_STEP_CACHE else by.step_cache,
        attention=None if by.attention == "Auto" else by.attention,
        parallel=parallel_of(spec),
        store=store_spec(effective.store, with_ca),
        sizes=sizes_of(spec),
        defaults=sampling_of(spec),
        adapters=tuple(spec_of(each, artifacts.get(each.name)) for each in spec.adapters),
        results=results_of(spec),
        moderation=moderation_of(spec),
    )


def results_of(spec: WanInferenceServiceSpec) -> ResultSpec:
    return ResultSpec(
        retention_seconds=spec.results.retention_hours * HOUR,
        presigned_seconds=spec.results.presigned_seconds,
        proxied=spec.results.delivery == "Proxied",
    )


def moderation_of(spec: WanInferenceServiceSpec) -> ModerationSpec | None:
    by = spec.moderation
    if by is None:
        return None
    return ModerationSpec(url=by.url, timeout_seconds=by.timeout_seconds, on_error=by.on_error)


def of_gateways(
    service: Service, worker: Revision, at_work: Sequence[Revision], planned: Revision | None
) -> ServiceSpec:
    """What every revision that is at work can render: a video may meet any of them, and each
    settles it by its own defaults. `worker`: of most workers. `at_work`: what serves first; of it
    are the sizes, where the others have none of them. `planned`: for the spec as it is now."""
    # Workers of an earlier release render an order as it is: it is made for them.
    old = (each for each in at_work if not _is_of_this_release(service, each))
    offered = next(old, worker)
    spec, limits, seen = service.spec, service.spec.limits, offered.spec
    frames = _frames(service, at_work, planned)
    adapters = [
        each
        for each in _with_schedules(service, offered)
        if all(_has(service, one, each) for one in at_work)
    ]
    specs = [each.spec for each in at_work]
    sizes = [each for each in seen.sizes if all(each in other.sizes for other in specs)]
    sizes = sizes or list(specs[0].sizes)
    names = {each.name for each in adapters}
    effects = [
        _effect(effect, sizes, frames)
        for effect in spec.effects
        if all(use.name in names for use in effect.adapters)
    ]
    gpu, gpus = gpus_of(offered, service.settings)
    catalogue = None if gpu is None else gpu.price_per_hour * gpus
    return seen.model_copy(
        update={
            "adapters": tuple(adapters),
            "sizes": tuple(sizes),
            "defaults": _within(seen.defaults, sizes, frames),
            "others": tuple(each for each in specs if each != seen) or None,
            "effects": tuple(effects),
            "results": results_of(spec),
            "moderation": moderation_of(spec),
            "limits": LimitSpec(
                queue_seconds=limits.queue_seconds,
                frames=frames,
                prompt_characters=limits.prompt_characters,
                upload_bytes=limits.upload_mebibytes * MEBIBYTE,
                image_pixels=limits.image_megapixels * MEGAPIXEL,
                url_references=limits.url_references,
                per_key=KeyLimit(
                    queued=limits.queued_per_key,
                    requests_per_minute=limits.requests_per_minute_per_key,
                ),
            ),
            "public_url": network.url(service.owner, spec.gateway),
            "webhook_private_hosts": tuple(spec.gateway.webhook_private_hosts) or None,
            "studio": spec.gateway.studio,
            "price_per_hour": spec.price_per_hour if spec.price_per_hour is not None else catalogue,
            "gpus": None if gpus == 1 else gpus,
            "gpu": gpu,
        }
    )


def _frames(service: Service, at_work: Sequence[Revision], planned: Revision | None) -> int:
    """Longest video of a request. A limit that is raised holds once all workers are those that were
    planned for it, with the host memory and the time to end a video that it takes; until then, the
    one that gateways have."""
    wanted, before = service.spec.limits.frames, accepted_frames(service)
    if before is None or (planned and all(each.name == planned.name for each in at_work)):
        return wanted
    return min(wanted, before)


def accepted_frames(service: Service) -> int | None:
    """Longest video that gateways accept now; None if that is not known."""
    found = service.child("ConfigMap", name_of(service.owner, Part.GATEWAY))
    try:
        written = ServiceSpec.model_validate_json(found["data"][SERVICE_KEY]) if found else None
    except (KeyError, ValidationError):  # edited by somebody, or of another release
        return None
    return None if written is None else written.limits.frames


def _has(service: Service, revision: Revision, adapter: AdapterSpec) -> bool:
    """Whether a revision has an adapter of this name; of these files, if its workers may not settle
    the schedule for themselves."""
    found = revision.spec.adapter(adapter.name)
    if found is None or adapter.distilled is None or _is_of_this_release(service, revision):
        return found is not None
    return found.files == adapter.files


def _is_of_this_release(service: Service, revision: Revision) -> bool:
    [worker] = revision.template["spec"]["containers"]
    return bool(worker["image"] == service.settings.runtime_image)


def _with_schedules(service: Service, offered: Revision) -> tuple[AdapterSpec, ...]:
    """Adapters of a revision. Releases that kept schedules for gateways alone left them out of what
    workers read, and their workers render an order as it is: it has the schedule of the spec, if
    that is for the same files."""
    if _is_of_this_release(service, offered):
        return offered.spec.adapters
    wanted = {each.name: spec_of(each, None) for each in service.spec.adapters}
    return tuple(
        each.model_copy(update={"distilled": wanted[each.name].distilled})
        if each.distilled is None and each.name in wanted and each.files == wanted[each.name].files
        else each
        for each in offered.spec.adapters
    )


def gpus_of(revision: Revision, settings: Settings) -> tuple[Gpu | None, int]:
    """Type and number of the GPUs of a revision's workers. Type None: not known."""
    pod = revision.template["spec"]
    gpu = gpu_by(pod.get("nodeSelector") or {}, settings.default_gpu, settings.gpu_catalogue)
    return gpu, int(pod["containers"][0]["resources"]["limits"][GPU])


def _within(sampling: SamplingSpec, sizes: Sequence[Size], frames: int) -> SamplingSpec:
    """Without a size that is not offered, and a length beyond the limit as it is now."""
    update: dict[str, None] = {}
    if sampling.size is not None and sampling.size not in sizes:
        update["size"] = None
    if sampling.frames is not None and sampling.frames > frames:
        update["frames"] = None
    return sampling.model_copy(update=update) if update else sampling


def _effect(effect: Effect, sizes: Sequence[Size], frames: int) -> EffectSpec:
    sampling = SamplingSpec.model_validate(effect.sampling.model_dump())
    return EffectSpec(
        name=effect.name,
        description=effect.description,
        adapters=tuple(
            AdapterUse(
                name=use.name,
                strength=use.strength,
                expert=None if use.expert is None else Expert(use.expert),
            )
            for use in effect.adapters
        ),
        prompt=effect.prompt,
        sampling=_within(sampling, sizes, frames),
        preview=effect.preview,
    )
