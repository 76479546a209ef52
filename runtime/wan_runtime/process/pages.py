"""HTTP server of supervisors, and the pages of a step: /progress, /metrics, /healthz and
/heartbeats."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from pydantic import ValidationError

from wan_runtime.contract.base import Contract
from wan_runtime.contract.job import PROGRESS_PORT, Progress
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError, InputError
from wan_runtime.faults import value
from wan_runtime.process import progress

log = logging.getLogger(__name__)

Page = Callable[[], tuple[int, str, bytes]]
"""Answers with status, content type and body. Called in threads of the server's."""

HEARTBEATS = "/heartbeats"
"""Page with a number that changes with each heartbeat, for the first pod of a Job."""
POLL_SECONDS = 0.1
"""Longest time that `close` takes, with which each pod ends."""

GAUGES = {
    "current": "Number of units of the activity that are done.",
    "total": "Number of units of the activity in all, 0 while unknown.",
    "eta_seconds": "Estimated seconds to the end of the activity.",
    "loss": "Last training loss.",
    "updates_lost": "Share of the parameter updates of the last step that rounding lost, 0 to 1.",
}


class ProgressFile:
    """What the child published last."""

    def __init__(self, folder: Path, step_id: str) -> None:
        self._path = folder / progress.FILE
        self._before = Progress(step_id=step_id, activity="starting")

    def read(self) -> Progress:
        """The last progress; 'starting' before the child has published any."""
        try:
            return Progress.model_validate_json(self._path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return self._before


class ProgressCollector(Collector):
    """Turns the progress into Prometheus metrics at each scrape."""

    def __init__(self, source: ProgressFile) -> None:
        self._source = source

    def collect(self) -> Iterator[GaugeMetricFamily | InfoMetricFamily]:
        """wan_step_* gauges; those without a value are left out."""
        now = self._source.read()
        labels = ["step", "unit"]
        values = [now.step_id, now.unit]
        for name, text in GAUGES.items():
            value = getattr(now, name)
            if value is not None:
                family = GaugeMetricFamily(f"wan_step_{name}", text, labels=labels)
                family.add_metric(values, float(value))
                yield family
        yield InfoMetricFamily(
            "wan_step",
            "Step of the pod and its current activity.",
            {"step": now.step_id, "activity": now.activity},
        )


class Pages:
    """Serves GET requests in a thread until `close`."""

    def __init__(self, pages: Mapping[str, Page], port: int) -> None:
        """Raises InfrastructureError if the port is taken. `port` 0 takes a free one. `pages` may
        change meanwhile."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = pages.get(self.path)
                known = ", ".join(pages).encode() + b"\n"
                status, kind, body = (404, "text/plain", known) if page is None else page()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                log.debug(format, *args)

        try:
            self._server = ThreadingHTTPServer(("", port), Handler)
        except OSError as error:
            cause = (error.strerror or "it cannot be had").lower()
            text = f"port {port} (WAN_PROGRESS_PORT): {cause}; choose a free one"
            raise InfrastructureError(Reason.UNEXPECTED, text) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Server(Pages):
    """HTTP server of a step's pages."""

    def __init__(self, source: ProgressFile, port: int, heartbeats: Callable[[], int]) -> None:
        """Raises InfrastructureError if the port is taken. `port` 0 takes a free one.
        `heartbeats`: a number that changes with each heartbeat of the step."""
        registry = CollectorRegistry()
        registry.register(ProgressCollector(source))
        super().__init__(
            {
                "/progress": lambda: json_page(source.read()),
                "/metrics": lambda: (200, CONTENT_TYPE_LATEST, generate_latest(registry)),
                "/healthz": lambda: (200, "text/plain", b"ok\n"),
                HEARTBEATS: lambda: (200, "text/plain", b"%d\n" % heartbeats()),
            },
            port,
        )


def chosen_port(variable: str = "WAN_PROGRESS_PORT", default: int = PROGRESS_PORT) -> int:
    """Port that an environment variable names. Raises InputError(JOB_INVALID) if that is none."""
    given = os.environ.get(variable, str(default))
    if not (given.isascii() and given.isdecimal() and len(given) <= 5 and int(given) < 2**16):
        text = f"{variable} must be a port from 0 to 65535, not {value(given)}"
        raise InputError(Reason.JOB_INVALID, text)
    return int(given)


def plain_page(good: bool) -> tuple[int, str, bytes]:
    """For probes: 200 or 503."""
    return (200, "text/plain", b"ok\n") if good else (503, "text/plain", b"not now\n")


def json_page(content: Contract) -> tuple[int, str, bytes]:
    """As it is on the wire."""
    return 200, "application/json", content.model_dump_json(by_alias=True).encode()
