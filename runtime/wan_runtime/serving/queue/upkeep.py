"""What the gateways do from time to time: reap, expire, remove rubbish, send webhooks. Any number
of them may do it at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from wan_runtime.rendering.order import Delivery, Job
from wan_runtime.serving.queue.database import Connection
from wan_runtime.serving.queue.rows import job_of
from wan_runtime.serving.queue.work import GRACE_SECONDS, Keeping, hand_back

BATCH = 100
SENDING_SECONDS = 60.0
"""A webhook taken and not reported on is due again after this."""
FORGOTTEN_SECONDS = 86400.0
"""Workers not heard of, and owners that were given nothing, for this long are forgotten."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A due message: the job ended."""

    id: int
    url: str
    job: Job
    attempts: int
    """With this one."""
    created_at: datetime


async def reap(connection: Connection, keeping: Keeping) -> int:
    """Takes one job back whose worker let the lease run out. 0: there was none."""
    row = await connection.fetchrow(
        """
        select * from jobs where service = $1 and state = 'running' and lease_until < now()
            and pg_postmaster_start_time() < now() - make_interval(secs => $2)
        order by lease_until limit 1 for update skip locked
        """,
        keeping.service,
        GRACE_SECONDS,
    )
    if row is None:
        return 0
    reason = f"no sign of life from worker {row['worker']}"
    await hand_back(connection, keeping, row, reason, counts=True)
    return 1


async def expire(connection: Connection, keeping: Keeping) -> int:
    """Removes jobs that were kept for as long as promised, up to a batch."""
    rows = await connection.fetch(
        """
        delete from jobs where id in (
            select id from jobs where service = $1 and expires_at < now()
            order by expires_at limit $2 for update skip locked
        ) returning id
        """,
        keeping.service,
        BATCH,
    )
    await connection.executemany(
        "insert into rubbish (service, key) values ($1, $2) on conflict do nothing",
        [(keeping.service, keeping.folder(row["id"])) for row in rows],
    )
    return len(rows)


async def forget(connection: Connection, service: str) -> None:
    """Removes what no longer matters of keys, workers and owners."""
    await connection.execute(
        "delete from idempotency_keys where service = $1 and expires_at < now()", service
    )
    for table, time in (("workers", "seen_at"), ("owners", "spent_at")):
        await connection.execute(
            f"""
            delete from {table} where service = $1
                and {time} < now() - make_interval(secs => $2)
            """,
            service,
            FORGOTTEN_SECONDS,
        )


async def rubbish(connection: Connection, service: str, limit: int) -> list[str]:
    """The oldest first."""
    rows = await connection.fetch(
        "select key from rubbish where service = $1 order by number limit $2", service, limit
    )
    return [row["key"] for row in rows]


async def removed(connection: Connection, service: str, keys: list[str]) -> None:
    await connection.execute(
        "delete from rubbish where service = $1 and key = any($2)", service, keys
    )


async def next_webhook(connection: Connection, service: str) -> Webhook | None:
    """The one due longest; nobody else gets it for SENDING_SECONDS."""
    row = await connection.fetchrow(
        """
        update webhooks set attempts = attempts + 1, next_at = now() + make_interval(secs => $2)
        where id = (
            select id from webhooks where service = $1 and next_at <= now()
            order by next_at limit 1 for update skip locked
        ) returning id, job_id, attempts, created_at
        """,
        service,
        SENDING_SECONDS,
    )
    if row is None:
        return None
    job = await connection.fetchrow("select * from jobs where id = $1", row["job_id"])
    assert job is not None  # its removal removes its webhooks
    return Webhook(row["id"], job["webhook"], job_of(job), row["attempts"], row["created_at"])


async def delivered(connection: Connection, webhook: Webhook) -> None:
    """Its receiver took it."""
    now = await _now(connection, webhook)
    if now is not None:
        before = webhook.job.delivery or Delivery(attempts=0)
        change = {"attempts": webhook.attempts, "delivered_at": now, "next_at": None}
        await _record(connection, webhook, before.model_copy(update=change))
        await connection.execute("delete from webhooks where id = $1", webhook.id)


async def undelivered(
    connection: Connection, webhook: Webhook, failure: str, again_in: float | None
) -> None:
    """Its receiver did not take it. `again_in`: seconds until it is due again; None: never."""
    now = await _now(connection, webhook)
    if now is None:
        return
    next_at = None if again_in is None else now + timedelta(seconds=again_in)
    delivery = Delivery(attempts=webhook.attempts, failed_at=now, failure=failure, next_at=next_at)
    await _record(connection, webhook, delivery)
    if next_at is None:
        await connection.execute("delete from webhooks where id = $1", webhook.id)
    else:
        await connection.execute(
            "update webhooks set next_at = $2 where id = $1", webhook.id, next_at
        )


async def _now(connection: Connection, webhook: Webhook) -> datetime | None:
    """The database's time; None: the webhook is done with. Its job is locked first, as by what
    removes jobs, whose webhooks go with them."""
    await connection.execute("select from jobs where id = $1 for update", webhook.job.id)
    found: datetime | None = await connection.fetchval(
        "select now() from webhooks where id = $1", webhook.id
    )
    return found


async def _record(connection: Connection, webhook: Webhook, delivery: Delivery) -> None:
    await connection.execute(
        "update jobs set delivery = $2 where id = $1",
        webhook.job.id,
        delivery.model_dump_json(by_alias=True),
    )
