"""Drives reconciles: a queue of keys, workers, back-off, and the sweep that heals what watches
lose."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import aiohttp
from pydantic import ValidationError

from wan_operator import conditions, sweep
from wan_operator.delayqueue import DelayQueue
from wan_operator.errors import PermanentError, TransientError
from wan_operator.kube import Kube
from wan_operator.metrics import Metrics
from wan_operator.reconcile.decision import Decision
from wan_operator.reconcile.ends import stalled
from wan_operator.reconcile.finetune import progress_addresses, reconcile
from wan_operator.reconcile.observed import Refusal, step_of
from wan_operator.resources.labels import Manifest
from wan_operator.settings import Settings
from wan_operator.sweep import Key
from wan_operator.watchdog import Watchdog
from wan_runtime.job import PROGRESS_PORT, Progress

logger = logging.getLogger(__name__)

PROGRESS_TIMEOUT = aiohttp.ClientTimeout(total=2)
PROGRESS_BYTES = 16 * 1024
"""Of an answer that is read at most: the pod runs the user's data, so its words are bounded."""
TRANSIENT_LIMIT_SECONDS = 60.0
PERMANENT_SECONDS = 300.0
BUG_LIMIT_SECONDS = 600.0


class Controller:
    def __init__(
        self, kube: Kube, settings: Settings, metrics: Metrics, http: aiohttp.ClientSession
    ) -> None:
        self._kube = kube
        self.settings = settings
        self._metrics = metrics
        self._http = http
        self._failures: Counter[Key] = Counter()
        self.queue: DelayQueue[Key] = DelayQueue()
        self.watchdog = Watchdog()
        self.synced = asyncio.Event()
        """One sweep has seen everything."""

    async def run(self) -> None:
        """Until cancelled or stopped."""
        async with asyncio.TaskGroup() as group:
            sweeper = group.create_task(self._sweep_for_ever(), name="sweeper")
            workers = [
                group.create_task(self._work(), name=f"worker-{number}")
                for number in range(self.settings.workers)
            ]
            await asyncio.wait(workers)
            sweeper.cancel()

    def stop(self) -> None:
        """No new keys; workers finish what they hold."""
        self.queue.close()

    def enqueue(self, key: Key, after: float = 0.0) -> None:
        self.queue.add(key, after)

    # One key

    async def _work(self) -> None:
        while (entry := await self.queue.get()) is not None:
            key, due = entry
            result = "error"
            start = time.monotonic()
            try:
                result = await self._handle(key)
            finally:
                self.queue.done(key)
                now = time.monotonic()
                self._metrics.reconcile_seconds.labels(result).observe(now - start)
                self._metrics.event_to_status_seconds.observe(now - due)

    async def _handle(self, key: Key) -> str:
        """One reconcile, and when the next is due. This is where every error ends."""
        try:
            look_again = await self._reconcile(key)
        except TransientError as error:
            pause = error.retry_after or self._back_off(key, TRANSIENT_LIMIT_SECONDS)
            logger.info("will try again", extra={**of(key), "in": pause, "error": str(error)})
            self.enqueue(key, pause)
            return "transient"
        except PermanentError as error:
            logger.warning("refused", extra={**of(key), "error": str(error)})
            self.enqueue(key, PERMANENT_SECONDS)
            return "permanent"
        except Exception:  # A bug in one resource's reconcile must not stop the others.
            pause = self._back_off(key, BUG_LIMIT_SECONDS)
            logger.exception("bug", extra={**of(key), "in": pause})
            self.enqueue(key, pause)
            return "bug"
        self._failures.pop(key, None)
        if look_again is not None:
            self.enqueue(key, look_again)
        return "done"

    def _back_off(self, key: Key, limit: float) -> float:
        self._failures[key] += 1
        pause = min(limit, 0.5 * 2.0 ** min(self._failures[key], 12))
        return pause * random.uniform(0.8, 1.2)

    async def _reconcile(self, key: Key) -> float | None:
        """Look, decide, act. Seconds until the next look."""
        namespace, name = key
        cr = await self._kube.get_finetune(namespace, name)
        if cr is None:
            return None
        observed = await self._kube.observe(namespace, name)
        now = datetime.now(UTC)
        addresses = progress_addresses(cr, observed, self.settings, now)
        said = await asyncio.gather(*(self._progress(each) for each in addresses.values()))
        answers = {id: each for id, each in zip(addresses, said, strict=True) if each is not None}
        observed = replace(observed, progress=answers)
        decision = reconcile(cr, observed, self.settings, now)
        refused = await self._make(decision.children)
        if refused:
            # Decided again without them: what is refused to one step must not hold the others.
            decision = reconcile(cr, replace(observed, refused=refused), self.settings, now)
        try:
            await self._carry_out(cr, decision)
        except PermanentError as error:
            await self._tell_refusal(cr, error, now)
            raise
        return decision.look_again_after

    async def _make(self, children: Sequence[Manifest]) -> dict[str, Refusal]:
        """What the API server refuses, by step; of such a step nothing more is made."""
        refused: dict[str, Refusal] = {}
        for manifest in children:
            if step_of(manifest) in refused:
                continue
            try:
                await self._kube.ensure(manifest)
            except PermanentError as error:
                child = f"{manifest['kind']} {manifest['metadata']['name']}"
                logger.warning("refused", extra={"child": child, "error": str(error)})
                refused[step_of(manifest)] = Refusal(reason_of(error), str(error))
        return refused

    async def _carry_out(self, cr: dict[str, Any], decision: Decision) -> None:
        """After the children are made: a status never speaks of a child that was not."""
        metadata = cr["metadata"]
        for target in decision.deletes:
            await self._kube.delete(metadata["namespace"], target)
        if decision.status is None:
            return
        if await self._kube.patch_status(cr, decision.status) is None:
            return
        before, after = (
            each.get("lostGpuSeconds", 0) for each in (cr.get("status", {}), decision.status)
        )
        self._metrics.lost_gpu_seconds.inc(max(0, after - before))
        for event in decision.events:
            logger.info(event.message, extra={**of_cr(cr), "reason": event.reason})
            try:
                await self._kube.post_event(cr, event)
            except (TransientError, PermanentError) as error:
                # An Event is a courtesy; what counts is in the status.
                logger.warning("event not posted", extra={**of_cr(cr), "error": str(error)})

    async def _tell_refusal(self, cr: dict[str, Any], error: PermanentError, now: datetime) -> None:
        """The API server refuses a deletion or the status: say so where the user looks."""
        decision = stalled(cr, reason_of(error), str(error), now)
        try:
            await self._carry_out(cr, decision)
        except PermanentError as second:
            logger.warning("status refused too", extra={**of_cr(cr), "error": str(second)})

    async def _progress(self, address: str) -> Progress | None:
        """What the pod says of itself. Failing to read it is never an error: training goes on."""
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{PROGRESS_PORT}/progress"
        try:
            async with self._http.get(
                url, timeout=PROGRESS_TIMEOUT, allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    return None
                body = b""
                async for chunk in answer.content.iter_chunked(PROGRESS_BYTES):
                    body += chunk
                    if len(body) > PROGRESS_BYTES:
                        return None
                return Progress.model_validate_json(body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as error:
            logger.debug("no progress", extra={"url": url, "error": str(error)})
            return None

    # Everything

    async def _sweep_for_ever(self) -> None:
        failures = 0
        while True:
            try:
                await self.sweep()
                failures = 0
                self._metrics.sweeps.labels("done").inc()
                pause = self.settings.sweep_seconds * random.uniform(0.9, 1.1)
            except (TransientError, PermanentError) as error:
                failures += 1
                self._metrics.sweeps.labels("failed").inc()
                pause = min(self.settings.sweep_seconds, 2.0**failures)
                logger.warning("sweep failed", extra={"in": pause, "error": str(error)})
            await asyncio.sleep(pause)

    async def sweep(self) -> None:
        """Looks at everything there is and enqueues what needs something."""
        try:
            snapshot = await sweep.take(self._kube, self.watchdog, self.settings)
            await sweep.act(snapshot, self.settings, self.enqueue)
        except BaseException:
            self.watchdog.forget_listed()
            raise
        self._metrics.counted(self._metrics.finetunes, snapshot.states)
        self._metrics.counted(self._metrics.children, snapshot.steps)
        self.synced.set()


def reason_of(error: PermanentError) -> str:
    return error.reason if error.reason in conditions.REASONS else "RequestRefused"


def of(key: Key) -> dict[str, str]:
    return {"namespace": key[0], "finetune": key[1]}


def of_cr(cr: dict[str, Any]) -> dict[str, str]:
    return of((cr["metadata"]["namespace"], cr["metadata"]["name"]))
