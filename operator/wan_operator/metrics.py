"""Prometheus metrics of the operator process. Labels have few values, none of them a resource's
name."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.reconcile_seconds = Histogram(
            "wan_operator_reconcile_seconds",
            "Seconds of one reconcile, reads and writes included.",
            ["kind", "result"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue_depth = Gauge(
            "wan_operator_queue_depth",
            "Number of keys that are due and wait for a worker.",
            registry=registry,
        )
        self.queue_age_seconds = Gauge(
            "wan_operator_queue_age_seconds",
            "Seconds for which the oldest due key has waited.",
            registry=registry,
        )
        self.event_to_status_seconds = Histogram(
            "wan_operator_event_to_status_seconds",
            "Seconds from the time a key was due to the end of its reconcile.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.children = Gauge(
            "wan_operator_children",
            "Number of unfinished Jobs by step, at the last sweep.",
            ["kind", "step"],
            registry=registry,
        )
        self.resources = Gauge(
            "wan_operator_resources",
            "Number of custom resources by their first true condition, at the last sweep.",
            ["kind", "state"],
            registry=registry,
        )
        self.api_writes = Counter(
            "wan_operator_api_writes",
            "Number of requests to the API server that write.",
            ["method", "code"],
            registry=registry,
        )
        self.api_seconds = Histogram(
            "wan_operator_api_seconds",
            "Seconds of one request to the API server.",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.loop_lag_seconds = Gauge(
            "wan_operator_loop_lag_seconds",
            "Seconds by which the event loop last woke up late.",
            registry=registry,
        )
        self.watch_age_seconds = Gauge(
            "wan_operator_watch_age_seconds",
            "Seconds since the last watch event of a kind.",
            ["kind"],
            registry=registry,
        )
        self.lost_gpu_seconds = Counter(
            "wan_operator_lost_gpu_seconds",
            "GPU seconds of attempts after their last checkpoint, as in status.lostGpuSeconds.",
            registry=registry,
        )
        self.leading = Gauge(
            "wan_operator_leading",
            "Whether this replica holds the Lease: 1 or 0.",
            registry=registry,
        )
        self.sweeps = Counter(
            "wan_operator_sweeps",
            "Number of sweeps, which check every resource.",
            ["result"],
            registry=registry,
        )

    def called(self, method: str, code: str, seconds: float) -> None:
        self.api_seconds.labels(method).observe(seconds)
        if method != "GET":
            self.api_writes.labels(method, code).inc()

    def counted(self, gauge: Gauge, values: Mapping[tuple[str, ...], int]) -> None:
        """Replaces all series: a state that nothing is in any more must not keep its last
        number."""
        gauge.clear()
        for labels, value in values.items():
            gauge.labels(*labels).set(value)
