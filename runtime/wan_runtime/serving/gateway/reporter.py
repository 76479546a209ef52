"""What the operator and Prometheus ask a gateway, answered from memory: a report on the service,
taken every few seconds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from wan_runtime.contract.report import (
    STATE_PAGE,
    AdapterNote,
    Fault,
    GatewayState,
    ServiceReport,
)
from wan_runtime.contract.rollout import Rollout
from wan_runtime.process.pages import Page, json_page, plain_page
from wan_runtime.serving.gateway.availability import faulty
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.reach import fault_of

log = logging.getLogger(__name__)

EVERY = 2.0
"""Seconds between two reports."""
SILENCE = 60.0
"""Seconds without a turn of its loop, after which the gateway counts as dead."""


class Reporter(Collector):
    """Written by the gateway's loop, read by the threads of the pages' server."""

    def __init__(self, faults: Callable[[], tuple[Fault, ...]] = tuple) -> None:
        """`faults`: of all but the database."""
        self._others = faults
        self._taken: tuple[ServiceReport, float] | Fault | None = None
        """With the time of the monotonic clock; or why there is none. None: none was taken yet."""
        self._turned = time.monotonic()

    async def run(self, queue: Queue, mounted: Callable[[], Rollout | None]) -> None:
        """Until cancelled. `mounted`: the rollout as this gateway's mount has it."""
        while True:
            await self.take(queue, mounted())
            await asyncio.sleep(EVERY)

    async def take(self, queue: Queue, mounted: Rollout | None = None) -> None:
        """A new one, or why there is none."""
        try:
            self._taken = (await queue.report(mounted), time.monotonic())
            self._turned = time.monotonic()
        except Exception as error:
            self.lacks(fault_of(error))

    def lacks(self, fault: Fault) -> None:
        """There is no report, because of `fault`. The log has each cause once, when the page has
        it."""
        known, self._taken, self._turned = self._taken, fault, time.monotonic()
        if fault != known:
            log.warning("%s: %s", fault.reason, fault.message)

    def pages(self, metrics: Callable[[], bytes]) -> dict[str, Page]:
        """`metrics`: the exposition."""
        return {
            "/healthz": lambda: plain_page(time.monotonic() - self._turned < SILENCE),
            "/readyz": lambda: plain_page(isinstance(self._taken, tuple)),
            "/metrics": lambda: (200, CONTENT_TYPE_LATEST, metrics()),
            STATE_PAGE: self._state,
        }

    def faulty_adapters(self) -> dict[str, AdapterNote]:
        """Adapters that no ready worker can use, by name; empty while the database is
        unavailable."""
        return faulty(self._taken[0].workers) if isinstance(self._taken, tuple) else {}

    def _state(self) -> tuple[int, str, bytes]:
        taken, faults = self._taken, self.faults()
        if not isinstance(taken, tuple):
            return json_page(GatewayState(faults=faults))
        report, taken_at = taken
        age = round(time.monotonic() - taken_at, 3)
        summary = report.summary().model_copy(update={"age_seconds": age})
        return json_page(GatewayState(faults=faults, service=summary))

    def faults(self) -> tuple[Fault, ...]:
        """Why requests would fail now, the database's first."""
        of_database = (self._taken,) if isinstance(self._taken, Fault) else ()
        return (*of_database, *self._others())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Gauges of faults; and of the queue, the same at every gateway, none while the database is
        away."""
        faults = GaugeMetricFamily(
            "wan_gateway_fault",
            "Reasons why requests to this gateway would fail now, each with the value 1.",
            labels=["reason"],
        )
        for reason in {fault.reason for fault in self.faults()}:
            faults.add_metric([reason], 1)
        yield faults
        taken = self._taken
        if not isinstance(taken, tuple):
            return
        queue = taken[0].queue
        jobs = GaugeMetricFamily(
            "wan_queue_jobs",
            "Number of videos in the whole queue, by state.",
            labels=["state"],
        )
        jobs.add_metric(["queued"], queue.queued)
        jobs.add_metric(["running"], queue.running)
        yield jobs
        for name, text, value in (
            (
                "predicted",
                "Predicted work that waits, in seconds of one worker.",
                queue.predicted_seconds,
            ),
            (
                "remaining",
                "Work left of the videos that run, in seconds of one worker.",
                queue.remaining_seconds,
            ),
            (
                "oldest",
                "Seconds for which the oldest queued video has waited.",
                queue.oldest_seconds,
            ),
        ):
            yield GaugeMetricFamily(f"wan_queue_{name}_seconds", text, value)
