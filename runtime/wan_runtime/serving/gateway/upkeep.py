"""What must happen without a request: leases that ran out, videos past their time, objects."""

from __future__ import annotations

import asyncio
import logging

from fastapi.concurrency import run_in_threadpool

from wan_runtime.artifacts.store import Store
from wan_runtime.errors import StepError
from wan_runtime.serving.gateway.predict import SEEN, Predictor
from wan_runtime.serving.queue.errors import QueueAway
from wan_runtime.serving.queue.queue import Queue

log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two rounds: a dead worker's job waits that long beyond its lease."""
REMOVED = 200
"""Objects a round."""


class Upkeep:
    """Every gateway does it; the queue's locks keep them apart."""

    def __init__(self, queue: Queue, store: Store, predictor: Predictor) -> None:
        self._queue, self._store, self._predictor = queue, store, predictor
        self._known: set[str] = set()

    async def run(self) -> None:
        """Until cancelled. An outage is waited out: there is always a next round."""
        while True:
            try:
                await self.round()
            except (QueueAway, StepError) as error:
                log.warning("upkeep waits: %s", error)
            await asyncio.sleep(EVERY)

    async def round(self) -> None:
        """One pass. Raises QueueAway, StepError."""
        handed_back = await self._queue.reap()
        if handed_back:
            log.warning("%d jobs of workers that are gone are queued again", handed_back)
        await self._queue.expire()
        keys = await self._queue.rubbish(REMOVED)
        if keys:
            await run_in_threadpool(self._remove, keys)
            await self._queue.removed(keys)
        await self._learn()

    def _remove(self, keys: list[str]) -> None:
        for key in keys:
            # A folder: all that a job left.
            below = self._store.list(key) if key.endswith("/") else ()
            self._store.delete([each.key for each in below] or [key])

    async def _learn(self) -> None:
        for job in reversed(await self._queue.completed(SEEN)):
            if job.id not in self._known:
                self._known.add(job.id)
                self._predictor.learn(job)
