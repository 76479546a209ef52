"""What owners do to their jobs: read them, cancel and delete them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import asyncpg

from wan_runtime.rendering.order import Job, State
from wan_runtime.serving.queue.database import Connection
from wan_runtime.serving.queue.errors import AfterUnknown
from wan_runtime.serving.queue.rows import discard, job_of, notify
from wan_runtime.serving.queue.work import Keeping, end

MAX_NUMBER = 2**63 - 1

Direction = Literal["asc", "desc"]


@dataclass(frozen=True, slots=True)
class Page:
    jobs: tuple[Job, ...]
    has_more: bool


async def get(
    connection: Connection, service: str, job_id: str, owner: str | None
) -> asyncpg.Record | None:
    """None: there is none, or it is another's."""
    return await connection.fetchrow(
        """
        select * from jobs
        where service = $1 and id = $2 and not deleted and owner = coalesce($3, owner)
        """,
        service,
        job_id,
        owner,
    )


async def page(
    connection: Connection,
    service: str,
    owner: str,
    after: str | None,
    limit: int,
    order: Direction,
) -> Page:
    """Jobs of the owner by age; `asc`: the oldest first. Raises AfterUnknown."""
    number = 0 if order == "asc" else MAX_NUMBER
    if after is not None:
        row = await get(connection, service, after, owner)
        if row is None:
            raise AfterUnknown(after)
        number = row["number"]
    beyond = "number > $3" if order == "asc" else "number < $3"
    rows = await connection.fetch(
        f"""
        select * from jobs where service = $1 and owner = $2 and not deleted
            and {beyond}
        order by number {order} limit $4
        """,
        service,
        owner,
        number,
        limit + 1,
    )
    return Page(tuple(job_of(row) for row in rows[:limit]), has_more=len(rows) > limit)


async def cancel(connection: Connection, keeping: Keeping, job_id: str, owner: str) -> Job | None:
    """The job as it is then: a queued one is cancelled, a running one has it requested."""
    row = await _locked(connection, keeping.service, job_id, owner)
    if row is None:
        return None
    if row["state"] == State.QUEUED:
        await end(connection, keeping, row, State.CANCELLED)
    elif row["state"] == State.RUNNING and not row["cancel_requested"]:
        await connection.execute("update jobs set cancel_requested = true where id = $1", job_id)
        await notify(connection, keeping.service, job_id)
    changed = await get(connection, keeping.service, job_id, owner)
    return None if changed is None else job_of(changed)


async def delete(connection: Connection, keeping: Keeping, job_id: str, owner: str) -> Job | None:
    """The job as it was. Of a running one the objects follow when its worker has stopped."""
    row = await _locked(connection, keeping.service, job_id, owner)
    if row is None:
        return None
    if row["state"] == State.RUNNING:
        await connection.execute(
            "update jobs set cancel_requested = true, deleted = true where id = $1", job_id
        )
    else:
        await discard(connection, keeping.service, row["image"], keeping.folder(job_id))
        await connection.execute("delete from jobs where id = $1", job_id)
    await notify(connection, keeping.service, job_id)
    return job_of(row)


async def _locked(
    connection: Connection, service: str, job_id: str, owner: str
) -> asyncpg.Record | None:
    return await connection.fetchrow(
        """
        select * from jobs where service = $1 and id = $2 and owner = $3 and not deleted for update
        """,
        service,
        job_id,
        owner,
    )
