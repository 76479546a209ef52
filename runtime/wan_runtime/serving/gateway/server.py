"""The gateway as a process."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import uvicorn

from wan_runtime.artifacts.patience import Patience
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.serving.gateway import protocol
from wan_runtime.serving.gateway.app import create_app
from wan_runtime.serving.gateway.requests import Stamp
from wan_runtime.serving.webhook_secret import WebhookSecret

PATIENCE = 5.0
"""Seconds that a request waits for an absent store before it is answered with 503."""
DRAIN = 20
"""Seconds that requests under way get once it has to stop."""


def serve(
    service: ServiceSpec,
    *,
    database: str,
    keys: Path,
    webhook_secret: WebhookSecret,
    rollout: Path,
    host: str,
    port: int,
    pages_port: int,
) -> None:
    """Until SIGTERM. Raises InfrastructureError if what opens the store is wrong."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(Stamp())
    app = create_app(
        service,
        database=database,
        store=Store.connect(service.store, patience=Patience(seconds=PATIENCE)),
        keys=keys,
        webhook_secret=webhook_secret,
        rollout=rollout,
        pages_port=pages_port,
    )
    # Uvicorn stops on it in good order, then sends it on to whoever had it before.
    signal.signal(signal.SIGTERM, lambda *_: None)
    uvicorn.run(
        app, host=host, port=port, http=protocol.of(app), log_config=None, access_log=False,
        server_header=False, timeout_graceful_shutdown=DRAIN,
    )  # fmt: skip
