"""Wait for the database before gateway or worker begins: until it answers, and admits them.

A process that ended instead would be started again after pauses of up to five minutes, whatever is
mended meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from wan_runtime.contract.reasons import GatewayReason
from wan_runtime.contract.report import STATE_PAGE, Fault, GatewayState
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.errors import InputError
from wan_runtime.process.pages import Page, json_page, plain_page
from wan_runtime.serving.database_url import current
from wan_runtime.serving.queue.database import check
from wan_runtime.serving.queue.errors import DatabaseRefused, QueueAway, SchemaNewer
from wan_runtime.serving.queue.queue import PATIENCE_SECONDS, Queue

log = logging.getLogger(__name__)

PAUSE_SECONDS = 3.0
"""Between two tries."""
TABLES_SECONDS = 60.0
"""Longest time that making the tables may take."""
SILENCE = 60.0 + TABLES_SECONDS
"""Seconds without a try, after which a process that waits counts as dead."""

T = TypeVar("T")


class Wait:
    """What keeps the process from beginning. Written by its loop, read by the pages' threads."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        """Cause of the last try's failure. None: no try has ended yet."""
        self._turned = time.monotonic()

    def because(self, fault: Fault) -> None:
        """After a try that failed. The log has each cause once, when the page has it."""
        known, self.fault, self._turned = self.fault, fault, time.monotonic()
        if fault != known:
            log.warning("%s: %s", fault.reason, fault.message)

    def pages(self) -> dict[str, Page]:
        """Pages of a worker that waits: it lives, and is not ready."""
        return {
            "/healthz": lambda: plain_page(time.monotonic() - self._turned < SILENCE),
            "/readyz": lambda: plain_page(False),
            "/metrics": lambda: (200, CONTENT_TYPE_LATEST, b""),
            STATE_PAGE: lambda: json_page(
                GatewayState(faults=() if self.fault is None else (self.fault,))
            ),
        }


async def reach(
    url: str, begin: Callable[[str], Awaitable[T]], because: Callable[[Fault], None]
) -> T:
    """The result of `begin(connection string)`, tried until the database lets it pass.

    `url`: used where no Secret is mounted, whose changes are followed. `because`: called with the
    cause after each try that failed.
    """
    while True:
        try:
            address = current(url)
            await check(address)
            return await begin(address)
        except Exception as error:
            because(fault_of(error))
        await asyncio.sleep(PAUSE_SECONDS)


async def opened(
    service: ServiceSpec, url: str, patience_seconds: float = PATIENCE_SECONDS
) -> Queue:
    """The queue. Its tables may take longer to make than `patience_seconds`, which are those of a
    call. Raises QueueAway, SchemaNewer."""
    return await Queue.of(
        service, url, patience_seconds=patience_seconds, tables_seconds=TABLES_SECONDS
    )


def fault_of(error: Exception) -> Fault:
    """Why the database cannot be used."""
    if isinstance(error, (DatabaseRefused, SchemaNewer)):
        return Fault.of(GatewayReason.DATABASE_REFUSED, str(error))
    if isinstance(error, InputError):
        return Fault.of(GatewayReason.DATABASE_REFUSED, error.message)
    if isinstance(error, QueueAway):
        return Fault.of(GatewayReason.DATABASE_UNREACHABLE, str(error))
    # Whoever calls goes on: without it nothing would be known.
    log.error("the database cannot be used", exc_info=error)
    text = f"the database cannot be used ({type(error).__name__}): the log has the rest"
    return Fault.of(GatewayReason.CHECK_FAILED, text)
