"""Events on a service: what a person would want to read later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from wan_operator.conditions.merge import STALLED, Wanted, first_true, is_true
from wan_operator.conditions.service import READY, WAITING
from wan_operator.reconcile.decision import Event
from wan_operator.reconcile.service.adapters import place
from wan_operator.reconcile.service.found import WAITS
from wan_operator.reconcile.service.state import Service

OF_PHASE = {"RolledBack": ("RolledBack", "RollBack"), "Waiting": (WAITING, "Wait")}
"""Reason of a rollout's event and the operator's action, by the rollout's phase."""


def changes(before: Service, after: Service, news: Sequence[Wanted] = ()) -> tuple[Event, ...]:
    """News that a person would want to read later. `news`: why the spec is not rolled out."""
    events = _of_rollouts(before, after, news)
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


def _of_rollouts(before: Service, after: Service, news: Sequence[Wanted]) -> list[Event]:
    """A rollout that begins or goes on, and one that ends though its revision does not serve."""
    old, new = before.status.rollout, after.status.rollout
    if new is None:
        return _given_up(before, after, news)
    if old is not None and (old.revision, old.phase) == (new.revision, new.phase):
        return []
    text = f"revision {new.revision} {new.phase}: {new.message or 'it begins'}"
    if old is not None and old.revision != new.revision and old.phase != "RolledBack":
        text += f"; the rollout of revision {old.revision}, which was {old.phase}, ended for it"
    reason, action = OF_PHASE.get(new.phase, ("RollingOut", "RollOut"))
    type_: Literal["Normal", "Warning"] = "Warning" if new.phase == "RolledBack" else "Normal"
    return [Event(type=type_, reason=reason, action=action, message=text)]


def _given_up(before: Service, after: Service, news: Sequence[Wanted]) -> list[Event]:
    old, serving = before.status.rollout, after.status.revision
    if old is None or old.phase == "RolledBack" or before.status.revision != serving:
        return []
    text = f"the rollout of revision {old.revision}, which was {old.phase}, ended: "
    if not news:
        text += f"the spec asks again for revision {serving}, which serves"
        return [Event(type="Normal", reason="RolledBack", action="RollBack", message=text)]
    cause = min(news, key=lambda each: each.type != STALLED)
    text += f"revision {serving} serves on, and what the spec asks for now is not rolled out, "
    text += f"{cause.reason}: {cause.message}"
    return [Event(type="Warning", reason="RolledBack", action="RollBack", message=text)]


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
        same = old is not None and (old.reason, place(old)) == (each.reason, place(each))
        if each.reason and each.reason not in WAITS and not same:
            text = f"{each.name}: {each.message}"
            events.append(Event(type="Warning", reason=each.reason, action="Serve", message=text))
    return events
