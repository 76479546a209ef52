"""The tables: numbered files of SQL, each applied once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from wan_runtime.serving.queue.database import SCHEMA, Connection
from wan_runtime.serving.queue.errors import SchemaNewer

LOCK = 0x77616E01
"""Key of the advisory lock with which one process at a time changes tables."""
FOUNDATION = """
    create table if not exists migrations (
        number integer primary key,
        breaking boolean not null,
        applied_at timestamptz not null default now()
    )
"""


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    sql: str

    @property
    def breaking(self) -> bool:
        """Releases that lack it can't work with tables that have it. The rest may be taken back by
        a rollback of the release, and old and new pods run side by side meanwhile."""
        return self.sql.startswith("-- breaking\n")


def migrations() -> list[Migration]:
    """Those of this release, in order."""
    folder = files(f"{__package__}.migrations")
    named = sorted((each.name, each) for each in folder.iterdir() if each.name.endswith(".sql"))
    return [Migration(int(name.split("_")[0]), each.read_text("utf-8")) for name, each in named]


async def migrate(connection: Connection, wanted: Sequence[Migration]) -> None:
    """Within the caller's transaction: all of them or none.

    Raises SchemaNewer.
    """
    await connection.execute("select pg_advisory_xact_lock($1)", LOCK)
    # Asked before made: a role that may not make schemas can be given this one.
    if await connection.fetchval("select to_regnamespace($1)", SCHEMA) is None:
        await connection.execute(f"create schema {SCHEMA}")
    await connection.execute(FOUNDATION)
    rows = await connection.fetch("select number, breaking from migrations")
    known = {each.number for each in wanted}
    beyond = [row["number"] for row in rows if row["breaking"] and row["number"] not in known]
    if beyond:
        raise SchemaNewer(
            f"the database has migration {max(beyond)}, this release knows up to "
            f"{max(known)}: run the newer release, or restore a backup from before it"
        )
    applied = {row["number"] for row in rows}
    for each in wanted:
        if each.number not in applied:
            await connection.execute(each.sql)
            await connection.execute(
                "insert into migrations (number, breaking) values ($1, $2)",
                each.number,
                each.breaking,
            )
