"""Telling that nothing will change until somebody acts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from pydantic import BaseModel, TypeAdapter, ValidationError

from wan_operator.api.v1alpha1.common import Condition
from wan_operator.conditions.merge import STALLED, Vocabulary, Wanted, merge
from wan_operator.reconcile.bounds import fitted
from wan_operator.reconcile.decision import Decision, Event
from wan_operator.reconcile.observed import Raw
from wan_runtime.faults import described

_CONDITIONS = TypeAdapter(list[Condition])


def unreadable(error: ValidationError) -> str:
    """What this release cannot read in a resource, which another has accepted."""
    return described(error, "status" if error.title.endswith("Status") else "spec")


def stalled(
    cr: Raw,
    reason: str,
    message: str,
    now: datetime,
    *,
    wanted: Callable[[Sequence[Condition]], list[Wanted]],
    vocabulary: Vocabulary,
    status: type[BaseModel],
) -> Decision:
    """Works on the raw object, since it may be one that this release cannot read.

    Args:
        wanted: the conditions, from those that were; Stalled with `reason` among them.
        status: model of the kind's status, whose bounds hold.
    """
    raw = cr.get("status", {}) | {"observedGeneration": cr["metadata"]["generation"]}
    try:
        previous = _CONDITIONS.validate_python(raw.get("conditions", []))
    except ValidationError:
        previous = []
    now = now.replace(microsecond=0)
    generation, namespace = raw["observedGeneration"], cr["metadata"]["namespace"]
    merged = merge(previous, wanted(previous), generation, now, vocabulary, namespace)
    raw["conditions"] = _CONDITIONS.dump_python(
        merged, mode="json", by_alias=True, exclude_none=True
    )
    known = any(each.type == STALLED and each.reason == reason for each in previous)
    event = Event(type="Warning", reason=reason, action="Stall", message=message)
    return Decision(status=fitted(raw, status), events=() if known else (event,))
