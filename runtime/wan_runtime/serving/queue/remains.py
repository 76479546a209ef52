"""What is left of a service that nobody tends: it was deleted, or has had no gateway for long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

from wan_runtime.contract.left import SILENCE_SECONDS
from wan_runtime.serving.queue import upkeep, workers
from wan_runtime.serving.queue.database import Connection, Database
from wan_runtime.serving.queue.rows import discard, notify
from wan_runtime.serving.queue.work import Keeping

UNTENDED_SECONDS = 3600.0
"""A service of which no gateway or worker was seen for this long has its retention kept by the
gateways of others. Of one that lives they remove only what its own would."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Remains:
    """The rows of one such service."""

    database: Database
    keeping: Keeping

    async def mark_deleted(self) -> bool:
        """Nobody will come for its videos: what waits or runs goes at the next `clear`. False, and
        nothing is marked: a gateway or worker was seen lately, so the service lives."""
        marked: bool | None = await self._do(
            lambda each: each.fetchval(
                """
                update services set deleted_at = coalesce(deleted_at, now())
                where queue = $1 and seen_at < now() - make_interval(secs => $2) and not exists (
                    select from workers where workers.service = $1
                        and workers.seen_at > now() - make_interval(secs => $2)
                ) returning true
                """,
                self.keeping.service,
                SILENCE_SECONDS,
            )
        )
        return marked is True

    async def clear(self, remove: Callable[[list[str]], Awaitable[None]]) -> int:
        """Removes what need not be kept: videos past their retention, of a deleted service all
        that waits or runs, too; and the service itself once nothing is left. How many jobs.

        `remove`: of keys in the bucket; one that ends in a slash is a folder.
        """
        jobs = 0
        for step in (retire, upkeep.expire):
            while done := await self._do(partial(step, keeping=self.keeping)):
                jobs += done
        service = self.keeping.service
        while keys := await self._do(lambda each: upkeep.rubbish(each, service, upkeep.BATCH)):
            await remove(keys)
            await self._do(partial(upkeep.removed, service=service, keys=keys))
        await self._do(lambda each: forget(each, service))
        return jobs

    async def existing(self, job_ids: Collection[str]) -> set[str]:
        """Those of the ids that jobs have."""
        return await self._do(
            partial(workers.existing, service=self.keeping.service, job_ids=job_ids)
        )

    async def last_end(self) -> datetime | None:
        """When the retention of the last of its videos ends; None: there are none."""
        found: datetime | None = await self._do(
            lambda each: each.fetchval(
                "select max(coalesce(expires_at, now())) from jobs where service = $1",
                self.keeping.service,
            )
        )
        return found

    async def _do(self, step: Callable[[Connection], Awaitable[Result]]) -> Result:
        return await self.database.transact("remains", step)


async def untended(connection: Connection, queue: str) -> list[Keeping]:
    """Services with something left in the bucket of this one, that nobody else tends."""
    rows = await connection.fetch(
        """
        select queue, prefix from services where queue <> $1
            and store = (select store from services where queue = $1)
            and (uid is null or deleted_at is not null
                or seen_at < now() - make_interval(secs => $2))
        order by queue
        """,
        queue,
        UNTENDED_SECONDS,
    )
    return [Keeping(row["queue"], row["prefix"], 0) for row in rows]


async def retire(connection: Connection, keeping: Keeping) -> int:
    """Removes jobs of a deleted service that have not ended, up to a batch. How many."""
    rows = await connection.fetch(
        """
        delete from jobs where id in (
            select id from jobs where service = $1 and state in ('queued', 'running')
                and exists (select from services where queue = $1 and deleted_at is not null)
            limit $2 for update skip locked
        ) returning id, image
        """,
        keeping.service,
        upkeep.BATCH,
    )
    for row in rows:
        await discard(connection, keeping.service, row["image"], keeping.folder(row["id"]))
        await notify(connection, keeping.service, row["id"])
    return len(rows)


async def forget(connection: Connection, queue: str) -> None:
    """Removes a service of which nothing is left but its name."""
    gone = await connection.fetchval(
        """
        delete from services where queue = $1 and (uid is null or deleted_at is not null)
            and not exists (select from jobs where service = $1)
            and not exists (select from rubbish where service = $1)
        returning true
        """,
        queue,
    )
    if gone:
        for table in ("owners", "workers", "rollouts"):
            await connection.execute(f"delete from {table} where service = $1", queue)
