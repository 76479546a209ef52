"""How often ranks are started anew: with back-off, within a budget."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

from wan_runtime.serving.worker.processes import RanksFailed

log = logging.getLogger(__name__)

BUDGET = 5
"""Within WINDOW; one more ends the worker, and Kubernetes sees it."""
WINDOW = 3600.0
LONGEST = 60.0


class Restarts:
    """Restarts of one worker's ranks."""

    def __init__(self, back_off: float) -> None:
        """`back_off`: seconds before the first; doubled each time."""
        self._back_off = back_off
        self._losses: deque[tuple[float, RanksFailed]] = deque()

    def lost(self, why: RanksFailed) -> None:
        """The ranks ended."""
        log.error("the ranks are lost: %s", why)
        now = time.monotonic()
        self._losses.append((now, why))
        while self._losses[0][0] < now - WINDOW:
            self._losses.popleft()

    async def wait(self) -> None:
        """Before the next start. Raises RanksFailed as the last one was, if others would end
        alike or the budget is spent."""
        if not self._losses:
            return
        why = self._losses[-1][1]
        if why.hopeless or len(self._losses) > BUDGET:
            raise why
        await asyncio.sleep(min(LONGEST, self._back_off * 2 ** (len(self._losses) - 1)))
