"""A job in this worker's hands: its lease is renewed and its progress reported, to whatever end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from wan_runtime.rendering.order import Advance, Job, Problem, Rendered, Stage
from wan_runtime.serving.queue.errors import QueueAway
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.worker.adapter_recheck import PAUSES
from wan_runtime.serving.worker.arguments import GRACE_SECONDS
from wan_runtime.wait import within

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """Intervals and time limits of a worker, in seconds."""

    lease: float = 30.0
    beat: float = 5.0
    """Seconds between renewals of a lease."""
    news: float = 1.0
    """Seconds between renewals that report a new step."""
    idle: float = 5.0
    """Seconds between polls of an empty queue, at most; a notification comes sooner."""
    grace: float = GRACE_SECONDS
    """Seconds from SIGTERM to SIGKILL."""
    margin: float = 5.0
    """Seconds of the grace period that are left for returning the job to the queue."""
    back_off: float = 1.0
    """Seconds before the first restart of the ranks; doubled each time, up to a minute."""
    rechecks: tuple[float, float] = PAUSES
    """Seconds between checks of adapters that are not ready: at first, and at most."""


class Attempt:
    """Inside `async with` the lease is renewed."""

    def __init__(self, queue: Queue, worker: str, job: Job, timing: Timing) -> None:
        self.job = job
        self.unwanted = False
        """Cancelled by its owner, or given to another worker."""
        self.on_unwanted: Callable[[], None] = lambda: None
        self.advance = Advance(stage=Stage.LOADING, steps=job.order.steps)
        self._queue, self._worker, self._timing = queue, worker, timing
        self._news, self._over = asyncio.Event(), asyncio.Event()
        self._tasks: tuple[asyncio.Task[None], asyncio.Task[None]] | None = None

    async def __aenter__(self) -> Attempt:
        self._tasks = asyncio.create_task(self._renew()), asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._tasks is not None
        renewing, listening = self._tasks
        self._over.set()
        self._news.set()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await renewing

    def report(self, stage: Stage, step: int, eta_seconds: float | None) -> None:
        """Where it is; owners see it within a second or two."""
        steps = self.job.order.steps
        self.advance = Advance(stage=stage, step=step, steps=steps, eta_seconds=eta_seconds)
        self._news.set()

    async def complete(self, rendered: Rendered) -> bool:
        """Whether it was still ours."""
        return await self._queue.complete(self.job.id, self._worker, rendered)

    async def fail(self, problem: Problem) -> None:
        log.warning("%s failed: %s: %s", self.job.id, problem.code, problem.message)
        await self._queue.fail(self.job.id, self._worker, problem)

    async def cancelled(self) -> None:
        log.info("%s: cancelled", self.job.id)
        await self._queue.cancelled(self.job.id, self._worker)

    async def hand_back(self, reason: str, *, counts: bool) -> None:
        log.warning("%s: handed back: %s", self.job.id, reason)
        await self._queue.hand_back(self.job.id, self._worker, reason, counts=counts)

    async def _renew(self) -> None:
        while not self._over.is_set():
            self._news.clear()
            try:
                beat = await self._queue.heartbeat(
                    self.job.id, self._worker, self.advance, self._timing.lease
                )
            except QueueAway as error:
                log.warning("%s: the lease cannot be renewed: %s", self.job.id, error)
            else:
                if beat.cancel_requested or beat.lost:
                    self._drop()
            await within(self._timing.news, self._over)
            await within(self._timing.beat - self._timing.news, self._news)

    async def _listen(self) -> None:
        """A cancellation is heard at once, not with the next heartbeat: a step may be shorter."""
        job = self.job
        try:
            async for job in self._queue.watch(self.job.id):
                if job.cancel_requested:
                    break
        except QueueAway:
            return  # the heartbeat goes on trying
        if not job.state.final:  # cancelled, or removed from under us
            self._drop()

    def _drop(self) -> None:
        if not self.unwanted:
            self.unwanted = True
            self.on_unwanted()
