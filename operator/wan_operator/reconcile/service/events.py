"""Events on a service: what a person would want to read later."""

from __future__ import annotations

from wan_operator.conditions.merge import STALLED, first_true, is_true
from wan_operator.conditions.service import READY, WAITING
from wan_operator.reconcile.decision import Event
from wan_operator.reconcile.service.found import WAITS
from wan_operator.reconcile.service.state import Service

OF_PHASE = {"RolledBack": ("RolledBack", "RollBack"), "Waiting": (WAITING, "Wait")}
"""Reason of a rollout's event and the operator's action, by the rollout's phase."""


def changes(before: Service, after: Service) -> tuple[Event, ...]:
    """News that a person would want to read later."""
    events = []
    old, new = before.status.rollout, after.status.rollout
    if new is not None and (old is None or (old.revision, old.phase) != (new.revision, new.phase)):
        reason, action = OF_PHASE.get(new.phase, ("RollingOut", "RollOut"))
        events.append(
            Event(
                type="Warning" if new.phase == "RolledBack" else "Normal",
                reason=reason,
                action=action,
                message=f"revision {new.revision} {new.phase}: {new.message or 'it begins'}",
            )
        )
    events += _of_adapters(before, after)
    events += _of_faults(before, after)
    was, wanted = before.status.desired_replicas, after.status.desired_replicas
    if after.spec.autoscaling is not None and was != wanted:
        text = f"from {was} to {wanted} workers"
        events.append(Event(type="Normal", reason="Scaled", action="Scale", message=text))
    if is_true(after.status.conditions, READY) and not is_true(before.status.conditions, READY):
        text = f"{after.status.url} answers, {after.status.ready} workers"
        events.append(Event(type="Normal", reason="Serving", action="Serve", message=text))
    return tuple(events + _of_stalls(before, after, events))


def _of_stalls(before: Service, after: Service, known: list[Event]) -> list[Event]:
    """What somebody has to act on, once for each edit; unless it is known already."""
    old = first_true(before.status.conditions, STALLED)
    new, base = first_true(after.status.conditions, STALLED), after.status.base_model
    reasons = {each.reason for each in known} | {base.reason if base else ""}
    if new is None or new.reason in reasons:
        return []
    if old is not None and (old.reason, old.observed_generation) == (new.reason, after.generation):
        return []
    return [Event(type="Warning", reason=new.reason, action="Stall", message=new.message)]


def _of_faults(before: Service, after: Service) -> list[Event]:
    """The first time that gateways report a cause why requests fail."""
    known = {each.reason for each in before.status.conditions if each.type == READY}
    first = [each for each in after.faults[:1] if each.reason not in known]
    return [
        Event(
            type="Warning",
            reason=each.reason,
            action="Serve",
            message=f"{each.reason}: {each.message}",
        )
        for each in first
        if after.status.revision
    ]


def _of_adapters(before: Service, after: Service) -> list[Event]:
    """The first time that workers report one that they cannot use, and why."""
    known = {each.name: each for each in before.status.adapters}
    events = []
    for each in after.status.adapters:
        old = known.get(each.name)
        same = old is not None and (old.reason, old.artifact, old.files) == (
            each.reason, each.artifact, each.files,
        )  # fmt: skip
        if each.reason and each.reason not in WAITS and not same:
            text = f"{each.name}: {each.message}"
            events.append(Event(type="Warning", reason=each.reason, action="Serve", message=text))
    return events
