"""Why a queue holds a Job, by Kueue's Workload of it, which is read as it is on the wire.

Before Kueue 0.19 most reasons of its conditions are `Pending` or `Inadmissible`, so causes are
distinguished by the messages, which are older. What is read is the same in v1beta1 and v1beta2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from wan_operator.reconcile.observed import Raw, condition, is_deleting
from wan_operator.reconcile.waiting import Waiting

_QUEUE = re.compile(
    r"(?:LocalQueue|ClusterQueue) \S* ?"
    r"(?:(doesn't exist|not found|is terminating or missing)|is inactive|is stopped)"
)
_TOO_LARGE = "maximum capacity"
_MAY_FIT = ("unused quota", "preemption", "topology", "skipping flavor")
"""In messages by which another flavor fits, or the same once others have ended."""
_UNFIT = (
    "unavailable in ClusterQueue",
    "doesn't match node affinity",
    "untolerated taint",
    "namespace doesn't match",
    "resources validation failed",
    "didn't satisfy LimitRange",
)
_REFUSING = frozenset({"Inadmissible", "Misconfigured", "NoMatchingFlavor"})
"""Reasons that mean a misfit, where the message names no queue."""


def newest(workloads: Sequence[Raw]) -> Raw | None:
    """The Workload of a Job among those of its uid: one that no longer fits the Job is replaced."""
    found = [each for each in workloads if not is_deleting(each)]
    return max(found, key=lambda each: each["metadata"]["creationTimestamp"], default=None)


def held_by_queue(job: Raw, workload: Raw | None) -> Waiting:
    """The reason by which Kueue holds a Job; without a Workload, that the Job is held."""
    name = job["metadata"]["name"]
    if workload is None:
        return Waiting("Queued", f"Job {name} is suspended by its queue")
    named = f"Workload {workload['metadata']['name']} of Job {name}"
    held = f"Kueue holds Job {name} in queue {workload['spec'].get('queueName', '')}"
    finished = _true(workload, "Finished")
    if finished is not None:
        return Waiting("QueueRefuses", f"Kueue has ended {_said(named, finished)}", final=True)
    evicted = _true(workload, "Evicted")
    if workload["spec"].get("active") is False:
        text = f"{named} is deactivated"
        return Waiting("WorkloadDeactivated", _said(text, evicted), final=True)
    if _true(workload, "QuotaReserved") is not None:
        if evicted is not None:
            return _in_queue(_said(f"Kueue evicts Job {name}", evicted), evicted, "WorkloadEvicted")
        return Waiting("Queued", f"{held}: {_admission(workload)}")
    pending = condition(workload, "QuotaReserved") or {}
    if evicted is not None:
        text = _said(f"{held}, having evicted it", evicted)
        if pending.get("message", "") not in ("", evicted.get("message")):
            text += f"; {pending['message']}"
        again = workload["status"].get("requeueState", {}).get("requeueAt")
        text += f"; it waits in its queue from {again} on" if again else ""
        return _in_queue(text, pending, "WorkloadEvicted")
    return _in_queue(_said(held, pending), pending, "Queued")


def _in_queue(text: str, said: Raw, otherwise: str) -> Waiting:
    """The cause in a condition of a Workload that has no quota; `otherwise` is the reason where it
    waits for quota or preemption."""
    why, reason = said.get("message", ""), said.get("reason", "")
    queue = _QUEUE.search(why)
    if queue is not None:
        return Waiting("QueueNotFound" if queue[1] else "QueueInactive", text, final=True)
    if any(each in why for each in _MAY_FIT):
        return Waiting(otherwise, text)
    if _TOO_LARGE in why:
        return Waiting("QueueTooSmall", text, final=True)
    if reason == "ExceedsMaxQuota":
        # Said of another Workload that is the same, without its message: another flavor may fit.
        return Waiting("QueueTooSmall", text)
    if reason in _REFUSING or any(each in why for each in _UNFIT):
        return Waiting("QueueRefuses", text, final=True)
    return Waiting(otherwise, text)


def _admission(workload: Raw) -> str:
    """What a Workload with quota waits for."""
    checks = workload["status"].get("admissionChecks", [])
    waits = [
        _said(f"admission check {each['name']} is {each['state']}", each)
        for each in checks
        if each["state"] != "Ready"
    ]
    if waits:
        return "; ".join(waits)
    admitted = condition(workload, "Admitted") or {}
    is_late = admitted.get("status") == "False" and admitted.get("message")
    return str(admitted["message"]) if is_late else "it is admitted and about to start"


def _true(workload: Raw, type_: str) -> Raw | None:
    found = condition(workload, type_)
    return found if found is not None and found["status"] == "True" else None


def _said(text: str, said: Raw | None) -> str:
    """The text, and the message of a condition or an admission check where it has one."""
    message = (said or {}).get("message", "").strip()
    return f"{text}: {message}" if message else text
