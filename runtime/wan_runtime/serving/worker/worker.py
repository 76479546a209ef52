"""`wan-runtime worker`: takes jobs from the queue and has ranks render them.

A process of its own beside the ranks, without torch: it outlives whatever happens to a GPU, and
always knows where a job is. While one video is written and uploaded, the ranks make the next.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import ExitClass
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.errors import InfrastructureError
from wan_runtime.models.adapters.files import FOLDER, AdapterFiles
from wan_runtime.presets import preset_named
from wan_runtime.serving.queue.errors import QueueAway
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.settings import settle
from wan_runtime.serving.worker.adapter_recheck import Recheck
from wan_runtime.serving.worker.attempt import Attempt, Timing
from wan_runtime.serving.worker.inputs import Inputs
from wan_runtime.serving.worker.messages import Checked
from wan_runtime.serving.worker.processes import Patience, Processes, RanksFailed
from wan_runtime.serving.worker.production import Production
from wan_runtime.serving.worker.restarts import Restarts
from wan_runtime.serving.worker.status import Status
from wan_runtime.wait import within

log = logging.getLogger(__name__)

JOBS_AT_ONCE = 3
"""One is rendered; two may be written, their frames on the disk."""


class Worker:
    """Worker of one service, with one set of ranks."""

    def __init__(
        self,
        service: ServiceSpec,
        service_file: Path,
        queue: Queue,
        store: Store,
        work: Path,
        *,
        ranks: int = 1,
        pod: str = "",
        revision: str = "",
        timing: Timing | None = None,
        patience: Patience | None = None,
    ) -> None:
        """`service_file`: from which the ranks read `service`. `work`: scratch folder. `revision`:
        of the service that `pod` belongs to."""
        self.name = f"{pod or socket.gethostname()}-{uuid4().hex[:8]}"
        self.status = Status(self.name, service, ranks, pod, revision)
        self.processes: Processes | None = None
        self._file, self._queue, self._work, self._ranks = service_file, queue, work, ranks
        self._timing, self._patience = timing or Timing(), patience or Patience()
        preset = preset_named(service.model.preset)
        files = AdapterFiles(store, work / FOLDER, preset)
        inputs = Inputs(service, store, files, self.status.notes)
        self._recheck = Recheck(service, files, self.status, self._timing.rechecks)
        self._production = Production(service, preset, store, inputs, work / "jobs", self.status)
        self._sizes = frozenset(map(str, service.sizes))
        self._settle = partial(settle, service=service)
        self._restarts = Restarts(self._timing.back_off)
        self._jobs: set[asyncio.Task[None]] = set()
        self._stopping, self._news = asyncio.Event(), asyncio.Event()
        self._stop_by = 0.0

    def stop(self) -> None:
        """SIGTERM: take no more jobs; end or hand back what is at hand, within the grace."""
        if not self._stopping.is_set():
            log.info("stopping within %.0f s", self._timing.grace)
            self._stop_by = time.monotonic() + self._timing.grace - self._timing.margin
            self.status.stopping = True
            self._stopping.set()
            self._news.set()

    async def run(self) -> ExitClass:
        """Run until `stop`, or until no ranks can be had."""
        reports = asyncio.create_task(self._report())
        recheck = asyncio.create_task(self._recheck.run(lambda: self.processes, self._news.set))
        try:
            while not self._stopping.is_set():
                if self.processes is None:
                    await self._unless_stopping(self._begin())
                else:
                    await self._take()
            return ExitClass.STOPPED
        except RanksFailed as lost:
            log.error("no ranks can be had: %s", lost)
            return ExitClass.INPUT if lost.hopeless else ExitClass.INFRASTRUCTURE
        except InfrastructureError as refused:
            log.error("%s", refused)
            return ExitClass.INFRASTRUCTURE
        finally:
            self.stop()  # of its own accord, too
            await self._end()
            reports.cancel()
            recheck.cancel()
            with suppress(QueueAway):
                await self._queue.gone(self.name)

    async def _begin(self) -> None:
        """Start ranks, if it can be. Raises RanksFailed, if no more are to be tried."""
        await self._restarts.wait()
        processes = await Processes.start(self._file, self._ranks, self._work, self._patience)
        try:
            await processes.begin()
        except RanksFailed as lost:
            self._lost(lost)
            return
        except BaseException:
            await processes.kill()
            raise
        processes.on_checked = self._checked
        self.processes = processes
        self.status.begins(processes.ready)
        self._news.set()
        log.info("ready: %d ranks", self._ranks)

    def _checked(self, report: Checked) -> None:
        self._recheck.answered(report.adapters)
        self.status.note(*report.adapters)
        self._news.set()

    async def _take(self) -> None:
        """The next job, until the ranks are free again; or a pause, if there is none. Raises
        InfrastructureError: the store refuses."""
        if self.status.store_problem is not None:
            await self._unless_stopping(self._production.store_answers())
            return
        if len(self._jobs) >= JOBS_AT_ONCE:
            await self._unless_stopping(
                asyncio.wait(self._jobs, return_when=asyncio.FIRST_COMPLETED)
            )
            return
        try:
            job = await self._queue.claim(
                self.name,
                self._timing.lease,
                self.status.revision,
                self.status.lacking,
                sizes=self._sizes,
                settle=self._settle,
            )
        except QueueAway as error:
            log.warning("no job can be claimed: %s", error)
            job = None
        if job is None:
            await self._unless_stopping(self._queue.wait(self._timing.idle))
            return
        free = asyncio.Event()
        attempt = Attempt(self._queue, self.name, job, self._timing)
        task = asyncio.create_task(self._attend(attempt, free))
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)
        await self._unless_stopping(free.wait())
        if self._stopping.is_set() and not free.is_set():
            await self._end_or_leave(task, attempt)

    async def _attend(self, attempt: Attempt, free: asyncio.Event) -> None:
        """A job to its end here. `free`: set when the ranks are."""
        assert self.processes is not None
        self.status.rendering = True
        self.status.in_hand += 1
        self._news.set()

        def release() -> None:
            if not free.is_set():
                self.status.rendering = False
                free.set()

        try:
            async with attempt:
                await self._production.make(attempt, self.processes, release)
        except RanksFailed as lost:
            self._lost(lost)
            self.status.restarts.inc()
        except QueueAway as error:
            log.warning("%s: left to its lease: %s", attempt.job.id, error)
        finally:
            release()
            self.status.in_hand -= 1
            self._news.set()

    def _lost(self, why: RanksFailed) -> None:
        self._restarts.lost(why)
        self.processes, self.status.ready, self.status.problem = None, (), str(why)
        self._news.set()

    async def _end_or_leave(self, task: asyncio.Task[None], attempt: Attempt) -> None:
        """Stop with a video at work: it is ended if that is predicted to fit the grace."""
        left = self._stop_by - time.monotonic()
        eta = attempt.advance.eta_seconds
        if eta is not None and eta <= left:
            await asyncio.wait({task}, timeout=left)
        task.cancel()

    async def _end(self) -> None:
        """What is being written may end within the grace; then all is handed back and killed."""
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=max(0.0, self._stop_by - time.monotonic()))
        for task in self._jobs:
            task.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        if self.processes is not None:
            await self.processes.kill()

    async def _report(self) -> None:
        """Record at each interval that the event loop runs, and report the worker to the queue."""
        while True:
            self.status.turned = time.monotonic()
            self._news.clear()
            with suppress(QueueAway):
                await self._queue.alive(self.status.info())
            await within(self._timing.beat, self._news)

    async def _unless_stopping(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do it, or leave it at `stop`."""
        task, stopping = asyncio.create_task(work), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            task.cancel()  # does nothing to one that is done
        with suppress(asyncio.CancelledError):
            await task
