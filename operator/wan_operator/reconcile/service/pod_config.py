"""The service as its pods read it: workers know what they can render, gateways what they may
offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wan_operator.api.v1alpha1.inference import Effect, EffectiveService
from wan_operator.reconcile.service.adapters import files_of, reference, spec_of
from wan_operator.reconcile.service.finetunes import Followed
from wan_operator.reconcile.service.resolve import gpu_of, parallel_of, sampling_of, sizes_of
from wan_operator.reconcile.service.state import Service
from wan_operator.reconcile.store import model_spec, store_spec
from wan_operator.resources.service import network
from wan_runtime.contract.service import (
    DEFAULT_PROFILE,
    UNWRITTEN_STEP_CACHE,
    AdapterUse,
    Distilled,
    EffectSpec,
    KeyLimit,
    LimitSpec,
    ModerationSpec,
    ResultSpec,
    SamplingSpec,
    ServiceSpec,
)
from wan_runtime.contract.steps import Expert

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
        results=ResultSpec(
            retention_seconds=spec.results.retention_hours * HOUR,
            presigned_seconds=spec.results.presigned_seconds,
            proxied=spec.results.delivery == "Proxied",
        ),
        moderation=(
            ModerationSpec(
                url=spec.moderation.url,
                timeout_seconds=spec.moderation.timeout_seconds,
                on_error=spec.moderation.on_error,
            )
            if spec.moderation
            else None
        ),
    )


def of_gateways(
    service: Service, desired: ServiceSpec, at_work: Sequence[ServiceSpec]
) -> ServiceSpec:
    """What every revision that is at work can render: a video may meet any of them. Of a distilled
    adapter all must have the files that its schedule is for."""
    spec, limits = service.spec, service.spec.limits
    schedules = {
        each.name: Distilled(**each.distilled.model_dump())
        for each in spec.adapters
        if each.distilled is not None
    }
    files = {each.name: files_of(each.files) for each in spec.adapters if each.name in schedules}
    adapters = [
        each.model_copy(update={"distilled": schedules.get(each.name)})
        for each in desired.adapters
        if all(_has(w, each.name, files.get(each.name)) for w in (desired, *at_work))
    ]
    sizes = [each for each in desired.sizes if all(each in other.sizes for other in at_work)]
    offered = {each.name for each in adapters}
    effects = [
        effect for effect in spec.effects if all(use.name in offered for use in effect.adapters)
    ]
    gpu = gpu_of(spec, service.settings)
    catalogue = None if gpu is None else gpu.price_per_hour * spec.workers.gpus
    return desired.model_copy(
        update={
            "adapters": tuple(adapters),
            "sizes": tuple(sizes or desired.sizes),
            "effects": tuple(map(_effect, effects)),
            "limits": LimitSpec(
                queue_seconds=limits.queue_seconds,
                frames=limits.frames,
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
        }
    )


def _has(service: ServiceSpec, name: str, files: Mapping[Expert, str] | None) -> bool:
    """Whether a revision has an adapter of this name, and of these files, if any are given."""
    found = service.adapter(name)
    return found is not None and files in (None, found.files)


def _effect(effect: Effect) -> EffectSpec:
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
        sampling=SamplingSpec.model_validate(effect.sampling.model_dump()),
        preview=effect.preview,
    )
