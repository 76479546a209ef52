"""Whether a rollout may begin: workers that run beside those that serve need room of their own.

Without it they would wait as pods until the rollout's deadline, and go back for no fault of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

from wan_operator.api.v1alpha1.inference import Canary
from wan_operator.reconcile.observed import label
from wan_operator.reconcile.room import Room, described, requests
from wan_operator.reconcile.service.mend import is_down, works
from wan_operator.reconcile.service.state import Service
from wan_operator.resources.service.names import REVISION, Part
from wan_operator.resources.service.worker import Revision


@dataclass(frozen=True, slots=True)
class Check:
    awaited: str = ""
    """What has to be first; empty: the rollout may begin."""
    asks_room: bool = False
    """Nodes were not read."""
    left: Room | None = None
    """What it leaves of the room that was read."""
    note: str = ""
    """What somebody should know who sees it begin."""


def check(service: Service, serving: Revision, desired: Revision) -> Check:
    count = 0 if _has_begun(service, desired) or is_down(service) else workers_beside(service)
    if service.spec.rollout.capacity == "Assume" or not count:
        return Check()
    room, pod = service.observed.room, desired.template["spec"]
    if room is None:
        return Check("the room on nodes is being read", asks_room=True)
    if not room.is_known:
        return Check(note="the operator may not look at nodes, so room on them is assumed")
    left, placed = room.without(_going(service, serving)).after(pod, count)
    if placed == count:
        return Check(left=left)
    some = f", {placed} of them can start" if placed else ""
    return Check(
        f"{count} more {'worker' if count == 1 else 'workers'} would have to run beside those that "
        f"serve, each with {described(requests(pod))}{some}: {left.closest(pod)}. It begins once "
        "there is room; spec.rollout.strategy Recreate needs none, and spec.rollout.capacity "
        "Assume is for clusters that add nodes when pods wait"
    )


def workers_beside(service: Service) -> int:
    """Those of the old and the new revision at the most, less those that serve now: a canary stays
    until it is followed by all."""
    wanted = service.spec.rollout
    surge = min(1, service.status.desired_replicas)
    match wanted.strategy:
        case "Recreate":
            return 0
        case "Surge":
            return surge
        case "Canary":
            return (wanted.canary or Canary()).replicas + surge


def _has_begun(service: Service, desired: Revision) -> bool:
    """And the status that said so was not written."""
    running = [service.deployment(part) for part in (Part.WORKER, Part.CANARY)]
    return any(
        label(each["spec"]["template"], REVISION) == desired.name for each in running if each
    )


def _going(service: Service, serving: Revision) -> frozenset[str]:
    """Pods of an attempt that this one supersedes, as far as they are beyond the workers that are
    wanted anyway; and pods that do not work: they go."""
    pods = [*service.pods(Part.WORKER), *service.pods(Part.CANARY)]
    others = [each for each in pods if label(each, REVISION) != serving.name]
    more = max(0, len(pods) - service.status.desired_replicas)
    idle = [each for each in pods if not works(service, each)]
    return frozenset(each["metadata"]["uid"] for each in (*others[:more], *idle))
