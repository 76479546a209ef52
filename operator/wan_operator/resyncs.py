"""Makes controllers of the cluster try again, no more often than they can bear."""

from __future__ import annotations

import logging
import time

from wan_operator.errors import PermanentError
from wan_operator.kube import Kube
from wan_operator.reconcile.decision import Resync

logger = logging.getLogger(__name__)

PER_SECOND = 4.0
"""Tries at most, of all resources together. The Job controller has 20 requests a second for the
whole cluster, and a try costs it at least two."""
BURST = 10
"""Tries that may come at once."""


class Resyncs:
    """Beyond its limits it leaves a try out: it is decided anew a few seconds later."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._full = 0.0
        """When the whole burst is free again, by the monotonic clock."""

    async def carry_out(self, namespace: str, resync: Resync) -> None:
        """One try. Without the right to it, the back-off of the object's controller is waited
        for."""
        now = time.monotonic()
        full = max(self._full, now) + 1 / PER_SECOND
        if full - now > BURST / PER_SECOND:
            return
        self._full = full
        try:
            await self._kube.resync(namespace, resync)
        except PermanentError as error:
            child = f"{resync.kind} {namespace}/{resync.name}"
            logger.warning("not hastened", extra={"child": child, "error": str(error)})
