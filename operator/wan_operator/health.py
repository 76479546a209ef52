"""The HTTP server of the operator's pod: /livez, /readyz, /metrics."""

from __future__ import annotations

import asyncio
import errno
import os
import time

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from wan_operator.controller import Controller
from wan_operator.metrics import Metrics

LAG_LIMIT_SECONDS = 30.0
"""A loop that wakes up this late has been blocked; the probe's own answer would come as late."""
WORK_LIMIT_SECONDS = 300.0
"""A reconcile is a dozen calls of at most 30 s each; longer, waits for write tokens aside, means
stuck."""
WRITES_AT_MOST = 32
"""Writes of one reconcile, at most: the TTL removes some thirty children at once."""
BEAT_SECONDS = 1.0


CAUSES = {
    errno.EADDRINUSE: "another process has it: choose a free one",
    errno.EACCES: "this user may not use a port below 1024: choose a higher one",
}
"""Number of a refusal -> why, and what to do."""


class PortUnusable(Exception):
    """Error of WAN_HEALTH_PORT: nothing can listen there. Ends the start."""

    def __init__(self, port: int, error: OSError) -> None:
        cause = CAUSES.get(error.errno or 0) or os.strerror(error.errno or 0)
        super().__init__(f"WAN_HEALTH_PORT is {port}: {cause}")


class Health:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._beat = time.monotonic()
        self.controller: Controller | None = None
        """Set while this replica leads."""
        self.connected = False
        """Whether the API server has answered once."""

    async def beat(self) -> None:
        """Measures how late the loop is. Runs for ever."""
        while True:
            due = time.monotonic() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self._beat = time.monotonic()
            self._metrics.loop_lag_seconds.set(self._beat - due)

    def problems(self) -> list[str]:
        """Why this process should be restarted."""
        found = []
        silent = time.monotonic() - self._beat - BEAT_SECONDS
        if silent > LAG_LIMIT_SECONDS:
            found.append(f"the event loop has been blocked for {silent:.0f} s")
        if self.controller is not None:
            at_work = self.controller.queue.longest_work()
            # With few tokens a second a worker lines up behind the writes of all others.
            settings = self.controller.settings
            line = WRITES_AT_MOST * settings.workers / settings.writes_per_second
            if at_work > WORK_LIMIT_SECONDS + line:
                found.append(f"a worker has been at one key for {at_work:.0f} s")
            dead = self.controller.watchdog.dead()
            if dead:
                found.append(f"the watch of {', '.join(dead)} delivers nothing")
        return found

    def waits_for(self) -> str:
        """Why this process is not ready; empty if it is. A standby that can take over is ready."""
        if not self.connected:
            return "the API server has not answered yet"
        if self.controller is not None and not self.controller.synced.is_set():
            return "the first sweep is not done"
        return ""

    async def livez(self, _: web.Request) -> web.Response:
        found = self.problems()
        return web.Response(text="\n".join(found) or "ok", status=500 if found else 200)

    async def readyz(self, _: web.Request) -> web.Response:
        missing = self.waits_for()
        role = "leading" if self.controller is not None else "standing by"
        return web.Response(text=missing or f"ok, {role}", status=503 if missing else 200)

    async def metrics(self, _: web.Request) -> web.Response:
        if self.controller is not None:
            self._metrics.queue_depth.set(self.controller.queue.depth())
            self._metrics.queue_age_seconds.set(self.controller.queue.age())
            self._metrics.counted(
                self._metrics.watch_age_seconds,
                {(kind,): round(age) for kind, age in self.controller.watchdog.ages().items()},
            )
        body = generate_latest(self._metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def serve(self, port: int) -> tuple[web.AppRunner, int]:
        """Start the server; its port is new if `port` is 0. Raises PortUnusable."""
        app = web.Application()
        app.router.add_get("/livez", self.livez)
        app.router.add_get("/readyz", self.readyz)
        app.router.add_get("/metrics", self.metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, None, port)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise PortUnusable(port, error) from error
        return runner, runner.addresses[0][1]
