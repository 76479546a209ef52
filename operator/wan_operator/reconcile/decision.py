"""What a reconcile asks for. The controller carries it out in the order of the fields."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from wan_operator.reconcile.room import Room
from wan_operator.resources.labels import Manifest

Propagation = Literal["Foreground", "Background"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Delete:
    kind: str
    name: str
    uid: str
    """Precondition: an object made again under the same name is left alone."""
    propagation: Propagation

    @classmethod
    def of(cls, item: Manifest, kind: str, propagation: Propagation = "Background") -> Delete:
        """Deletion of an object that was observed."""
        metadata = item["metadata"]
        return cls(kind=kind, name=metadata["name"], uid=metadata["uid"], propagation=propagation)


@dataclass(frozen=True, kw_only=True, slots=True)
class Resync:
    """Has the controller of an object try again now, not at the end of its back-off: any change of
    the object does, and an annotation changes nothing else."""

    kind: str
    name: str
    uid: str
    """Precondition, as of a deletion."""
    time: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    type: Literal["Normal", "Warning"]
    reason: str
    """From the reasons of the kind."""
    action: str
    """What the operator did, one CamelCase word."""
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    children: tuple[Manifest, ...] = ()
    """To be there. Jobs are created once and never changed; all else is applied where the live
    object does not hold it."""
    deletes: tuple[Delete, ...] = ()
    resyncs: tuple[Resync, ...] = ()
    status: dict[str, Any] | None = None
    """All of the new status; None leaves it as it is."""
    events: tuple[Event, ...] = ()
    """Posted once the status is written, so that a decision that is made twice is posted once."""
    asks_room: bool = False
    """It depends on the room on nodes, which was not read: to be made again with that."""
    room_left: Room | None = None
    """On nodes, once what begins now is placed."""
    asks_warnings: bool = False
    """Something waits, and Events may say why, which were not read: to be made again with those."""
    asks_workloads: tuple[str, ...] = ()
    """Uids of Jobs that Kueue holds, whose Workloads were not read: to be made again with those."""
    requeue_after: float | None = None
    """Seconds; None waits for an event or the sweep."""
