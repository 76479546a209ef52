"""What keeps the pods of a service's parts from their work, the deepest cause first.

It is said at once, whichever revision the pods are of: a rollout ends at its deadline, but why it
does not go on is known long before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from wan_operator.reconcile.observed import (
    Raw,
    WarningEvent,
    condition,
    created,
    is_deleting,
    label,
    owned_by,
    parse_time,
)
from wan_operator.reconcile.service.pods import PodFault, fault_of, pod_fault
from wan_operator.reconcile.service.state import Service
from wan_operator.reconcile.waiting import refused as refusal
from wan_operator.reconcile.waiting import refused_pod
from wan_operator.resources.service.names import REVISION, Part
from wan_runtime.contract.reasons import NEEDS_SOMEBODY as LASTING

STARTING = "PodStarting"
"""The reason of a pod that may still come right by itself."""
ENDED = ("Failed", "Succeeded")
"""Phases of pods that others have taken the place of."""
QUIET_SECONDS = 3.0
"""A pod that is younger is not worth a LIST of Events: most run by then."""

RECENT_SECONDS = 60.0
"""A pod that was rejected longer ago, at once as all are, says nothing of now."""


def causes(service: Service, part: Part, revision: str = "") -> list[PodFault]:
    """Faults of a part, of all revisions or of one: first those that do not pass by themselves,
    last those of pods that only start."""
    found = [each.fault for each in refused(service, part) if revision in ("", each.revision)]
    for pod in service.pods(part):
        if _is_there(pod) and revision in ("", label(pod, REVISION)):
            fault = pod_fault(pod, service.observed) or _waiting(service, pod)
            found += [] if fault is None else [replace(fault, message=service.words(fault.message))]
        elif revision in ("", label(pod, REVISION)):
            found += _rejected(pod, service.now)
    return sorted(found, key=lambda each: (not each.final, each.reason == STARTING))


def obstacle(service: Service, *parts: Part, revision: str = "") -> PodFault | None:
    """The deepest cause in any of the parts that is more than a pod that starts; None without
    one."""
    found = [each for part in parts for each in causes(service, part, revision)]
    deep = sorted(
        (each for each in found if each.reason != STARTING), key=lambda each: not each.final
    )
    return next(iter(deep), None)


def asks_warnings(service: Service) -> bool:
    """Whether Events, which were not read, may say more."""
    if service.observed.warnings is not None:
        return False
    if any(refused(service, part) for part in Part):
        return True
    pods = [pod for part in Part for pod in service.pods(part) if _is_there(pod)]
    waiting = [(pod, fault) for pod in pods if (fault := pod_fault(pod)) is not None]
    return any(
        fault.is_unexplained and (service.now - created(pod)).total_seconds() >= QUIET_SECONDS
        for pod, fault in waiting
    )


@dataclass(frozen=True, slots=True)
class Refused:
    """What the API server does not let a Deployment or one of its ReplicaSets make."""

    revision: str
    """Revision of the workers that it would be; empty for gateways."""
    since: datetime
    fault: PodFault
    """In the API server's words."""


def refused(service: Service, part: Part) -> list[Refused]:
    """Refusals that hold up a part, the newest ReplicaSet's first."""
    deployment = service.deployment(part)
    if deployment is None:
        return []
    found = []
    for each in reversed(replica_sets(service, part)):
        # Not the Deployment's copy: it keeps the first one of all its ReplicaSets.
        failure = condition(each, "ReplicaFailure") or {}
        if failure.get("status") == "True" and each["spec"].get("replicas"):
            warned = service.observed.warning_about(each)
            found.append(_refused("ReplicaSet", each, failure, warned))
    progress = condition(deployment, "Progressing") or {}
    if progress.get("reason") == "ReplicaSetCreateError":
        found.append(_refused("Deployment", deployment, progress))
    return found


def _refused(kind: str, maker: Raw, said: Raw, warned: WarningEvent | None = None) -> Refused:
    """`warned`: its newest Event. A ReplicaSet's condition keeps the words of the first try."""
    owner, time = f"{kind} {maker['metadata']['name']}", said.get("lastTransitionTime")
    since = parse_time(time) if time else created(maker)
    newest = refused_pod(owner, warned if warned and warned.time >= since else None)
    return Refused(
        revision=label(maker["spec"]["template"], REVISION),
        since=since,
        fault=fault_of(newest or refusal(owner, said.get("message", ""))),
    )


def replica_sets(service: Service, part: Part) -> list[Raw]:
    """Those of a part's Deployment, the newest last."""
    deployment = service.deployment(part)
    if deployment is None:
        return []
    found = owned_by(service.observed.children.get("ReplicaSet", ()), deployment["metadata"]["uid"])
    return sorted((each for each in found if not is_deleting(each)), key=_number)


def _rejected(pod: Raw, now: datetime) -> list[PodFault]:
    """Why a node did not take in a pod that was just made. Its ReplicaSet makes another at once,
    and so on."""
    status, age = pod["status"], (now - created(pod)).total_seconds()
    if status["phase"] != "Failed" or status.get("containerStatuses") or age > RECENT_SECONDS:
        return []
    node, said = pod["spec"].get("nodeName", ""), status.get("message") or status.get("reason", "")
    return [PodFault("PodRejected", f"node {node} rejects pods: {said}", False)]


def _waiting(service: Service, pod: Raw) -> PodFault | None:
    """What keeps a pod that runs, beside what is said of the whole service."""
    found = service.waits(pod)
    if found is None or found in service.faults:
        return None
    text = f"pod {pod['metadata']['name']}: {found.message}"
    return PodFault(found.reason, text, found.reason in LASTING, is_of_spec=False)


def _is_there(pod: Raw) -> bool:
    return pod.get("status", {}).get("phase") not in ENDED


def _number(replica_set: Raw) -> int:
    """Number of the Deployment's template, from 1."""
    annotations = replica_set["metadata"].get("annotations", {})
    text = annotations.get("deployment.kubernetes.io/revision", "")
    return int(text) if text.isdecimal() else 0
