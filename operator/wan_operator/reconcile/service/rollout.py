"""From one revision of the workers to the next, and back if it is not good.

status.revision is the one that serves. Until the new one has proved itself, nothing that the old
one needs is changed, and a rollback is one apply of what its ConfigMap keeps. The strategies differ
in which workers run beside which:

Recreate  the old end their videos and go, then the new come.
Surge     one new more, one old less, until all are new.
Canary    some new in a Deployment of their own, with a share of the requests; then Surge, once
          the gate has passed, if there is one.

Until nodes have room for what runs beside the old, nothing begins. A promoted canary is followed
by all others without a way back: what then makes no progress is reported, and the old serve on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from wan_operator.api.v1alpha1.inference import RolloutStatus
from wan_operator.reconcile.observed import Raw, label
from wan_operator.reconcile.room import Room
from wan_operator.reconcile.service import canary
from wan_operator.reconcile.service.adapters import have_reported, spoiled
from wan_operator.reconcile.service.capacity import check
from wan_operator.reconcile.service.causes import causes, obstacle
from wan_operator.reconcile.service.evaluations import gate_of
from wan_operator.reconcile.service.mend import is_down
from wan_operator.reconcile.service.progress import (
    deadline,
    draining,
    is_overdue,
    progressed,
    ready,
    silent,
)
from wan_operator.reconcile.service.state import Service, count
from wan_operator.resources.service.gateway import ROLLOUT, ROLLOUT_KEY
from wan_operator.resources.service.names import REVISION, Part, name_of
from wan_operator.resources.service.worker import Revision
from wan_runtime.contract.rollout import Rollout


@dataclass(frozen=True, slots=True)
class Course:
    """Which revision each part runs."""

    service: Service
    """With status.revision and status.rollout."""
    worker: Revision
    canary: Revision | None = None
    share: Rollout = field(default_factory=Rollout)
    """Share of new videos that the canary gets."""
    asks_room: bool = False
    """As a Decision does; and what is left of it."""
    room_left: Room | None = None


def course(service: Service, desired: Revision) -> Course:
    status = service.status
    serving = service.revision(status.revision)
    if serving is None or desired.name == serving.name or _is_vain(service):
        # The first one, or none to go back to; or the spec says again what serves.
        return Course(service.with_status(revision=desired.name, rollout=None), desired)
    rollout = status.rollout
    if rollout is None or rollout.revision != desired.name:
        rollout = RolloutStatus(phase="Waiting", revision=desired.name, start_time=service.now)
        service = service.with_status(rollout=rollout)
    if rollout.phase == "RolledBack":
        return Course(service, serving)
    if rollout.phase == "Waiting":
        return _begin(service, serving, desired)
    return _go_on(service, serving, desired, rollout)


def under_way(service: Service) -> Course | None:
    """As `course`, for a spec that is not acted on: what was begun is judged on, by spec.rollout.
    None: there is nothing to do. Once all workers are new the rollout stays as it is: the values of
    their revision, of an earlier spec, are not known."""
    rollout = service.status.rollout
    if rollout is None or rollout.phase == "Waiting":
        return None
    serving, desired = (service.revision(n) for n in (service.status.revision, rollout.revision))
    if serving is not None and rollout.phase == "RolledBack":
        return None if _is_back(service, serving) else Course(service, serving)
    if serving is None or desired is None or not desired.is_intact:
        return None
    if _began_otherwise(service, rollout):
        return None
    taken = _go_on(service, serving, desired, rollout)
    if taken.service.status.rollout is not None:
        return taken
    # A worker that is not ready for a moment, long after the last progress, sends nothing back.
    text = f"all workers are of revision {desired.name}, which status.revision says once the spec "
    text += "can be acted on"
    return replace(taken, service=_moved(service, "Promoting", text))


def _began_otherwise(service: Service, rollout: RolloutStatus) -> bool:
    """Whether it was begun with another strategy than the spec's."""
    if rollout.phase == "Promoting":
        return False
    if service.spec.rollout.strategy == "Canary":
        return _runs(service, Part.WORKER, rollout.revision)
    is_tried = service.deployment(Part.CANARY) is not None
    return is_tried or rollout.phase in ("Proving", "Gated")


def _is_back(service: Service, serving: Revision) -> bool:
    """Whether a rollback is done: what the API server refused of it is to be tried again."""
    has_canary = service.deployment(Part.CANARY) is not None or _written(service).canary is not None
    return not has_canary and _runs(service, Part.WORKER, serving.name)


def _runs(service: Service, part: Part, revision: str) -> bool:
    found = service.deployment(part)
    return found is not None and label(found["spec"]["template"], REVISION) == revision


def _is_vain(service: Service) -> bool:
    """Whether no worker has ever worked: there is nothing to go back to, and no room to find beside
    what serves."""
    status = service.status
    has_begun = status.rollout is not None and status.rollout.phase != "Waiting"
    has_served = bool(status.sizes or status.startup)
    return not has_begun and not has_served and is_down(service)


def _begin(service: Service, serving: Revision, desired: Revision) -> Course:
    """From here on the deadline counts, from one step to the next."""
    checked = check(service, serving, desired)
    if checked.awaited:
        waiting = _moved(service, "Waiting", checked.awaited)
        return Course(waiting, serving, asks_room=checked.asks_room)
    # Where no worker is left a canary has nothing to be compared with, and the others wait for it.
    gate = gate_of(service)
    is_closed = gate is not None and not gate.passed
    leaps = service.spec.rollout.strategy == "Canary" and is_down(service) and not is_closed
    rollout = RolloutStatus(
        phase="Promoting" if leaps else "Starting", revision=desired.name, start_time=service.now
    )
    begun = _go_on(service.with_status(rollout=rollout), serving, desired, rollout)
    return replace(_noted(begun, checked.note), room_left=checked.left)


def _noted(begun: Course, note: str) -> Course:
    rollout = begun.service.status.rollout
    if not note or rollout is None:
        return begun
    text = f"{rollout.message}; {note}"
    return replace(begun, service=_moved(begun.service, rollout.phase, text))


def _go_on(
    service: Service, serving: Revision, desired: Revision, rollout: RolloutStatus
) -> Course:
    rollout = progressed(service, rollout)
    service = service.with_status(rollout=rollout)
    reason = _fault(service, serving, desired, rollout)
    if reason:
        return Course(_moved(service, "RolledBack", reason), serving)
    if service.spec.rollout.strategy == "Canary" and rollout.phase != "Promoting":
        return _canary(service, serving, desired, rollout)
    return _replace(service, desired)


def _replace(service: Service, desired: Revision) -> Course:
    """Recreate or Surge, by the Deployment's own strategy."""
    wanted = service.status.desired_replicas
    if _is_done(service, desired):
        return Course(service.with_status(revision=desired.name, rollout=None), desired)
    new = count([service.deployment(Part.WORKER)], "updatedReplicas")
    text = (
        f"{new} of {wanted} workers are of revision {desired.name}, {ready(service, desired.name)}"
    )
    text += f" of them ready{_held(service, desired)}"
    rollout = service.status.rollout
    ending = draining(service, rollout) if rollout else 0
    if ending:
        text += f"; {ending} old {'worker ends its video' if ending == 1 else 'workers end theirs'}"
    if not have_reported(service, desired, wanted):
        text += f", and which adapters they can use is awaited{_silent(service, desired)}"
    was_proven = rollout is not None and rollout.phase == "Promoting"
    return Course(_moved(service, "Promoting" if was_proven else "Starting", text), desired)


def _is_done(service: Service, desired: Revision) -> bool:
    """Whether all workers are of the new revision, ready, and have reported."""
    wanted = service.status.desired_replicas
    through = _is_through(service.deployment(Part.WORKER), desired, wanted)
    return through and have_reported(service, desired, wanted)


def _silent(service: Service, desired: Revision) -> str:
    """Pods of which no report comes, for the end of a sentence."""
    names = silent(service, desired.name)
    if not names:
        return ""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (
        f": pod {names[0]}{more} is ready, but no report of it has come through the database; its "
        f"log has the cause, kubectl -n {service.owner.namespace} logs {names[0]}"
    )


def _is_through(deployment: Raw | None, revision: Revision, replicas: int) -> bool:
    """All workers are of the revision, and ready."""
    if deployment is None or label(deployment["spec"]["template"], REVISION) != revision.name:
        return False
    status = deployment.get("status", {})
    return (
        status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        and deployment["spec"].get("replicas") == replicas
        and all(
            status.get(field, 0) == replicas
            for field in ("replicas", "updatedReplicas", "readyReplicas")
        )
    )


def _awaited(service: Service, desired: Revision) -> str:
    replicas = canary.wanted(service).replicas
    text = f"{replicas} canary workers of revision {desired.name} are awaited"
    return text + _held(service, desired)


def _is_up(service: Service, desired: Revision) -> bool:
    """Whether all workers of the canary are ready."""
    replicas = canary.wanted(service).replicas
    return _is_through(service.deployment(Part.CANARY), desired, replicas)


def _canary(
    service: Service, serving: Revision, desired: Revision, rollout: RolloutStatus
) -> Course:
    wanted, is_proven = canary.wanted(service), rollout.phase == "Gated"
    has_begun = is_proven or rollout.phase == "Proving"
    has_reported = has_begun or have_reported(service, desired, wanted.replicas)
    if not has_reported or not _is_up(service, desired):
        # The phase stays, and with it what counts as progress: that they are ready again is none.
        text = _awaited(service, desired)
        return Course(_moved(service, rollout.phase, text), serving, desired)
    share = Rollout(canary=desired.name, weight=wanted.percent, begun=rollout.start_time)
    awaited = None if is_proven else canary.awaited(service)
    if awaited is not None:
        return Course(_moved(service, "Proving", awaited), serving, desired, share)
    gate = gate_of(service)
    if gate is not None and not gate.passed:
        return Course(_moved(service, "Gated", gate.message), serving, desired, share)
    text = f"the canary of revision {desired.name} was good"
    return Course(_moved(service, "Promoting", text), desired, desired, share)


def is_stuck(service: Service) -> bool:
    """Whether a promoted revision has made no progress for longer than it may."""
    rollout = service.status.rollout
    return rollout is not None and rollout.phase == "Promoting" and is_overdue(service, rollout)


def _held(service: Service, desired: Revision) -> str:
    """What keeps the new revision from going on, for the end of a sentence."""
    held = obstacle(service, Part.CANARY, Part.WORKER, revision=desired.name)
    return f": {held.message}" if held else ""


def _fault(service: Service, serving: Revision, desired: Revision, rollout: RolloutStatus) -> str:
    """Why the new revision goes back; empty if nothing is known against it."""
    found = [each for part in Part for each in causes(service, part, desired.name)]
    final = next((each for each in found if each.final and each.is_of_spec), None)
    if final is not None:
        return final.message
    lost = spoiled(service, serving, desired)
    if lost:
        return lost
    if rollout.phase == "Promoting":  # it was good enough to begin with
        return ""
    worse = canary.worse(service) if service.spec.rollout.strategy == "Canary" else ""
    if worse:
        return worse
    gate = gate_of(service)
    if gate is not None and gate.passed is False:
        return gate.message
    if rollout.phase == "Gated" or not is_overdue(service, rollout):
        return ""
    if _is_done(service, desired):  # it is looked at late, as after an outage of the operator
        return ""
    why = found[0].message if found else rollout.message
    if rollout.phase == "Proving":
        parts = [each.message for each in found[:1]]
        if not parts and not _is_up(service, desired):
            parts = [_awaited(service, desired)]
        why = "; ".join([canary.too_few(service, rollout), *parts])
    seconds = deadline(service.spec.rollout, rollout.phase)
    return f"no progress for {seconds} s (spec.rollout.deadlineSeconds): {why}"


def numbered(service: Service, share: Rollout) -> Rollout:
    """As it is written, if that says the same; else with a higher number. By the clock, it is also
    higher than those of a service of this name that is gone, whose last one its database has."""
    written = _written(service)
    if written.number and written == share.model_copy(update={"number": written.number}):
        return written
    number = max(int(service.now.timestamp()), written.number + 1)
    return share.model_copy(update={"number": number})


def _written(service: Service) -> Rollout:
    """As gateways read it; nothing, if it is not there."""
    found = service.child("ConfigMap", name_of(service.owner, ROLLOUT))
    try:
        return Rollout.model_validate_json(found["data"][ROLLOUT_KEY]) if found else Rollout()
    except (KeyError, ValidationError):  # edited by somebody
        return Rollout()


def _moved(service: Service, phase: str, message: str) -> Service:
    rollout = service.status.rollout
    assert rollout is not None
    update: dict[str, Any] = {"phase": phase, "message": message}
    if phase != rollout.phase:
        update["progress"] = None
    moved = rollout.model_copy(update=update)
    if moved.progress is None and phase not in ("Waiting", "RolledBack"):
        moved = progressed(service, moved)
    return service.with_status(rollout=moved)
