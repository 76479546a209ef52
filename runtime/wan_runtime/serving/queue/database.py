"""Transactions that outlive a restart of PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from wan_runtime.no_answer import why
from wan_runtime.serving.queue.errors import DatabaseRefused, QueueAway
from wan_runtime.serving.queue.refusals import SettingsIgnored, first_line, refusal, server_of

log = logging.getLogger(__name__)

SCHEMA = "wan_video"
CONNECTIONS = 8
CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 15.0
FIRST_WAIT = 0.1
LONGEST_WAIT = 2.0

SETTINGS = {
    "application_name": "wan-video",
    "search_path": SCHEMA,
    # A client that froze or lost its network within a transaction must not hold locks for ever.
    "idle_in_transaction_session_timeout": "15s",
    "statement_timeout": "15s",
    "lock_timeout": "10s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}

TRANSIENT = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    # Starting up, shutting down, killed by an administrator; cancelled by a timeout above.
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    # The address led to a standby for a short time.
    asyncpg.ReadOnlySQLTransactionError,
    # A newer release has added a column; the client prepares all statements anew.
    asyncpg.InvalidCachedStatementError,
)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Result = TypeVar("Result")


class Database:
    """A pool, and the patience to wait for its server."""

    def __init__(
        self, url: str, pool: asyncpg.Pool[asyncpg.Record], patience_seconds: float
    ) -> None:
        self._url = url
        self._pool = pool
        self._patience = patience_seconds

    @classmethod
    async def open(cls, url: str, patience_seconds: float) -> Database:
        """Connects to nothing yet: the first transaction does, with its patience."""
        pool = await asyncpg.create_pool(
            url,
            min_size=0,
            max_size=CONNECTIONS,
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS,
            server_settings=SETTINGS,
            init=check_session,
        )
        return cls(url, pool, patience_seconds)

    def close(self) -> None:
        """Also of connections in use."""
        self._pool.terminate()

    async def transact(
        self,
        what: str,
        work: Callable[[Connection], Awaitable[Result]],
        patience_seconds: float | None = None,
    ) -> Result:
        """The answer of `work`, done in one transaction. `patience_seconds`: in place of the
        database's.

        It is done again from its start when the connection is lost, even if only the answer to the
        commit was: what it does must be the same done twice. Raises QueueAway once patience is
        spent, up to CONNECT_SECONDS later from a server that says nothing; DatabaseRefused at once;
        and what `work` raises.
        """
        clock = asyncio.get_running_loop().time
        patience = self._patience if patience_seconds is None else patience_seconds
        deadline, wait = clock() + patience, FIRST_WAIT
        while True:
            try:
                async with (
                    asyncio.timeout_at(deadline),
                    self._pool.acquire(timeout=CONNECT_SECONDS) as connection,
                    connection.transaction(),
                ):
                    return await work(connection)
            except Exception as error:
                raise_refusal(self._url, error)
                if not is_transient(error):
                    raise
                pause = wait * random.uniform(0.5, 1.0)
                if clock() + pause >= deadline:
                    raise away(self._url, what, error) from error
                wait = min(LONGEST_WAIT, wait * 2)
                log.warning("%s failed (%s): again in %.1f s", what, reason_of(error), pause)
                await asyncio.sleep(pause)

    async def listener(self) -> asyncpg.Connection[asyncpg.Record]:
        """A connection of its own, for LISTEN."""
        return await connect(self._url)


async def connect(url: str) -> asyncpg.Connection[asyncpg.Record]:
    """A connection outside any pool."""
    return await asyncpg.connect(
        url,
        timeout=CONNECT_SECONDS,
        command_timeout=STATEMENT_SECONDS,
        server_settings=SETTINGS,
    )


async def check(url: str) -> None:
    """Connects once, without patience. Raises DatabaseRefused, QueueAway."""
    try:
        connection = await connect(url)
        try:
            await check_session(connection)
        finally:
            connection.terminate()
    except Exception as error:
        raise_refusal(url, error)
        if not is_transient(error):
            raise
        raise away(url, "connect", error) from error


def raise_refusal(url: str, error: Exception) -> None:
    """Raises DatabaseRefused for an error that is a refusal."""
    refused = refusal(error)
    if refused is not None:
        raise DatabaseRefused(f"{server_of(url)} refuses: {refused}") from error


def away(url: str, what: str, error: Exception) -> QueueAway:
    """No answer, while `what` was tried."""
    return QueueAway(f"{server_of(url)} is away ({what}: {reason_of(error)})")


async def check_session(connection: Connection) -> None:
    """Raises SettingsIgnored: some poolers take settings and drop them, and the tables would be
    made in another schema."""
    found = await connection.fetchval("show search_path")
    if found != SCHEMA:
        raise SettingsIgnored(f"its search_path is {found}, not {SCHEMA}, as requested")


def is_transient(error: BaseException) -> bool:
    """Whether the same call may pass later."""
    if isinstance(error, asyncpg.InterfaceError):
        # The client's own class for both misuse and a connection that went away under it.
        return "connection is closed" in str(error)
    return isinstance(error, TRANSIENT)


def reason_of(error: BaseException) -> str:
    """Why the server gave no answer, or what it said, in words."""
    if isinstance(error, asyncpg.PostgresError):
        return first_line(error)
    return why(error)
