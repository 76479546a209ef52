"""Decisions on a WanInferenceService: (resource, observed children) -> decision. Pure and
level-based.

What the spec asks for becomes a revision of the workers once everything that it names is there; the
rollout leads from the revision that serves to that one. Whatever is awaited or wrong, what serves
goes on serving.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from wan_operator.api.v1alpha1.inference import (
    NAME_LIMIT,
    EffectiveService,
    WanInferenceServiceStatus,
)
from wan_operator.conditions.merge import RECONCILING, STALLED, Wanted
from wan_operator.conditions.service import READY, VOCABULARY, WAITING
from wan_operator.reconcile import stall
from wan_operator.reconcile.decision import Decision, Delete
from wan_operator.reconcile.gpus import is_fit_checked
from wan_operator.reconcile.observed import (
    Observed,
    Raw,
    container_state,
    is_deleting,
    is_ours,
    label,
)
from wan_operator.reconcile.service import base_model, canary, pod_config
from wan_operator.reconcile.service.adapters import as_served
from wan_operator.reconcile.service.causes import asks_warnings, refused
from wan_operator.reconcile.service.events import changes
from wan_operator.reconcile.service.finetunes import Followed, followed
from wan_operator.reconcile.service.fit import refusal, refused_change
from wan_operator.reconcile.service.found import NEEDS_SOMEBODY
from wan_operator.reconcile.service.mend import mended, resyncs
from wan_operator.reconcile.service.progress import deadline
from wan_operator.reconcile.service.resolve import (
    DatabaseNotConfiguredError,
    pod_size,
    resolve,
    unchanged,
)
from wan_operator.reconcile.service.rollout import Course, course, under_way
from wan_operator.reconcile.service.rollout import numbered as numbered_share
from wan_operator.reconcile.service.run import PART
from wan_operator.reconcile.service.scale import may_resize, resized, scaled
from wan_operator.reconcile.service.state import WORKERS, Service, is_ready, partly, read
from wan_operator.reconcile.service.status import numbered, with_conditions
from wan_operator.reconcile.service.store import other_store
from wan_operator.reconcile.stall import unreadable
from wan_operator.reconcile.store import StoreNotConfiguredError, ca_bundle, cache_volume
from wan_operator.reconcile.waiting import RETRY_SECONDS
from wan_operator.resources.labels import Manifest
from wan_operator.resources.service import gateway, network, worker
from wan_operator.resources.service.gateway import GatewayPods
from wan_operator.resources.service.names import COMPONENT, Part
from wan_operator.resources.service.worker import Revision, WorkerPods
from wan_operator.settings import Settings

READ_SECONDS = 5.0
"""While something is under way, or the number of workers follows the queue."""
KEPT = frozenset({"Job", "Pod", "ReplicaSet"})
"""Kinds of children that go by themselves or stay for their logs."""


def reconcile(cr: Raw, observed: Observed, settings: Settings, now: datetime) -> Decision:
    """What is to be done about `cr` now. Asked again without a change in between, the answer
    changes nothing."""
    if not is_ours(cr):
        return Decision()
    try:
        service = read(cr, observed, settings, now)
    except ValidationError as error:
        known = partly(cr, observed, settings, now)
        return held(cr, known, "SpecInvalid", unreadable(error), now)
    if len(service.owner.name) > NAME_LIMIT:
        text = f"metadata.name is longer than {NAME_LIMIT} characters: its children append to it"
        return held(cr, service, "SpecInvalid", text, now)
    try:
        effective = resolve(service.spec, settings, service.status.effective)
    except ValidationError as error:
        return held(cr, service, "SpecInvalid", unreadable(error), now)
    except StoreNotConfiguredError as error:
        return held(cr, service, "StoreNotConfigured", str(error), now)
    except DatabaseNotConfiguredError as error:
        return held(cr, service, "DatabaseNotConfigured", str(error), now)
    other = other_store(service, effective)
    if other is not None:
        return unacted(cr, service, Wanted(STALLED, True, "StoreChanged", other))
    if is_fit_checked(cr):
        too_large = refused_change(service)
        if too_large is not None:
            news = [Wanted(STALLED, True, "DoesNotFit", too_large)]
            return serve(service, effective, None, news, base_model.Import(service=service))
        too_large = None if service.status.revision else refusal(service.spec, settings)
        if too_large is not None:
            return stalled(cr, "DoesNotFit", too_large, now)
    base = base_model.imported(service, effective)
    found = followed(base.service)
    service = base.service.with_status(
        adapters=found.adapters, weights=found.weights, next_weights=None
    )
    news = awaited(base, found)
    desired = revision_of(service, effective, found) if not news else None
    return serve(service, effective, desired, news, base)


def awaited(base: base_model.Import, found: Followed) -> list[Wanted]:
    """What is not there yet of what the spec names; empty if all is."""
    news = []
    if base.reason:
        type_ = STALLED if base.final else RECONCILING
        news.append(Wanted(type_, True, base.reason, base.message))
    for each in found.missing:
        type_ = STALLED if each.reason in NEEDS_SOMEBODY else RECONCILING
        news.append(Wanted(type_, True, each.reason, each.message))
    return news


def revision_of(service: Service, effective: EffectiveService, found: Followed) -> Revision:
    """Revision of the workers that the spec describes; as it is kept, if it is."""
    spec, settings = service.spec, service.settings
    source, bundle = spec.model.source, ca_bundle(spec.store, settings)
    fetches = source is not None and source.s3 is not None
    made = Revision.of(
        WorkerPods(
            owner=service.owner,
            spec=spec.workers,
            service=pod_config.of_workers(service, effective, found, with_ca=bundle is not None),
            size=pod_size(spec, settings),
            drain_seconds=effective.drain_seconds,
            image=settings.runtime_image,
            pull_policy=settings.image_pull_policy,
            pull_secrets=settings.image_pull_secrets,
            store_secret=effective.store.secret_name,
            database_secret=effective.database_secret,
            ca_bundle=bundle,
            model_volume=source.persistent_volume_claim if source else None,
            model_cache=cache_volume(settings) if fetches else None,
        )
    )
    kept = service.revision(made.name)
    return kept if kept is not None and kept.is_intact else made


def serve(
    service: Service,
    effective: EffectiveService,
    desired: Revision | None,
    news: list[Wanted],
    base: base_model.Import,
) -> Decision:
    """`desired` None: what serves goes on, if anything does."""
    before, planned = service, desired
    desired = desired or service.revision(service.status.revision)
    service = scaled(service.with_status(effective=unchanged(service.status.effective, effective)))
    if desired is None:
        cause = min(news, key=lambda each: each.type != STALLED)
        unready = Wanted(READY, False, cause.reason, cause.message)
        service = service.with_status(revision="", ready="", effective=effective)
        service = with_conditions(as_served(service, None), *news, unready)
        return Decision(
            children=base.children,
            deletes=base.deletes,
            status=service.dump(),
            resyncs=base.resyncs,
            events=(*base.events, *changes(base.service, service)),
            asks_warnings=base.asks_warnings,
            asks_workloads=base.asks_workloads,
            requeue_after=base.requeue_after,
        )
    taken = course(service, desired)
    service = taken.service.with_status(url=network.url(service.owner, service.spec.gateway))
    serving = before.revision(service.status.revision)
    if planned is not None and planned.name == service.status.revision:
        service, serving = service.with_status(effective=effective), planned
    service = with_conditions(numbered(as_served(service, serving)), *news)
    wanted = children(before, service, effective, taken, planned)
    return Decision(
        children=(*base.children, *wanted),
        deletes=(*base.deletes, *leftovers(service, wanted)),
        status=service.dump(),
        resyncs=(*base.resyncs, *resyncs(before)),
        events=(*base.events, *changes(base.service, service, news)),
        asks_warnings=base.asks_warnings or asks_warnings(before),
        asks_workloads=base.asks_workloads,
        asks_room=taken.asks_room,
        room_left=taken.room_left,
        requeue_after=requeue_after(service),
    )


def children(
    before: Service,
    service: Service,
    effective: EffectiveService,
    taken: Course,
    planned: Revision | None,
) -> tuple[Manifest, ...]:
    """All that runs, in an order in which nothing starts before what it mounts. `planned`: the
    revision that the spec describes; None while what it names is awaited."""
    owner, spec, settings = service.owner, service.spec, service.settings
    serving = before.revision(before.status.revision)
    at_work = {each.name: each for each in (serving, taken.worker, taken.canary) if each}
    # Gateways tell of what most videos meet: while a canary is tried out, of what it would replace.
    view = pod_config.of_gateways(service, taken.worker, [*at_work.values()], planned)
    pods = GatewayPods(
        owner=owner,
        spec=spec.gateway,
        service=view,
        image=settings.operator_image,
        pull_policy=settings.image_pull_policy,
        pull_secrets=settings.image_pull_secrets,
        store_secret=effective.store.secret_name,
        database_secret=effective.database_secret,
        ca_bundle=ca_bundle(spec.store, settings),
    )
    made = (
        gateway.config_map(pods),
        gateway.rollout_map(owner, numbered_share(service, taken.share)),
        *(worker.config_map(owner, each) for each in at_work.values()),
        *network.policies(owner),
        *network.budgets(owner),
        network.service(owner),
        gateway.kept(gateway.deployment(pods), service.deployment(Part.GATEWAY)),
        *deployments(service, taken),
        *network.exposed(owner, spec.gateway),
    )
    return tuple(mended(before, each) if each["kind"] == "Deployment" else each for each in made)


def deployments(service: Service, taken: Course) -> list[Manifest]:
    """Those of the workers, and of the canary's if there is one."""
    owner, rollout = service.owner, service.spec.rollout
    strategy = worker.RECREATE if rollout.strategy == "Recreate" else worker.SURGE
    seconds = deadline(rollout, "Starting")
    workers = worker.deployment(
        owner, taken.worker, Part.WORKER, strategy=strategy, deadline_seconds=seconds,
        replicas=service.status.desired_replicas,
    )  # fmt: skip
    tried = taken.canary and worker.deployment(
        owner, taken.canary, Part.CANARY, strategy=worker.SURGE, deadline_seconds=seconds,
        replicas=canary.wanted(service).replicas,
    )  # fmt: skip
    return [workers, *([tried] if tried else [])]


def leftovers(service: Service, wanted: tuple[Manifest, ...]) -> tuple[Delete, ...]:
    """Children that the spec asks for no more."""
    names = {(each["kind"], each["metadata"]["name"]) for each in wanted}
    imports = f"{service.owner.name}-{PART}"
    return tuple(
        Delete.of(each, kind)
        for kind in service.observed.children
        if kind not in KEPT
        for each in service.own(kind)
        if (kind, each["metadata"]["name"]) not in names and each["metadata"]["name"] != imports
    )


def requeue_after(service: Service) -> float:
    """The queue is known only when it is read, and so is room on nodes."""
    if any(refused(service, part) for part in Part):
        return RETRY_SECONDS
    why = {
        each.reason
        for each in service.status.conditions
        if each.type in (RECONCILING, STALLED) and each.status == "True"
    }
    if why - {WAITING} or service.spec.autoscaling is not None:
        return READ_SECONDS
    return max(READ_SECONDS, service.settings.progress_seconds)


def unacted(cr: Raw, service: Service, cause: Wanted) -> Decision:
    """For a change that is not acted on: all stays as it is, and its status is that of what serves.
    A rollout under way goes on, or back: both of its revisions are kept. So does autoscaling."""
    is_read = "rollout" not in cr["spec"] or "rollout" in service.spec.model_fields_set
    resizes = may_resize(service)
    now = scaled(service) if resizes else service
    number = "follows spec.autoscaling" if resizes else "stays as it is"
    cause = replace(cause, message=f"{cause.message}; the number of workers {number}")
    taken = under_way(now) if is_read else None
    after = with_conditions(numbered(taken.service if taken else now), cause)
    workers = resized(after) if resizes and taken is None else None
    wanted = [] if workers is None else [workers]
    gone: list[Delete] = []
    if taken is not None:
        wanted.append(gateway.rollout_map(service.owner, numbered_share(after, taken.share)))
        wanted += [mended(service, each) for each in deployments(after, taken)]
        tried = service.deployment(Part.CANARY)
        gone += [Delete.of(tried, "Deployment")] if tried and not taken.canary else []
    return Decision(
        children=tuple(wanted),
        deletes=tuple(gone),
        status=after.dump(),
        events=changes(service, after),
        requeue_after=requeue_after(after),
    )


def held(cr: Raw, service: Service | None, reason: str, message: str, now: datetime) -> Decision:
    """For a spec that cannot be acted on until somebody changes something. `service`: None if not
    even its status can be read."""
    if service is None or not service.status.revision:
        return stalled(cr, reason, message, now)
    text = f"{message}. Until that is mended no change is acted on, and what serves goes on"
    return unacted(cr, service, Wanted(STALLED, True, reason, text))


def stalled(cr: Raw, reason: str, message: str, now: datetime) -> Decision:
    """For a resource of which nothing more is known than this: what serves goes on, and whether it
    is ready is not known; where nothing serves, nothing is."""
    ready = None if cr.get("status", {}).get("revision") else False
    wanted = [Wanted(STALLED, True, reason, message), Wanted(READY, ready, reason, message)]
    return stall.stalled(
        cr,
        reason,
        message,
        now,
        wanted=lambda previous: wanted,
        vocabulary=VOCABULARY,
        status=WanInferenceServiceStatus,
    )


def addresses(cr: Raw, observed: Observed, settings: Settings, now: datetime) -> Mapping[str, str]:
    """Addresses of gateways: any of them reports on the whole service. Two, in case one is just
    going. And of two workers that are not ready, which may wait as a gateway does."""
    newest = sorted(
        (pod for pod in observed.pods if _is_heard(pod)),
        key=lambda pod: str(pod["metadata"]["creationTimestamp"]),
        reverse=True,
    )
    gateways = [pod for pod in newest if label(pod, COMPONENT) == Part.GATEWAY]
    workers = [pod for pod in newest if label(pod, COMPONENT) in WORKERS and not is_ready(pod)]
    return {
        pod["metadata"]["name"]: pod["status"]["podIP"] for pod in (*gateways[:2], *workers[:2])
    }


def _is_heard(pod: Raw) -> bool:
    """Whether it runs, and has an address."""
    container: str = pod["spec"]["containers"][0]["name"]
    runs = container_state(pod, container)[0] == "running"
    return bool(runs and not is_deleting(pod) and pod["status"].get("podIP"))
