"""What a worker says of itself: /healthz, /readyz, /metrics and /info. No torch."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from wan_runtime.contract.report import PROBLEM_CHARACTERS, AdapterNote, Startup, WorkerInfo
from wan_runtime.contract.sampling import computed_steps
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.presets import preset_named
from wan_runtime.process.pages import Page, json_page, plain_page
from wan_runtime.rendering.order import Stage
from wan_runtime.serving.worker.messages import Pace, Ready

log = logging.getLogger(__name__)

SILENCE = 60.0
"""Seconds without a turn of the supervisor's loop, after which it counts as dead."""
BUCKETS = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1200, 3600)


class Status:
    """Written by the supervisor's loop, read by the threads of the HTTP server."""

    def __init__(
        self, worker: str, service: ServiceSpec, ranks: int, pod: str = "", revision: str = ""
    ) -> None:
        self.worker, self.ranks, self.pod, self.revision = worker, ranks, pod, revision
        self._steps = service.defaults.steps or preset_named(service.model.preset).inference_steps
        self._policy = service.policy
        self.ready: tuple[Ready, ...] = ()
        """What the ranks at work reported; empty while there are none."""
        self.notes: dict[str, AdapterNote] = {}
        """Notes of the service's adapters, by name, as those ranks found them."""
        self.stopping = False
        self.rendering = False
        """The ranks are at work."""
        self.in_hand = 0
        """Jobs that are rendered or written."""
        self.problem: str | None = None
        """Why the last ranks were lost, until others are ready."""
        self.store_problem: str | None = None
        """Why no video can be begun or sent, until the store answers."""
        self._peak_gib: float | None = None
        self.turned = time.monotonic()
        self.registry = CollectorRegistry()

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"wan_worker_{name}", text, registry=self.registry)

        self.videos = Counter(
            "wan_worker_videos", "Number of videos by their end.", ["end"], registry=self.registry
        )
        self.restarts = Counter(
            "wan_worker_gang_restarts", "Number of restarts of the ranks.", registry=self.registry
        )
        self.stage_seconds = Histogram(
            "wan_worker_stage_seconds",
            "Seconds of the stages of completed videos.",
            ["stage"],
            registry=self.registry,
            buckets=BUCKETS,
        )
        self.peak = gauge(
            "peak_gib", "Peak GPU memory of the last video in GiB, largest of all ranks."
        )
        gauge(
            "adapters_not_ready", "Number of adapters of the service that the worker cannot use."
        ).set_function(lambda: float(len(self.lacking)))
        gauge("ready", "Whether the worker takes videos: 1 or 0.").set_function(
            lambda: float(self.takes_jobs)
        )
        gauge("busy", "Whether the worker renders a video: 1 or 0.").set_function(
            lambda: float(self.rendering)
        )
        gauge("ranks", "Number of ranks that are ready.").set_function(
            lambda: float(len(self.ready))
        )

    @property
    def takes_jobs(self) -> bool:
        return bool(self.ready) and not self.stopping and self.store_problem is None

    @property
    def lacking(self) -> frozenset[str]:
        """Adapters that it cannot use."""
        return frozenset(name for name, note in list(self.notes.items()) if not note.ready)

    @property
    def obstacle(self) -> str | None:
        """What keeps it from taking jobs, if something does."""
        return self.problem or self.store_problem

    def begins(self, ready: Sequence[Ready]) -> None:
        """Ranks are at work."""
        self.note(*(note for each in ready for note in each.adapters))
        self.ready, self.problem = tuple(ready), None

    def note(self, *adapters: AdapterNote) -> bool:
        """Keep what was found of them. Returns whether anything is new, which is logged."""
        fresh = [each for each in adapters if self.notes.get(each.name) != each]
        for each in fresh:
            level = logging.INFO if each.ready and not each.message else logging.WARNING
            said = each.message or "can be used"
            log.log(level, "adapter %s: %s", each.name, said)
        self.notes.update((each.name, each) for each in fresh)
        return bool(fresh)

    def completed(self, seconds: dict[Stage, float], peak_gib: float | None) -> None:
        self.videos.labels("completed").inc()
        for stage, spent in seconds.items():
            self.stage_seconds.labels(stage).observe(spent)
        if peak_gib is not None:
            self.peak.set(peak_gib)
            self._peak_gib = max(peak_gib, self._peak_gib or 0.0)

    def pages(self) -> dict[str, Page]:
        return {
            "/healthz": lambda: plain_page(time.monotonic() - self.turned < SILENCE),
            "/readyz": lambda: plain_page(self.takes_jobs),
            "/metrics": lambda: (200, CONTENT_TYPE_LATEST, generate_latest(self.registry)),
            "/info": lambda: json_page(self.info()),
        }

    def info(self) -> WorkerInfo:
        """What is loaded and how fast it is."""
        info = WorkerInfo(
            name=self.worker,
            pod=self.pod,
            revision=self.revision,
            ready=self.takes_jobs,
            stopping=self.stopping,
            busy=self.in_hand > 0,
            ranks=self.ranks,
            problem=self.obstacle and self.obstacle[:PROBLEM_CHARACTERS],
        )
        return info.model_copy(update=self._of_ranks()) if self.ready else info

    def _of_ranks(self) -> dict[str, object]:
        first = self.ready[0]
        steps = computed_steps(first.profile, self._steps, self._policy)
        peaks = [self._peak_gib, *(each.peak_gib for each in self.ready)]
        return {
            "startup": Startup(
                load_seconds=max(each.load_seconds for each in self.ready),
                compile_seconds=first.compile_seconds,
                warm_up_seconds=first.warm_up_seconds,
                parts=first.parts,
            ),
            "seconds_per_clip": {
                size: clip_seconds(pace, steps) for size, pace in first.paces.items()
            },
            "peak_gib": max(filter(None, peaks), default=None),
            "adapters": tuple(name for name, note in self.notes.items() if note.ready),
            "adapter_notes": tuple(note for note in self.notes.values() if note.message),
            "attention": first.attention,
            "linear": first.linear,
            "exchange": first.exchange,
            "placement": first.placement,
            "profile": first.profile,
            "device": first.device,
        }


def clip_seconds(pace: Pace, steps: int) -> float:
    """Seconds for a video of which `steps` denoising steps are computed, before it is written."""
    others = sum(spent for stage, spent in pace.stages.items() if stage is not Stage.DENOISING)
    return round(others + steps * pace.step_seconds, 3)
