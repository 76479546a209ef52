"""Who waits for a change hears of it: LISTEN on one connection for all of a process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import asyncpg

from wan_runtime.serving.queue.database import (
    LONGEST_WAIT,
    Database,
    reason_of,
)
from wan_runtime.serving.queue.rows import CHANNEL, CLAIMABLE
from wan_runtime.wait import within

log = logging.getLogger(__name__)

PROOF_SECONDS = 15.0
"""A connection that hears nothing for this long is tested with a query."""
ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class Events:
    """Wakes subscribers when their job changes, and all when something may have been missed."""

    def __init__(self, database: Database, service: str) -> None:
        self._database = database
        self._service = service
        self._subscribers: dict[str, set[asyncio.Event]] = {}
        self.claimable = asyncio.Event()
        """A job may have come that can be claimed. Kept between waits, so that one that comes
        while nobody waits is not missed; whoever claims clears it first."""
        self._task = asyncio.create_task(self._listen_for_ever(), name="queue-events")

    async def close(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    @contextmanager
    def subscribe(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event set whenever the job may have changed."""
        event = asyncio.Event()
        self._subscribers.setdefault(job_id, set()).add(event)
        try:
            yield event
        finally:
            self._subscribers[job_id].discard(event)
            if not self._subscribers[job_id]:
                del self._subscribers[job_id]

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                connection = await self._database.listener()
                try:
                    await self._listen(connection)
                finally:
                    connection.terminate()
            except ERRORS as error:
                # A password that is being changed, too: polling goes on meanwhile.
                log.warning("no events from PostgreSQL (%s): trying again", reason_of(error))
            await asyncio.sleep(LONGEST_WAIT)

    async def _listen(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(CHANNEL, self._heard)
        # What happened before we listened was not heard.
        self._wake_all()
        while not lost.is_set():
            await within(PROOF_SECONDS, lost)
            if not lost.is_set():
                await connection.execute("select 1")

    def _heard(self, connection: object, pid: int, channel: str, payload: object) -> None:
        service, job_id, word = str(payload).split(" ")
        if service == self._service:
            for event in self._subscribers.get(job_id, ()):
                event.set()
            if word == CLAIMABLE:
                self.claimable.set()

    def _wake_all(self) -> None:
        self.claimable.set()
        for events in self._subscribers.values():
            for event in events:
                event.set()
