"""What a worker says of itself: /healthz, /readyz, /metrics and /info. No torch."""

from __future__ import annotations

import json
import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from wan_runtime.serve import Page
from wan_runtime.serving.video import Stage
from wan_runtime.serving.worker.messages import Ready

SILENCE = 60.0
"""Seconds without a turn of the supervisor's loop, after which it counts as dead."""
BUCKETS = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1200, 3600)


class Status:
    """Written by the supervisor's loop, read by the threads of the HTTP server."""

    def __init__(self, worker: str, ranks: int) -> None:
        self.worker, self.ranks = worker, ranks
        self.ready: tuple[Ready, ...] = ()
        """Of the gang at work; empty while there is none."""
        self.stopping = False
        self.job: str | None = None
        self.turned = time.monotonic()
        self.registry = CollectorRegistry()

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"wan_worker_{name}", text, registry=self.registry)

        self.videos = Counter(
            "wan_worker_videos", "Videos by how they ended here.", ["end"], registry=self.registry
        )
        self.restarts = Counter(
            "wan_worker_gang_restarts", "Gangs started anew.", registry=self.registry
        )
        self.stage_seconds = Histogram(
            "wan_worker_stage_seconds",
            "Of completed videos, by stage.",
            ["stage"],
            registry=self.registry,
            buckets=BUCKETS,
        )
        self.peak = gauge("peak_gib", "GPU memory of the last video, the largest of any rank.")
        gauge("ready", "1 if it takes jobs.").set_function(lambda: float(self.takes_jobs))
        gauge("busy", "1 while the gang renders.").set_function(lambda: float(self.job is not None))
        gauge("ranks", "Ranks that are ready.").set_function(lambda: float(len(self.ready)))

    @property
    def takes_jobs(self) -> bool:
        return bool(self.ready) and not self.stopping

    def completed(self, seconds: dict[Stage, float], peak_gib: float | None) -> None:
        self.videos.labels("completed").inc()
        for stage, spent in seconds.items():
            self.stage_seconds.labels(stage).observe(spent)
        if peak_gib is not None:
            self.peak.set(peak_gib)

    def pages(self) -> dict[str, Page]:
        return {
            "/healthz": lambda: _answer(time.monotonic() - self.turned < SILENCE),
            "/readyz": lambda: _answer(self.takes_jobs),
            "/metrics": lambda: (200, CONTENT_TYPE_LATEST, generate_latest(self.registry)),
            "/info": lambda: (200, "application/json", json.dumps(self.info()).encode()),
        }

    def info(self) -> dict[str, Any]:
        """JSON: what is loaded and how fast it is."""
        first = self.ready[0].model_dump(mode="json", by_alias=True) if self.ready else {}
        return {
            "worker": self.worker,
            "ranks": self.ranks,
            "ready": self.takes_jobs,
            "job": self.job,
            **{key: value for key, value in first.items() if key not in ("kind", "rank")},
        }


def _answer(good: bool) -> tuple[int, str, bytes]:
    return (200, "text/plain", b"ok\n") if good else (503, "text/plain", b"not now\n")
