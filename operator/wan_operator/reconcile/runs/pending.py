"""Why an attempt does not run yet, and what makes the cluster try again."""

from __future__ import annotations

from datetime import datetime, timedelta

from wan_operator.reconcile.decision import Resync
from wan_operator.reconcile.observed import (
    Observed,
    Raw,
    container_state,
    created,
    finished,
    is_deleting,
    is_suspended,
    parse_time,
    retried,
)
from wan_operator.reconcile.runs.attempted import Attempted
from wan_operator.reconcile.waiting import Waiting, pod_waiting, refused_pod
from wan_operator.resources.jobs import GRACE_SECONDS

NO_POD_SECONDS = 20.0
QUIET_SECONDS = 3.0
"""A Job or a pod that is younger is not worth a LIST of Events: most run by then."""
YOUNG_SECONDS = 30.0
YOUNG_POLL_SECONDS = 5.0
UNEXPLAINED_POLL_SECONDS = 15.0
POLL_SECONDS = 30.0
"""Interval while a pod cannot start: no event announces a node that went silent."""
RESYNC_SECONDS = 20.0
"""Interval at which a Job tries again to make its pod. Its own controller puts that off for up to
a minute, and longer in older releases."""


def waiting_of(attempted: Attempted, observed: Observed, now: datetime) -> Waiting | None:
    """The deepest known cause; None once the containers of all ranks run."""
    pods = attempted.newest
    if not pods or is_suspended(attempted.job):
        return _no_pod(attempted.job, observed, now)
    causes = (_waiting_pod(pod, observed, now) for pod in pods)
    found = next((cause for cause in causes if cause is not None), None)
    lacks = len(pods) < len(attempted.ranks)
    return found or (_no_pod(attempted.job, observed, now) if lacks else None)


def asks_warnings(
    attempted: Attempted, waiting: Waiting, observed: Observed, now: datetime
) -> bool:
    """Whether Events, which were not read, may say more."""
    known = observed.warnings is not None or not waiting.is_unexplained
    return not known and _age(attempted, now) >= QUIET_SECONDS


def poll_seconds(attempted: Attempted, waiting: Waiting, now: datetime) -> float:
    """Seconds until the cluster is asked again: Events ask for no decision."""
    if is_suspended(attempted.job):
        return POLL_SECONDS
    if waiting.is_unexplained and _age(attempted, now) < YOUNG_SECONDS:
        return YOUNG_POLL_SECONDS
    lacks = len(attempted.newest) < len(attempted.ranks)
    return UNEXPLAINED_POLL_SECONDS if lacks or waiting.is_unexplained else POLL_SECONDS


def resync_of(attempted: Attempted, waiting: Waiting, now: datetime) -> Resync | None:
    """The next try of a Job whose pod is refused; None before it is due, and for others. What
    refuses the pod may be mended by now, and nothing would say so."""
    job = attempted.job
    lacks = len(attempted.newest) < len(attempted.ranks)
    if not lacks or waiting.reason == "StepStarting" or not may_make_pods(job):
        return None
    since = max(_started(job), retried(job) or _started(job))
    if now - since < timedelta(seconds=RESYNC_SECONDS):
        return None
    metadata = job["metadata"]
    return Resync(kind="Job", name=metadata["name"], uid=metadata["uid"], time=now)


def may_make_pods(job: Raw) -> bool:
    return not (is_suspended(job) or finished(job) or is_deleting(job))


def _age(attempted: Attempted, now: datetime) -> float:
    """Seconds since the youngest of its pods, or the Job without one, was made."""
    times = [created(pod) for pod in attempted.newest] or [_started(attempted.job)]
    return (now - max(times)).total_seconds()


def _started(job: Raw) -> datetime:
    """Set anew whenever the Job leaves its queue."""
    started = job.get("status", {}).get("startTime")
    return parse_time(started or job["metadata"]["creationTimestamp"])


def _waiting_pod(pod: Raw, observed: Observed, now: datetime) -> Waiting | None:
    name = pod["metadata"]["name"]
    kind, state = container_state(pod)
    if is_deleting(pod):
        node = pod.get("spec", {}).get("nodeName", "")
        since = parse_time(pod["metadata"]["deletionTimestamp"])
        if (now - since).total_seconds() > GRACE_SECONDS:
            return Waiting(
                "NodeLost",
                f"pod {name} should have ended by {since.isoformat()}, but node {node} does not "
                f"answer. Delete "
                "the node or taint it node.kubernetes.io/out-of-service to start the next attempt",
            )
        return Waiting("PodEvicted", f"pod {name} is being removed")
    if kind in ("running", "terminated"):
        return None
    return pod_waiting(pod, kind, state, observed)


def _no_pod(job: Raw, observed: Observed, now: datetime) -> Waiting:
    name = job["metadata"]["name"]
    if is_suspended(job):
        return Waiting("Queued", f"Job {name} is suspended by its queue")
    since = _started(job)
    warned = observed.warning_about(job)
    # An older one is of a pod before the Job left its queue.
    refused = refused_pod(f"Job {name}", warned if warned and warned.time >= since else None)
    if refused is not None:
        return refused
    if (now - since).total_seconds() > NO_POD_SECONDS:
        text = f"Job {name} has no pod: kubectl describe job {name} shows what refuses it"
        return Waiting("PodNotCreated", text)
    return Waiting("StepStarting", f"Job {name} is making its pod")
