"""What a service's status says of itself: numbers, and why it is or is not ready."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from wan_operator.api.v1alpha1.inference import QueueStatus, StartupStatus, WarmedSize
from wan_operator.conditions.merge import RECONCILING, STALLED, Wanted, merge
from wan_operator.conditions.service import (
    ADAPTERS_READY,
    EXCEEDED,
    MODEL_READY,
    READY,
    VOCABULARY,
    WAITING,
)
from wan_operator.reconcile.bounds import built
from wan_operator.reconcile.observed import Raw, condition, container_state, created, parse_time
from wan_operator.reconcile.service.causes import causes, obstacle
from wan_operator.reconcile.service.progress import deadline
from wan_operator.reconcile.service.rollout import is_stuck
from wan_operator.reconcile.service.state import Service, count
from wan_operator.resources.service.names import Part, name_of, selector
from wan_runtime.contract.reasons import NEEDS_SOMEBODY as LASTING
from wan_runtime.contract.reasons import OF_SECRETS
from wan_runtime.contract.report import WorkerReport


def numbered(service: Service) -> Service:
    """With what Deployments and workers show."""
    workers, gateway = [service.deployment(Part.WORKER)], service.deployment(Part.GATEWAY)
    ready = count(workers, "readyReplicas")
    service = service.with_status(
        # Of the pods that the selector finds: autoscalers take one for a count of the other.
        replicas=count(workers, "replicas"),
        ready_replicas=ready,
        ready_gateways=count([gateway], "readyReplicas"),
        selector=",".join(f"{k}={v}" for k, v in selector(service.owner, Part.WORKER).items()),
        ready=f"{ready}/{service.status.desired_replicas}",
    )
    return _measured(_queued(service))


def _queued(service: Service) -> Service:
    """With the queue, as often as progress is read."""
    report, before = service.report, service.status.queue
    if report is None:
        return service
    queue = report.queue
    fresh = built(
        QueueStatus,
        queued=queue.queued,
        running=queue.running,
        predicted_seconds=round(queue.predicted_seconds, 1),
        oldest_seconds=round(queue.oldest_seconds, 1),
        time=service.now,
    )
    if before is not None:
        age = (service.now - before.time).total_seconds()
        if age < service.settings.progress_seconds or _same(before, fresh):
            return service
    return service.with_status(queue=fresh)


def _same(before: QueueStatus, fresh: QueueStatus) -> bool:
    return before == fresh.model_copy(update={"time": before.time})


def _measured(service: Service) -> Service:
    """With what ready workers have measured; what none of them knows any more stays."""
    ready = [each for each in (service.report.workers if service.report else ()) if each.ready]
    if not ready:
        return service
    by_size: dict[str, list[float]] = {}
    for worker in ready:
        for size, seconds in worker.seconds_per_clip.items():
            by_size.setdefault(size, []).append(seconds)
    sizes = [
        built(WarmedSize, size=size, seconds=round(statistics.median(seconds), 1))
        for size, seconds in sorted(by_size.items())
    ]
    peaks = [each.peak_gib for each in ready if each.peak_gib is not None]
    pods = {pod["metadata"]["name"]: pod for pod in service.pods(Part.WORKER)}
    known = [each for each in ready if each.startup and each.pod in pods]
    newest = max(known, key=lambda each: created(pods[each.pod]), default=None)
    kernels = sorted({each.attention for each in ready if each.attention})
    return service.with_status(
        sizes=sizes or service.status.sizes,
        attention=", ".join(kernels) or service.status.attention,
        peak_gib=max(peaks, default=service.status.peak_gib),
        startup=_startup(pods[newest.pod], newest) if newest else service.status.startup,
    )


def _startup(pod: Raw, worker: WorkerReport) -> StartupStatus:
    scheduled = condition(pod, "PodScheduled")
    kind, state = container_state(pod, Part.WORKER.value)
    began = created(pod)
    placed = parse_time(scheduled["lastTransitionTime"]) if scheduled else began
    ran = parse_time(state["startedAt"]) if kind == "running" else None
    startup = worker.startup
    assert startup is not None
    return built(
        StartupStatus,
        scheduling=(placed - began).total_seconds(),
        pulling=(ran - placed).total_seconds() if ran else None,
        loading=round(startup.load_seconds, 1),
        compiling=round(startup.compile_seconds, 1),
        warming=round(startup.warm_up_seconds, 1),
    )


def with_conditions(service: Service, *news: Wanted) -> Service:
    """With conditions: `news`, what is not as the API server wants it, and whether it is ready."""
    refusals = list(service.observed.refused.values())
    refused = [Wanted(STALLED, True, each.reason, each.message) for each in refusals[:1]]
    wanted = [*refused, *news, *_rollout(service), *_readiness(service), *_parts(service)]
    merged = merge(
        service.status.conditions,
        first_of_each(wanted),
        service.generation,
        service.now,
        VOCABULARY,
        service.owner.namespace,
    )
    return service.with_status(conditions=merged)


def first_of_each(wanted: Iterable[Wanted]) -> list[Wanted]:
    by_type: dict[str, Wanted] = {}
    for each in wanted:
        by_type.setdefault(each.type, each)
    return list(by_type.values())


def _rollout(service: Service) -> list[Wanted]:
    rollout = service.status.rollout
    if rollout is None:
        return []
    if rollout.phase == "RolledBack":
        text = f"revision {rollout.revision} was rolled back: {rollout.message}"
        return [Wanted(STALLED, True, "RolledBack", text)]
    if is_stuck(service):
        seconds = deadline(service.spec.rollout, rollout.phase)
        text = (
            f"{rollout.message}. It has made no progress for "
            f"{seconds} s (spec.rollout.deadlineSeconds); workers "
            "that are ready serve on, and it goes on once the cause is mended or the change taken "
            "back"
        )
        return [Wanted(STALLED, True, EXCEEDED, text)]
    held = obstacle(service, Part.CANARY, Part.WORKER, revision=rollout.revision)
    by_phase = {"Waiting": WAITING, "Proving": "CanaryProving", "Gated": "CanaryGated"}
    reason = held.reason if held else by_phase.get(rollout.phase, "RollingOut")
    type_ = STALLED if held and held.final else RECONCILING
    return [Wanted(type_, True, reason, rollout.message or "it begins")]


def _readiness(service: Service) -> list[Wanted]:
    status, wanted = service.status, service.status.desired_replicas
    if not status.revision:
        return [Wanted(READY, False, "WorkersStarting", "nothing serves yet")]
    if service.faults:
        return _refusing(service)
    ready = count([service.deployment(Part.WORKER)], "readyReplicas")
    lacking = []
    if not status.ready_gateways:
        lacking.append((Part.GATEWAY, "GatewayStarting", "no pod of the gateway answers"))
    if ready < wanted:
        reason = "WorkersNotReady" if ready else "WorkersStarting"
        lacking.append((Part.WORKER, reason, f"{ready} of {wanted} workers take videos"))
    if lacking:
        return _not_ready(service, lacking)
    if wanted == 0:
        return _ready(service, "ScaledToZero", f"{status.url} answers; no worker is wanted")
    return _ready(service, "Serving", f"{ready} workers; {status.url} answers")


def _ready(service: Service, reason: str, text: str) -> list[Wanted]:
    """What serves, what of it does not, and what keeps a change from going on beside it."""
    held, lacking = obstacle(service, *Part), _lacking(service)
    text += f"; these adapters are not served: {lacking}" if lacking else ""
    if held is None:
        return [Wanted(READY, True, reason, text)]
    return [
        Wanted(READY, True, reason, f"{text}. A change waits: {held.message}"),
        Wanted(STALLED if held.final else RECONCILING, True, held.reason, held.message),
    ]


def _lacking(service: Service) -> str:
    """The adapters with a fault, and what it is."""
    bad = (each for each in service.status.adapters if each.reason)
    return "; ".join(f"{each.name}: {each.message}" for each in bad)


def _not_ready(service: Service, lacking: list[tuple[Part, str, str]]) -> list[Wanted]:
    """`lacking`: part, reason and words of what is not ready. The deepest cause leads."""
    found, texts = [], []
    for part, _, text in lacking:
        of_part = causes(service, part)
        said = of_part[0].message if of_part else _said(service) if part is Part.WORKER else ""
        texts.append(f"{text}: {said}" if said else text)
        found += of_part[:1]
    held = obstacle(service, *(part for part, _, _ in lacking)) or next(iter(found), None)
    reason, text = held.reason if held else lacking[0][1], "; ".join(texts)
    doing = STALLED if any(each.final for each in found) else RECONCILING
    return [Wanted(doing, True, reason, text), Wanted(READY, False, reason, text)]


def _refusing(service: Service) -> list[Wanted]:
    """What gateways say of store, database and keys, which workers need too: the cause of most else
    that is not ready. And what keeps a change, maybe the cure, from going on."""
    faults, held = service.faults, obstacle(service, *Part)
    reason, text = faults[0].reason, "; ".join(each.message for each in faults)
    text = f"requests fail: {text}"
    if any(each.reason in OF_SECRETS for each in faults):
        gateway = name_of(service.owner, Part.GATEWAY)
        text = (
            f"{text}. A change of a Secret reaches its pods within two minutes, or at once with "
            f"kubectl -n {service.owner.namespace} rollout restart deployment {gateway}"
        )
    if held is not None:
        text = f"{text}. A change waits: {held.message}"
    lasts = any(each.reason in LASTING for each in faults)
    doing = Wanted(STALLED if lasts else RECONCILING, True, reason, text)
    return [doing, Wanted(READY, False, reason, text)]


def _said(service: Service) -> str:
    """Problem that a worker reports, after its pod's name; empty if no worker reports one."""
    workers = service.report.workers if service.report else ()
    return next((f"{each.pod}: {each.problem}" for each in workers if each.problem), "")


def _parts(service: Service) -> list[Wanted]:
    made = []
    base = service.status.base_model
    if base is not None:
        done = base.artifact is not None
        reason = "ModelImported" if done else base.reason or "ImportingModel"
        made.append(Wanted(MODEL_READY, done, reason, base.message))
    made += _adapters(service)
    return made


def _adapters(service: Service) -> list[Wanted]:
    """Nothing, where there are none, or of files of which no worker has queue yet."""
    adapters = service.status.adapters
    texts = "; ".join(f"{each.name}: {each.message}" for each in adapters if each.message)
    bad = next((each for each in adapters if each.reason), None)
    if bad is not None:
        return [Wanted(ADAPTERS_READY, False, bad.reason, texts)]
    if adapters and all(each.ready_workers for each in adapters):
        return [Wanted(ADAPTERS_READY, True, "AdaptersLoaded", texts)]
    if any(each.files is None for each in service.spec.adapters):
        return [Wanted(ADAPTERS_READY, True, "FineTunesDone", texts)]
    return []
