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

import aiohttp

from wan_operator import clearing, pages, sweep
from wan_operator.conditions.namespaces import placed
from wan_operator.delayqueue import DelayQueue
from wan_operator.errors import PermanentError, TransientError
from wan_operator.events import Warnings
from wan_operator.kinds import KINDS, Kind, key_of
from wan_operator.kube import Kube
from wan_operator.metrics import Metrics
from wan_operator.nodes import Nodes
from wan_operator.reconcile.decision import Decision
from wan_operator.reconcile.observed import Key, Observed, Raw, Refusal
from wan_operator.resources.labels import Manifest
from wan_operator.resyncs import Resyncs
from wan_operator.settings import Settings
from wan_operator.watchdog import Watchdog
from wan_operator.workloads import Workloads

logger = logging.getLogger(__name__)

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
        self._nodes = Nodes(kube)
        self._warnings = Warnings(kube)
        self._workloads = Workloads(kube)
        self._resyncs = Resyncs(kube)
        self._failures: Counter[Key] = Counter()
        self._followed: dict[Key, frozenset[Key]] = {}
        """Resources that a resource reads, by its key."""
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

    async def deleted(self, kind: Kind, cr: Raw) -> None:
        """A resource is gone: what it left goes once nothing holds it."""
        await clearing.after_deletion(self._kube, kind, cr, self.settings)

    def enqueue_followers(self, key: Key) -> None:
        """Enqueue the resources that read a resource which has changed."""
        for follower, followed in self._followed.items():
            if key in followed:
                self.enqueue(follower)

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
                self._metrics.reconcile_seconds.labels(key.kind, result).observe(now - start)
                self._metrics.event_to_status_seconds.observe(now - due)

    async def _handle(self, key: Key) -> str:
        """One reconcile, and when the next is due. This is where every error ends."""
        try:
            requeue_after = await self._reconcile(key)
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
        if requeue_after is not None:
            self.enqueue(key, requeue_after)
        return "done"

    def _back_off(self, key: Key, limit: float) -> float:
        self._failures[key] += 1
        pause = min(limit, 0.5 * 2.0 ** min(self._failures[key], 12))
        return pause * random.uniform(0.8, 1.2)

    async def _reconcile(self, key: Key) -> float | None:
        """Observe, decide, act. Returns the seconds until the next reconcile."""
        kind = KINDS[key.kind]
        cr = await self._kube.get(key)
        self._follow(key, kind.followed_by(cr) if cr else frozenset())
        if cr is None:
            return None
        observed = await self._kube.observe(key)
        now = datetime.now(UTC)
        observed = await self._ask_around(kind, cr, observed, now)
        decision = kind.reconcile(cr, observed, self.settings, now)
        if decision.asks_warnings:
            observed = replace(observed, warnings=await self._warnings.of(key.namespace))
            decision = kind.reconcile(cr, observed, self.settings, now)
        if decision.asks_workloads:
            workloads = await self._workloads.of(key.namespace, decision.asks_workloads)
            observed = replace(observed, workloads=workloads)
            decision = kind.reconcile(cr, observed, self.settings, now)
        if decision.asks_room:
            observed = replace(observed, room=await self._nodes.room())
            decision = kind.reconcile(cr, observed, self.settings, now)
        if decision.room_left is not None:
            self._nodes.take(decision.room_left)
        refused = await self._make(kind, decision.children)
        if refused:
            # Decided again without them: what is refused to one unit must not hold the others.
            decision = kind.reconcile(cr, replace(observed, refused=refused), self.settings, now)
        try:
            await self._carry_out(cr, decision)
        except PermanentError as error:
            await self._report_refusal(kind, cr, error, now)
            raise
        return decision.requeue_after

    def _follow(self, key: Key, followed: frozenset[Key]) -> None:
        """Known before they are read, so that no change goes unnoticed."""
        if followed:
            self._followed[key] = followed
        else:
            self._followed.pop(key, None)

    async def _ask_around(self, kind: Kind, cr: Raw, observed: Observed, now: datetime) -> Observed:
        """What a decision reads besides the children: the pods' pages, and other resources."""
        said = {}
        if kind.page is not None:
            addresses = kind.page.addresses(cr, observed, self.settings, now)
            said = await pages.ask(self._http, kind.page, addresses)
        found = {key: await self._kube.get(key) for key in kind.followed_by(cr)}
        followed = {key: each for key, each in found.items() if each is not None}
        return replace(observed, pages=said, followed=followed)

    async def _make(self, kind: Kind, children: Sequence[Manifest]) -> dict[str, Refusal]:
        """What the API server refuses, by unit; of such a unit nothing more is made."""
        refused: dict[str, Refusal] = {}
        for manifest in children:
            unit = kind.unit(manifest)
            if unit in refused:
                continue
            try:
                await self._kube.ensure(manifest)
            except PermanentError as error:
                namespace, name = (manifest["metadata"][each] for each in ("namespace", "name"))
                child = f"{manifest['kind']} {namespace}/{name}"
                logger.warning("refused", extra={"child": child, "error": str(error)})
                text = placed(str(error), namespace)
                refused[unit] = Refusal(reason_of(kind, error), text)
        return refused

    async def _carry_out(self, cr: Raw, decision: Decision) -> None:
        """After the children are made: a status never speaks of a child that was not."""
        metadata = cr["metadata"]
        for target in decision.deletes:
            await self._kube.delete(metadata["namespace"], target)
        for resync in decision.resyncs:
            await self._resyncs.carry_out(metadata["namespace"], resync)
        if decision.status is None:
            return
        if await self._kube.patch_status(cr, decision.status) is None:
            return
        before, after = (
            each.get("lostGpuSeconds", 0) for each in (cr.get("status", {}), decision.status)
        )
        self._metrics.lost_gpu_seconds.inc(max(0, after - before))
        for each in decision.events:
            event = replace(each, message=placed(each.message, metadata["namespace"]))
            logger.info(event.message, extra={**of_cr(cr), "reason": event.reason})
            try:
                await self._kube.post_event(cr, event)
            except (TransientError, PermanentError) as error:
                # An Event is a courtesy; what counts is in the status.
                logger.warning("event not posted", extra={**of_cr(cr), "error": str(error)})

    async def _report_refusal(
        self, kind: Kind, cr: Raw, error: PermanentError, now: datetime
    ) -> None:
        """The API server refuses a deletion or the status: say so where the user reads."""
        decision = kind.stalled(cr, reason_of(kind, error), str(error), now)
        try:
            await self._carry_out(cr, decision)
        except PermanentError as second:
            logger.warning("status refused too", extra={**of_cr(cr), "error": str(second)})

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
            for key, followed in snapshot.followed_by.items():
                # What a reconcile has found meanwhile is newer.
                self._followed.setdefault(key, followed)
            await sweep.act(snapshot, self.settings, self.enqueue)
            await clearing.release(self._kube, snapshot.waiting, snapshot.crs.values())
        except BaseException:
            self.watchdog.forget_listed()
            raise
        self._metrics.counted(self._metrics.resources, snapshot.states)
        self._metrics.counted(self._metrics.children, snapshot.steps)
        self.synced.set()


def reason_of(kind: Kind, error: PermanentError) -> str:
    return error.reason if error.reason in kind.vocabulary.reasons else "RequestRefused"


def of(key: Key) -> dict[str, str]:
    return {"kind": key.kind, "namespace": key.namespace, "resource": key.name}


def of_cr(cr: Raw) -> dict[str, str]:
    return of(key_of(cr["kind"], cr))
