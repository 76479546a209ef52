"""What workers do to a job that they claimed: hold it by a lease, end it or hand it back."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import asyncpg

from wan_runtime.rendering.order import Advance, Problem, Rendered, State
from wan_runtime.serving.queue.database import Connection
from wan_runtime.serving.queue.rows import discard, notify, spend

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
"""Most of what a video itself breaks is reported, and fails it at once; the others are lost with
nodes that come and go. Where a worker is killed for every third video, three of 200 lose three."""
WORKER_LOST = "worker_lost"
"""Code of the problem after the last attempt."""
GRACE_SECONDS = 30
"""A server that just came up takes no lease away: no worker could renew it meanwhile."""


@dataclass(frozen=True, slots=True)
class Beat:
    cancel_requested: bool
    lost: bool
    """The lease is another's, or the job ended: stop rendering it."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where the objects of jobs lie, and how long jobs are kept after their end."""

    service: str
    prefix: str
    retention_seconds: float

    def folder(self, job_id: str) -> str:
        """Key prefix of all objects of a job, with a slash at its end."""
        return "/".join(filter(None, (self.prefix, "videos", job_id))) + "/"


async def heartbeat(
    connection: Connection,
    service: str,
    job_id: str,
    worker: str,
    advance: Advance | None,
    lease_seconds: float,
) -> Beat:
    """Renews the lease, even one that ran out while nobody took it."""
    row = await connection.fetchrow(
        """
        update jobs set lease_until = now() + make_interval(secs => $4),
            advance = coalesce($5, advance)
        where service = $1 and id = $2 and state = 'running' and worker = $3
        returning cancel_requested
        """,
        service,
        job_id,
        worker,
        lease_seconds,
        advance and advance.model_dump_json(by_alias=True),
    )
    if row is None:
        return Beat(cancel_requested=False, lost=True)
    if advance is not None:
        await notify(connection, service, job_id)
    return Beat(cancel_requested=row["cancel_requested"], lost=False)


async def finish(
    connection: Connection,
    keeping: Keeping,
    job_id: str,
    worker: str,
    state: State,
    result: Rendered | Problem | None = None,
) -> bool:
    """Whether the job ended as this worker says; the same for the same call again."""
    row = await connection.fetchrow(
        "select * from jobs where service = $1 and id = $2 for update", keeping.service, job_id
    )
    if row is None:
        # Deleted, or expired long ago: what was uploaded since belongs to nobody.
        await discard(connection, keeping.service, keeping.folder(job_id))
        return False
    if row["state"] != State.RUNNING or row["worker"] != worker:
        if row["state"] in (State.FAILED, State.CANCELLED):
            await discard(connection, keeping.service, keeping.folder(job_id))
        return bool(row["state"] == state and row["worker"] == worker)
    await end(connection, keeping, row, state, result)
    return not row["deleted"]


async def give_back(
    connection: Connection,
    keeping: Keeping,
    job_id: str,
    worker: str,
    reason: str,
    *,
    counts: bool,
) -> None:
    """Hands a job back that the worker still holds."""
    row = await connection.fetchrow(
        """
        select * from jobs where service = $1 and id = $2 and worker = $3
            and state = 'running' for update
        """,
        keeping.service,
        job_id,
        worker,
    )
    if row is not None:
        await hand_back(connection, keeping, row, reason, counts=counts)


async def hand_back(
    connection: Connection,
    keeping: Keeping,
    row: asyncpg.Record,
    reason: str,
    *,
    counts: bool,
) -> None:
    """Puts a running job back to where it stood in the queue, as it was asked for, or ends it where
    it may not run again. `row` is locked."""
    if row["cancel_requested"]:
        await end(connection, keeping, row, State.CANCELLED)
        return
    if counts and row["attempts"] >= MAX_ATTEMPTS:
        text = f"its worker was lost {row['attempts']} times, at last: {reason}"
        await end(connection, keeping, row, State.FAILED, Problem(code=WORKER_LOST, message=text))
        return
    await connection.execute(
        """
        update jobs set state = 'queued', worker = null, claim = null, lease_until = null,
            started_at = null, advance = null, attempts = attempts - $2, last_reason = $3,
            -- Workers of an earlier release render the order as it is.
            "order" = coalesce(asked, "order"),
            predicted_seconds = coalesce(asked_seconds, predicted_seconds)
        where id = $1
        """,
        row["id"],
        0 if counts else 1,
        reason,
    )
    await spend(connection, keeping.service, row["owner"], -row["predicted_seconds"])
    await notify(connection, keeping.service, row["id"], claimable=True)


async def end(
    connection: Connection,
    keeping: Keeping,
    row: asyncpg.Record,
    state: State,
    result: Rendered | Problem | None = None,
) -> None:
    """Ends a job that runs or waits. `row` is locked.

    The photo goes, and with anything but a completed job all of its objects; a webhook is due.
    """
    kept = state is State.COMPLETED and not row["deleted"]
    await discard(
        connection, keeping.service, row["image"], None if kept else keeping.folder(row["id"])
    )
    if row["state"] == State.RUNNING:
        await _settle(connection, row)
    if row["deleted"]:
        await connection.execute("delete from jobs where id = $1", row["id"])
        await notify(connection, keeping.service, row["id"])
        return
    text = result and result.model_dump_json(by_alias=True)
    await connection.execute(
        """
        update jobs set state = $2, completed_at = now(), lease_until = null, image = null,
            expires_at = now() + make_interval(secs => $3), rendered = $4, problem = $5
        where id = $1
        """,
        row["id"],
        state.value,
        keeping.retention_seconds,
        text if isinstance(result, Rendered) else None,
        text if isinstance(result, Problem) else None,
    )
    if row["webhook"]:
        await connection.execute(
            "insert into webhooks (service, job_id) values ($1, $2)", keeping.service, row["id"]
        )
    await notify(connection, keeping.service, row["id"])


async def _settle(connection: Connection, row: asyncpg.Record) -> None:
    """The owner was charged what was predicted; now it is known."""
    taken = await connection.fetchval("select extract(epoch from now() - $1)", row["started_at"])
    await spend(connection, row["service"], row["owner"], float(taken) - row["predicted_seconds"])
