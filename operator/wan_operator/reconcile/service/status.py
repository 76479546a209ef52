"""What a service's status says of itself: numbers, and why it is or is not ready."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from wan_operator.api.v1alpha1.inference import QueueStatus, StartupStatus, WarmedSize
from wan_operator.conditions.merge import RECONCILING, STALLED, Wanted, merge
from wan_operator.conditions.service import ADAPTERS_READY, MODEL_READY, READY, VOCABULARY, WAITING
from wan_operator.reconcile.bounds import built
from wan_operator.reconcile.observed import Raw, condition, container_state, created, parse_time
from wan_operator.reconcile.service.pods import trouble
from wan_operator.reconcile.service.state import Moment, count
from wan_operator.resources.service import network
from wan_operator.resources.service.names import Part, selector
from wan_runtime.contract.report import WorkerReport

NEEDS_SOMEBODY = frozenset({"FineTuneNotFound", "FineTuneFailed", "FineTuneUnsuitable"})


def numbered(moment: Moment) -> Moment:
    """With what Deployments and workers show."""
    workers, gateway = [moment.deployment(Part.WORKER)], moment.deployment(Part.GATEWAY)
    ready = count(workers, "readyReplicas")
    moment = moment.with_status(
        url=network.url(moment.owner, moment.spec.gateway),
        # Of the pods that the selector finds: autoscalers take one for a count of the other.
        replicas=count(workers, "replicas"),
        ready_replicas=ready,
        ready_gateways=count([gateway], "readyReplicas"),
        selector=",".join(f"{k}={v}" for k, v in selector(moment.owner, Part.WORKER).items()),
        ready=f"{ready}/{moment.status.desired_replicas}",
    )
    return _measured(_queued(moment))


def _queued(moment: Moment) -> Moment:
    """With the queue, as often as progress is told."""
    report, before = moment.report, moment.status.queue
    if report is None:
        return moment
    told = report.queue
    fresh = built(
        QueueStatus,
        queued=told.queued,
        running=told.running,
        predicted_seconds=round(told.predicted_seconds, 1),
        oldest_seconds=round(told.oldest_seconds, 1),
        time=moment.now,
    )
    if before is not None:
        age = (moment.now - before.time).total_seconds()
        if age < moment.settings.progress_seconds or _same(before, fresh):
            return moment
    return moment.with_status(queue=fresh)


def _same(before: QueueStatus, fresh: QueueStatus) -> bool:
    return before == fresh.model_copy(update={"time": before.time})


def _measured(moment: Moment) -> Moment:
    """With what ready workers have measured; what none of them knows any more stays."""
    ready = [each for each in (moment.report.workers if moment.report else ()) if each.ready]
    if not ready:
        return moment
    by_size: dict[str, list[float]] = {}
    for worker in ready:
        for size, seconds in worker.seconds_per_clip.items():
            by_size.setdefault(size, []).append(seconds)
    sizes = [
        built(WarmedSize, size=size, seconds=round(statistics.median(seconds), 1))
        for size, seconds in sorted(by_size.items())
    ]
    peaks = [each.peak_gib for each in ready if each.peak_gib is not None]
    pods = {pod["metadata"]["name"]: pod for pod in moment.pods(Part.WORKER)}
    known = [each for each in ready if each.startup and each.pod in pods]
    newest = max(known, key=lambda each: created(pods[each.pod]), default=None)
    return moment.with_status(
        sizes=sizes or moment.status.sizes,
        peak_gib=max(peaks, default=moment.status.peak_gib),
        startup=_startup(pods[newest.pod], newest) if newest else moment.status.startup,
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


def telling(moment: Moment, *news: Wanted) -> Moment:
    """With conditions: `news`, what is not as the API server wants it, and whether it is ready."""
    refusals = list(moment.observed.refused.values())
    refused = [Wanted(STALLED, True, each.reason, each.message) for each in refusals[:1]]
    wanted = [*refused, *news, *_rollout(moment), *_readiness(moment), *_parts(moment)]
    merged = merge(
        moment.status.conditions, first_of_each(wanted), moment.generation, moment.now, VOCABULARY
    )
    return moment.with_status(conditions=merged)


def first_of_each(wanted: Iterable[Wanted]) -> list[Wanted]:
    by_type: dict[str, Wanted] = {}
    for each in wanted:
        by_type.setdefault(each.type, each)
    return list(by_type.values())


def _rollout(moment: Moment) -> list[Wanted]:
    rollout = moment.status.rollout
    if rollout is None:
        return []
    if rollout.phase == "RolledBack":
        text = f"revision {rollout.revision} was rolled back: {rollout.message}"
        return [Wanted(STALLED, True, "RolledBack", text)]
    reason = {"Waiting": WAITING, "Proving": "CanaryProving"}.get(rollout.phase, "RollingOut")
    return [Wanted(RECONCILING, True, reason, rollout.message or "it begins")]


def _readiness(moment: Moment) -> list[Wanted]:
    status, wanted = moment.status, moment.status.desired_replicas
    if not status.revision:
        return [Wanted(READY, False, "WorkersStarting", "nothing serves yet")]
    if not status.ready_gateways:
        return _not_ready(moment, Part.GATEWAY, "GatewayStarting", "no pod of the gateway answers")
    ready = count([moment.deployment(Part.WORKER)], "readyReplicas")
    if ready < wanted:
        text = f"{ready} of {wanted} workers take videos"
        reason = "WorkersNotReady" if ready else "WorkersStarting"
        return _not_ready(moment, Part.WORKER, reason, text)
    if wanted == 0:
        return [Wanted(READY, True, "ScaledToZero", f"{status.url} answers; no worker is wanted")]
    return [Wanted(READY, True, "Serving", f"{ready} workers; {status.url} answers")]


def _not_ready(moment: Moment, part: Part, reason: str, text: str) -> list[Wanted]:
    found = [each for each in map(trouble, moment.pods(part)) if each is not None]
    final = next((each for each in found if each.final), None)
    cause = final or next(iter(found), None)
    said = cause.message if cause else _said(moment) if part is Part.WORKER else ""
    reason, text = cause.reason if cause else reason, f"{text}: {said}" if said else text
    doing = STALLED if final is not None else RECONCILING
    return [Wanted(doing, True, reason, text), Wanted(READY, False, reason, text)]


def _said(moment: Moment) -> str:
    """By a worker, of what keeps it; empty if none says anything."""
    workers = moment.report.workers if moment.report else ()
    return next((f"{each.pod}: {each.problem}" for each in workers if each.problem), "")


def _parts(moment: Moment) -> list[Wanted]:
    made = []
    base = moment.status.base_model
    if base is not None:
        done = base.artifact is not None
        reason = "ModelImported" if done else base.reason or "ImportingModel"
        made.append(Wanted(MODEL_READY, done, reason, base.message))
    made += _adapters(moment)
    return made


def _adapters(moment: Moment) -> list[Wanted]:
    """Nothing, where there are none, or of files of which no worker has told yet."""
    adapters = moment.status.adapters
    texts = "; ".join(f"{each.name}: {each.message}" for each in adapters if each.message)
    bad = next((each for each in adapters if each.reason), None)
    if bad is not None:
        return [Wanted(ADAPTERS_READY, False, bad.reason, texts)]
    if adapters and all(each.ready_workers for each in adapters):
        return [Wanted(ADAPTERS_READY, True, "AdaptersLoaded", texts)]
    if any(each.fine_tune_ref is not None for each in moment.spec.adapters):
        return [Wanted(ADAPTERS_READY, True, "FineTunesDone", texts)]
    return []
