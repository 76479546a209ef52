"""What keeps the pods of a service's parts from their work, the deepest cause first.

It is said at once, whichever revision the pods are of: a rollout ends at its deadline, but why it
does not go on is known long before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from wan_operator.reconcile.observed import (
    Raw,
    condition,
    created,
    is_deleting,
    label,
    owned_by,
    parse_time,
)
from wan_operator.reconcile.service.pods import PodFault, pod_fault
from wan_operator.reconcile.service.state import Service
from wan_operator.resources.service.names import REVISION, Part

STARTING = "PodStarting"
"""The reason of a pod that may still come right by itself."""
ENDED = ("Failed", "Succeeded")
"""Phases of pods that others have taken the place of."""


def causes(service: Service, part: Part, revision: str = "") -> list[PodFault]:
    """Faults of a part, of all revisions or of one: first those that do not pass by themselves,
    last those of pods that only start."""
    found = [each.fault for each in refused(service, part) if revision in ("", each.revision)]
    for pod in service.pods(part):
        is_there = pod.get("status", {}).get("phase") not in ENDED
        if is_there and revision in ("", label(pod, REVISION)):
            fault = pod_fault(pod)
            found += [] if fault is None else [fault]
    return sorted(found, key=lambda each: (not each.final, each.reason == STARTING))


def obstacle(service: Service, *parts: Part, revision: str = "") -> PodFault | None:
    """The deepest cause in any of the parts that is more than a pod that starts; None without
    one."""
    found = [each for part in parts for each in causes(service, part, revision)]
    deep = sorted(
        (each for each in found if each.reason != STARTING), key=lambda each: not each.final
    )
    return next(iter(deep), None)


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
            found.append(_refused("ReplicaSet", each, failure))
    progress = condition(deployment, "Progressing") or {}
    if progress.get("reason") == "ReplicaSetCreateError":
        found.append(_refused("Deployment", deployment, progress))
    return found


def _refused(kind: str, maker: Raw, said: Raw) -> Refused:
    since = said.get("lastTransitionTime")
    text = f"{kind} {maker['metadata']['name']} is refused: {said.get('message', '')}"
    return Refused(
        revision=label(maker["spec"]["template"], REVISION),
        since=parse_time(since) if since else created(maker),
        fault=PodFault("PodNotCreated", text, False),
    )


def replica_sets(service: Service, part: Part) -> list[Raw]:
    """Those of a part's Deployment, the newest last."""
    deployment = service.deployment(part)
    if deployment is None:
        return []
    found = owned_by(service.observed.children.get("ReplicaSet", ()), deployment["metadata"]["uid"])
    return sorted((each for each in found if not is_deleting(each)), key=_number)


def _number(replica_set: Raw) -> int:
    """Number of the Deployment's template, from 1."""
    annotations = replica_set["metadata"].get("annotations", {})
    text = annotations.get("deployment.kubernetes.io/revision", "")
    return int(text) if text.isdecimal() else 0
