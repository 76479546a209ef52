"""One active replica: a Lease that the holder renews and gives back when it leaves.

The client library's leader election cannot give a Lease back, and stamps local time as UTC; this
one does what client-go's does, on `Kube`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from datetime import UTC, datetime
from typing import Any

from wan_operator.errors import PermanentError, TransientError
from wan_operator.kube import Kube
from wan_operator.resources.labels import MANAGED_BY, MANAGER
from wan_operator.settings import Settings

logger = logging.getLogger(__name__)


class LeaseLostError(Exception):
    """Not renewed in time: another replica may lead. The process must end, since work in flight is
    no longer ours."""


class Lease:
    def __init__(self, kube: Kube, settings: Settings) -> None:
        self._kube = kube
        self._settings = settings
        self._has_claimed = False
        """Whether a write that makes this replica the holder was sent, be it answered or not."""
        self._seen: tuple[str, float] = ("", 0.0)
        """Version of another's Lease and when we saw it first, by our own clock: clocks of nodes
        differ."""
        self._renewed = 0.0
        """When the last attempt that succeeded began: the others count from its write."""

    async def acquire(self) -> None:
        """Returns once this replica leads."""
        while True:
            if await self._attempt():
                break
            await asyncio.sleep(self._settings.lease_seconds / 5)
        logger.info("leading", extra={"lease": self._settings.lease_name})

    async def keep(self) -> None:
        """Renews until cancelled. Raises LeaseLostError."""
        lease_seconds = self._settings.lease_seconds
        while True:
            await asyncio.sleep(lease_seconds / 5)
            # Two thirds: this replica has stopped before another may start.
            deadline = self._renewed + lease_seconds * 2 / 3
            left = deadline - time.monotonic()
            done = left > 0 and await self._attempt(left)
            if not done and time.monotonic() >= deadline:
                raise LeaseLostError(f"Lease {self._settings.lease_name} could not be renewed")

    async def release(self) -> None:
        """Lets the other replica lead at once. Failing to is no harm: the Lease runs out."""
        if not self._has_claimed:
            return
        try:
            async with asyncio.timeout(self._settings.lease_seconds / 3):
                while not await self._give_back():
                    logger.debug("lease changed while it was given back")
        except (TransientError, PermanentError, TimeoutError) as error:
            logger.warning("lease not given back", extra={"error": str(error) or "no answer"})

    async def _give_back(self) -> bool:
        """Whether the Lease is no longer ours. The one that is there counts, not the last that was
        answered: a renewal that was cut short may have been written, even since it was read."""
        settings = self._settings
        found = await self._kube.get_lease(settings.namespace, settings.lease_name)
        if found is None or found.get("spec", {}).get("holderIdentity") != settings.identity:
            return True
        spec = {**found["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._kube.put_lease({**found, "spec": spec})
        except TransientError as error:
            if error.reason == "Conflict":
                return False
            raise
        return True

    async def _attempt(self, limit: float = math.inf) -> bool:
        settings, began = self._settings, time.monotonic()
        try:
            # Shorter than the calls' own limit: a hanging API server must not outlast the Lease.
            async with asyncio.timeout(min(limit, settings.lease_seconds / 3)):
                found = await self._kube.get_lease(settings.namespace, settings.lease_name)
                if found is not None and not self._may_take(found):
                    return False
                self._has_claimed = True
                await self._kube.put_lease(self._claim(found))
        except (TransientError, TimeoutError) as error:
            logger.debug("lease not written", extra={"error": str(error)})
            return False
        except PermanentError as error:
            if error.reason == "AlreadyExists":
                return False
            logger.error("lease refused", extra={"error": str(error)})
            return False
        self._renewed = began
        return True

    def _may_take(self, found: dict[str, Any]) -> bool:
        spec = found.get("spec", {})
        holder = spec.get("holderIdentity", "")
        if holder in ("", self._settings.identity):
            return True
        version = found["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, time.monotonic())
        duration: float = spec.get("leaseDurationSeconds", self._settings.lease_seconds)
        return time.monotonic() - self._seen[1] > duration

    def _claim(self, found: dict[str, Any] | None) -> dict[str, Any]:
        settings = self._settings
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease = found or {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": settings.lease_name,
                "namespace": settings.namespace,
                "labels": {MANAGED_BY: MANAGER},
            },
        }
        before = lease.get("spec", {})
        ours = before.get("holderIdentity") == settings.identity
        spec = {
            "holderIdentity": settings.identity,
            "leaseDurationSeconds": settings.lease_seconds,
            "acquireTime": before.get("acquireTime", now) if ours else now,
            "renewTime": now,
            "leaseTransitions": before.get("leaseTransitions", 0) + (0 if ours else 1),
        }
        return {**lease, "spec": spec}
