"""The rating page as a server of this process, until there is nothing to wait for."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime

import uvicorn

from wan_runtime import heartbeat
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError
from wan_runtime.evaluation.rating.app import create_app
from wan_runtime.evaluation.rating.panel import Panel
from wan_runtime.process.progress import Reporter

log = logging.getLogger(__name__)

DRAIN = 5
"""Seconds that requests under way get at the end."""
POLL_SECONDS = 5.0
"""Seconds within which an edit of the deadline is noticed."""


def serve(panel: Panel, report: Reporter, port: int) -> None:
    """Until the panel is over. Main thread. `port` 0 takes a free one.

    Raises:
        Stopped: on SIGTERM, once requests under way are answered.
        InfrastructureError: if the port is taken.
    """
    if panel.is_over(datetime.now(UTC)):
        return
    try:
        listener = socket.create_server(("", port))
    except OSError as error:
        # The error's own text goes on with the address.
        cause = os.strerror(error.errno).lower() if error.errno else "it cannot be had"
        text = f"port {port} (WAN_RATING_PORT): {cause}; choose a free one"
        raise InfrastructureError(Reason.UNEXPECTED, text) from error
    with listener:
        log.info("ratings at port %d until %s", listener.getsockname()[1], panel.deadline)
        asyncio.run(_serve(panel, report, listener))


async def _serve(panel: Panel, report: Reporter, listener: socket.socket) -> None:
    over = asyncio.Event()

    def saved() -> None:
        count = panel.judgements.count
        report.update(
            activity="waiting for ratings", current=count, total=panel.total, unit="ratings"
        )
        if panel.is_over(datetime.now(UTC)):
            over.set()

    app = create_app(panel, saved)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, lifespan="off",
        timeout_graceful_shutdown=DRAIN,
    )  # fmt: skip
    server = uvicorn.Server(config)
    saved()
    end = asyncio.create_task(_end(panel, over, server))
    try:
        # It takes SIGTERM, stops in good order, then sends it on to whoever had it before.
        await server.serve([listener])
    finally:
        end.cancel()


async def _end(panel: Panel, over: asyncio.Event, server: uvicorn.Server) -> None:
    """Stop the server once there is nothing to wait for."""
    while (seconds := (panel.deadline - datetime.now(UTC)).total_seconds()) > 0:
        heartbeat.beat()  # people may take days
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, POLL_SECONDS)):
                await over.wait()
                break
    else:
        log.info("the deadline is over")
    server.should_exit = True
