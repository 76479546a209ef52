"""The progress of a rollout, whose deadline counts from the last of it: of many workers on few GPUs
each waits for the GPU of another, so the whole has no time of its own.
"""

from __future__ import annotations

from datetime import datetime

from wan_operator.api.v1alpha1.inference import Rollout, RolloutProgress, RolloutStatus
from wan_operator.reconcile.observed import Raw, is_deleting, label, parse_time
from wan_operator.reconcile.service import canary
from wan_operator.reconcile.service.causes import ENDED
from wan_operator.reconcile.service.state import Service, is_ready
from wan_operator.resources.service.names import REVISION, Part

STARTING_SECONDS = 1800
PROVING_SECONDS = 21600
"""A canary waits for requests too: two workers of which a video takes 13 minutes bring a tenth of
them one an hour."""


def progressed(service: Service, rollout: RolloutStatus) -> RolloutStatus:
    """With status.rollout.progress as it is now. A worker that was ready before is none the second
    time: one that ends again and again makes no progress."""
    seen, before = _seen(service, rollout), rollout.progress
    if before is not None:
        best = before.model_copy(
            update={
                "ready_workers": max(before.ready_workers, seen.ready_workers),
                "reported_workers": max(before.reported_workers, seen.reported_workers),
                "canary_videos": max(before.canary_videos, seen.canary_videos),
                "old_workers": min(before.old_workers, seen.old_workers),
            }
        )
        seen = best if best == before else best.model_copy(update={"time": service.now})
    return rollout.model_copy(update={"progress": seen})


def deadline(spec: Rollout, phase: str) -> int:
    """spec.rollout.deadlineSeconds, or its default in this phase."""
    default = PROVING_SECONDS if phase == "Proving" else STARTING_SECONDS
    return spec.deadline_seconds or default


def is_overdue(service: Service, rollout: RolloutStatus) -> bool:
    """Whether it has made no progress for longer than it may. While an old worker ends its video
    nothing else is due."""
    since = rollout.progress.time if rollout.progress else rollout.start_time
    for pod in _old(service, rollout):
        if is_deleting(pod):  # Kubernetes sets the time by which it is killed
            since = max(since, min(service.now, _killed(pod)))
    return (service.now - since).total_seconds() > deadline(service.spec.rollout, rollout.phase)


def draining(service: Service, rollout: RolloutStatus) -> int:
    """Number of old workers that end their videos."""
    return sum(is_deleting(pod) for pod in _old(service, rollout))


def ready(service: Service, revision: str) -> int:
    """Number of a revision's workers that are ready, without those of a canary."""
    return sum(is_ready(pod) for pod in service.pods(Part.WORKER) if _is_new(pod, revision))


def silent(service: Service, revision: str) -> list[str]:
    """Names of a revision's pods that are ready and of which no report has come."""
    report = service.report
    heard = {each.pod for each in report.workers if each.ready} if report else set()
    pods = (pod for part in (Part.WORKER, Part.CANARY) for pod in service.pods(part))
    names = (pod["metadata"]["name"] for pod in pods if _is_new(pod, revision) and is_ready(pod))
    return sorted(name for name in names if report is not None and name not in heard)


def _seen(service: Service, rollout: RolloutStatus) -> RolloutProgress:
    report, replaces = service.report, _replaces(service, rollout)
    part = Part.WORKER if replaces else Part.CANARY
    new = [pod for pod in service.pods(part) if _is_new(pod, rollout.revision)]
    workers = {each.pod for each in report.workers if each.ready} if report else set()
    return RolloutProgress(
        time=service.now,
        ready_workers=sum(is_ready(pod) for pod in new),
        reported_workers=sum(pod["metadata"]["name"] in workers for pod in new),
        canary_videos=0 if replaces else canary.made(canary.seen(service)),
        old_workers=len(_old(service, rollout)),
    )


def _replaces(service: Service, rollout: RolloutStatus) -> bool:
    """Whether new workers take the place of old ones: not while a canary is tried out."""
    return service.spec.rollout.strategy != "Canary" or rollout.phase == "Promoting"


def _old(service: Service, rollout: RolloutStatus) -> list[Raw]:
    """Pods of other revisions that new ones replace, those that are going too."""
    if not _replaces(service, rollout):
        return []
    return [
        pod
        for pod in service.pods(Part.WORKER)
        if label(pod, REVISION) != rollout.revision
        and pod.get("status", {}).get("phase") not in ENDED
    ]


def _is_new(pod: Raw, revision: str) -> bool:
    return label(pod, REVISION) == revision and not is_deleting(pod)


def _killed(pod: Raw) -> datetime:
    return parse_time(pod["metadata"]["deletionTimestamp"])
