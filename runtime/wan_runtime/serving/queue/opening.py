"""From the address of a database to the queue of a service in it."""

from __future__ import annotations

from wan_runtime.serving.queue import services
from wan_runtime.serving.queue.database import Connection, Database
from wan_runtime.serving.queue.schema import migrate, migrations
from wan_runtime.serving.queue.services import Identity


async def opened(
    url: str,
    patience_seconds: float,
    identity: Identity | None,
    tables_seconds: float | None = None,
) -> tuple[Database, str]:
    """The database with the tables of this release, and the name of the service's queue.

    `tables_seconds`: patience while the tables are made, if another. Raises SchemaNewer, QueueAway.
    """
    database = await Database.open(url, patience_seconds)

    async def start(connection: Connection) -> str:
        await migrate(connection, migrations())
        return "" if identity is None else await services.register(connection, identity)

    try:
        return database, await database.transact("migrate", start, tables_seconds)
    except BaseException:
        database.close()
        raise
