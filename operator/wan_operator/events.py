"""Warnings that the cluster's controllers have left in Events about children.

Read only while something waits, by one LIST of a namespace for all who ask meanwhile. Without the
right to that, causes are as deep as the status of the children themselves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from wan_operator.errors import PermanentError, TransientError
from wan_operator.kube import Kube
from wan_operator.reconcile.observed import Raw, WarningEvent

logger = logging.getLogger(__name__)

FRESH_SECONDS = 5.0
"""What was read is good for others so long."""
SHARE = 10
"""Reading takes a tenth of the time, not more: a namespace full of Events is read less often."""
REFUSED_SECONDS = 300.0
"""Interval after which a right that is missing is tried again."""
REGARDING = frozenset({"Job", "ReplicaSet", "Pod", "PersistentVolumeClaim"})
SUMMARY = "Unable to attach or mount volumes"
"""Every two minutes the kubelet sums up in these words what it has said better before."""
LIMIT = 2000
"""Objects of a namespace whose newest Warning is kept."""


@dataclass(slots=True)
class _Read:
    """What one namespace's Events said last."""

    found: Mapping[str, WarningEvent] = field(default_factory=dict)
    until: float = 0.0
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class Warnings:
    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._read: dict[str, _Read] = {}

    async def of(self, namespace: str) -> Mapping[str, WarningEvent]:
        """The newest Warning about each object, by the object's uid; empty without the right to
        read them, or without an answer. An Event is a courtesy: nothing fails for want of it."""
        self._forget_others(namespace)
        read = self._read.setdefault(namespace, _Read())
        async with read.reading:
            began = time.monotonic()
            if began < read.until:
                return read.found
            pause = FRESH_SECONDS
            try:
                read.found = await self._list(namespace)
                pause = max(pause, SHARE * (time.monotonic() - began))
            except TransientError as error:
                logger.info("events not read", extra=_of(namespace, error))
            except PermanentError as error:
                logger.warning("events not read", extra=_of(namespace, error))
                read.found, pause = {}, REFUSED_SECONDS
            read.until = time.monotonic() + pause
            return read.found

    async def _list(self, namespace: str) -> Mapping[str, WarningEvent]:
        found: dict[str, WarningEvent] = {}
        async for item in self._kube.list_warnings(namespace):
            about = item.get("regarding", {})
            uid = about.get("uid", "")
            if about.get("kind") not in REGARDING or not uid:
                continue
            event = WarningEvent.read(item)
            if uid not in found or _rank(found[uid]) <= _rank(event):
                found[uid] = event
            if len(found) >= 2 * LIMIT:
                found = _newest(found)
        return _newest(found)

    def _forget_others(self, namespace: str) -> None:
        """Drops namespaces in which nothing waits any more."""
        now = time.monotonic()
        for name, read in list(self._read.items()):
            if name != namespace and read.until <= now and not read.reading.locked():
                del self._read[name]


def _rank(event: WarningEvent) -> tuple[bool, datetime]:
    return not event.message.startswith(SUMMARY), event.time


def _newest(found: Mapping[str, WarningEvent]) -> dict[str, WarningEvent]:
    by_time = sorted(found.items(), key=lambda each: each[1].time, reverse=True)
    return dict(by_time[:LIMIT])


def _of(namespace: str, error: Exception) -> Raw:
    return {"namespace": namespace, "error": str(error)}
