"""What must happen without a request: leases that ran out, videos past their time, objects."""

from __future__ import annotations

import asyncio
import logging
import time

from fastapi.concurrency import run_in_threadpool

from wan_runtime.artifacts.store import Store
from wan_runtime.errors import StepError
from wan_runtime.serving.gateway.predict import SEEN, Predictor
from wan_runtime.serving.objects import jobs_below, remove
from wan_runtime.serving.queue.errors import QueueAway
from wan_runtime.serving.queue.queue import Queue

log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two rounds: a dead worker's job waits that long beyond its lease."""
REMOVED = 200
"""Objects a round."""
TEND = 600.0
"""Seconds between two rounds for services that nobody tends."""
SWEEP = 3600.0
"""Seconds between two looks for folders that no job owns: a gateway that died between keeping a
photo and queueing its job leaves one. What is there at two looks goes."""


class Upkeep:
    """Every gateway does it; the queue's locks keep them apart."""

    def __init__(self, queue: Queue, store: Store, predictor: Predictor, prefix: str) -> None:
        """`prefix`: ServiceSpec.prefix."""
        self._queue, self._store, self._predictor = queue, store, predictor
        self._folder = f"{prefix}/videos/"
        self._known: set[str] = set()
        self._ownerless: set[str] = set()
        self._sweep_at = self._tend_at = 0.0

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
            await run_in_threadpool(remove, self._store, keys)
            await self._queue.removed(keys)
        await self._learn()
        if time.monotonic() >= self._tend_at:
            await self.tend()
            self._tend_at = time.monotonic() + TEND
        if time.monotonic() >= self._sweep_at:
            await self.sweep()
            self._sweep_at = time.monotonic() + SWEEP

    async def tend(self) -> None:
        """Keep the retention of services in the same bucket that have nobody left to do it."""
        await self._queue.tended()
        for remains in await self._queue.untended():
            jobs = await remains.clear(lambda keys: run_in_threadpool(remove, self._store, keys))
            if jobs:
                log.info("%d videos of %s are removed", jobs, remains.keeping.service)

    async def sweep(self) -> None:
        """Remove the folders that no job owned the last time either."""
        found = await run_in_threadpool(jobs_below, self._store, self._folder)
        ownerless = found - await self._queue.existing(found)
        for job_id in ownerless & self._ownerless:
            log.warning("%s%s/ belongs to no job and is removed", self._folder, job_id)
            await run_in_threadpool(remove, self._store, [f"{self._folder}{job_id}/"])
        self._ownerless = ownerless - self._ownerless

    async def _learn(self) -> None:
        jobs = await self._queue.completed(SEEN)
        for job in reversed(jobs):
            if job.id not in self._known:
                self._predictor.learn(job)
        self._known = {job.id for job in jobs}
