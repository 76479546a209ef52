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

from wan_runtime.contract.report import STATE_PAGE, AdapterNote, ServiceReport
from wan_runtime.process.pages import Page, json_page, plain_page
from wan_runtime.serving.gateway.availability import faulty
from wan_runtime.serving.queue.errors import QueueAway
from wan_runtime.serving.queue.queue import Queue

log = logging.getLogger(__name__)

EVERY = 2.0
"""Seconds between two reports."""
SILENCE = 60.0
"""Seconds without a turn of its loop, after which the gateway counts as dead."""


class Reporter(Collector):
    """Written by the gateway's loop, read by the threads of the pages' server."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._taken: tuple[ServiceReport, float] | str = "no report was taken yet"
        """With the time of the monotonic clock; or why there is none."""
        self._turned = time.monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.take()
            await asyncio.sleep(EVERY)

    async def take(self) -> None:
        """A new one, or why there is none."""
        try:
            self._taken = (await self._queue.report(), time.monotonic())
        except QueueAway as error:
            self._taken = str(error)
        self._turned = time.monotonic()

    def pages(self, metrics: Callable[[], bytes]) -> dict[str, Page]:
        """`metrics`: the exposition."""
        return {
            "/healthz": lambda: plain_page(time.monotonic() - self._turned < SILENCE),
            "/readyz": lambda: plain_page(not isinstance(self._taken, str)),
            "/metrics": lambda: (200, CONTENT_TYPE_LATEST, metrics()),
            STATE_PAGE: self._state,
        }

    def faulty_adapters(self) -> dict[str, AdapterNote]:
        """Adapters that no ready worker can use, by name; empty while the database is
        unavailable."""
        return {} if isinstance(self._taken, str) else faulty(self._taken[0].workers)

    def _state(self) -> tuple[int, str, bytes]:
        taken = self._taken
        if isinstance(taken, str):
            return 503, "text/plain", f"{taken}\n".encode()
        report, taken_at = taken
        age = round(time.monotonic() - taken_at, 3)
        return json_page(report.summary().model_copy(update={"age_seconds": age}))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Gauges of the queue, the same at every gateway; none while the database is away."""
        taken = self._taken
        if isinstance(taken, str):
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
