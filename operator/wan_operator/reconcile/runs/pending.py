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
from wan_operator.reconcile.runs.kueue import held_by_queue
from wan_operator.reconcile.waiting import RETRY_SECONDS, Waiting, pod_waiting, refused_pod
from wan_operator.resources.jobs import GRACE_SECONDS

NO_POD_SECONDS = 20.0
QUIET_SECONDS = 3.0
"""A Job or a pod that is younger is not worth a LIST of Events: most run by then."""
YOUNG_SECONDS = 30.0
YOUNG_POLL_SECONDS = 5.0
UNEXPLAINED_POLL_SECONDS = 15.0
POLL_SECONDS = 30.0
"""Interval while a pod cannot start: no event announces a node that went silent."""
QUEUED_POLL_SECONDS = 15.0


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


def asks_workload(attempted: Attempted, observed: Observed) -> bool:
    """Whether Kueue's Workload, which was not read, says why the Job is held."""
    return is_suspended(attempted.job) and observed.workloads is None


def poll_seconds(attempted: Attempted, waiting: Waiting, now: datetime) -> float:
    """Seconds until the cluster is asked again: Events ask for no decision."""
    if waiting.is_unexplained:
        is_young = _age(attempted, now) < YOUNG_SECONDS
        return YOUNG_POLL_SECONDS if is_young else UNEXPLAINED_POLL_SECONDS
    if is_suspended(attempted.job):
        return QUEUED_POLL_SECONDS
    due = _retried_next(attempted, waiting)
    if due is None:
        return POLL_SECONDS
    left = (due - now).total_seconds()
    return left if left > 0 else RETRY_SECONDS


def resync_of(attempted: Attempted, waiting: Waiting, now: datetime) -> Resync | None:
    """The next try of a Job whose pod is refused; None before it is due, and for others. What
    refuses the pod may be mended by now, and nothing would say so."""
    due = _retried_next(attempted, waiting)
    if due is None or due > now:
        return None
    metadata = attempted.job["metadata"]
    return Resync(kind="Job", name=metadata["name"], uid=metadata["uid"], time=now)


def _retried_next(attempted: Attempted, waiting: Waiting) -> datetime | None:
    """When a Job whose pod is refused is to try again; None for another."""
    job = attempted.job
    lacks = len(attempted.newest) < len(attempted.ranks)
    may_not = is_suspended(job) or finished(job) or is_deleting(job)
    if not lacks or may_not or waiting.reason == "StepStarting":
        return None
    last = max(_started(job), retried(job) or _started(job))
    return last + timedelta(seconds=RETRY_SECONDS)


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
        uid = job["metadata"].get("uid", "")
        return held_by_queue(job, (observed.workloads or {}).get(uid))
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
