"""A job enters the queue: at most once for an idempotency key, and within the limits."""

from __future__ import annotations

from dataclasses import dataclass

from wan_runtime.rendering.order import Choices, Job, VideoOrder
from wan_runtime.serving.queue import rollouts
from wan_runtime.serving.queue.database import Connection
from wan_runtime.serving.queue.errors import KeyReused, OwnerFull, QueueFull
from wan_runtime.serving.queue.room import seconds_until_end, seconds_until_room
from wan_runtime.serving.queue.rows import job_of, notify, written

LOCK = 0x77616E02
"""Key of the advisory lock that serializes the submissions to a service, so that neither a key nor
the room under a limit is taken twice."""
KEY_SECONDS = 86400.0
"""How long an idempotency key is remembered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    service: str
    job_id: str
    order: VideoOrder
    choices: Choices | None
    owner: str
    predicted_seconds: float
    priority: int
    idempotency_key: str | None
    request_digest: str
    limit_seconds: float
    owner_limit: int | None
    remixed_from: str | None
    webhook: str | None
    user: str | None


@dataclass(frozen=True, slots=True)
class Submitted:
    job: Job
    repeated: bool
    """The idempotency key came before with the same request: this is the job that it made."""


async def submit(connection: Connection, wanted: Submission) -> Submitted:
    """Raises KeyReused, QueueFull, OwnerFull, or ValueError for a job id of another owner."""
    await connection.execute("select pg_advisory_xact_lock($1, hashtext($2))", LOCK, wanted.service)
    row = await connection.fetchrow("select * from jobs where id = $1", wanted.job_id)
    if row is not None:
        # The answer to the first try was lost on the way.
        if (row["service"], row["owner"]) != (wanted.service, wanted.owner):
            raise ValueError(f"job id {wanted.job_id} is taken")
        return Submitted(job_of(row), repeated=False)
    earlier = await find_earlier(
        connection, wanted.service, wanted.owner, wanted.idempotency_key, wanted.request_digest
    )
    if earlier is not None:
        return Submitted(earlier, repeated=True)
    await _check_room(connection, wanted)
    job = await _insert(connection, wanted)
    await notify(connection, wanted.service, job.id, claimable=True)
    return Submitted(job, repeated=False)


async def find_earlier(
    connection: Connection, service: str, owner: str, key: str | None, digest: str
) -> Job | None:
    """The job that an idempotency key made within the last day; None: none. `digest`: of the
    request. Raises KeyReused."""
    if key is None:
        return None
    row = await connection.fetchrow(
        """
        select jobs.*, keys.digest from idempotency_keys keys join jobs on jobs.id = keys.job_id
        where keys.service = $1 and keys.owner = $2 and keys.key = $3
            and keys.expires_at > now() and not jobs.deleted
        """,
        service,
        owner,
        key,
    )
    if row is None:
        return None
    if row["digest"] != digest:
        raise KeyReused(key)
    return job_of(row)


async def _check_room(connection: Connection, wanted: Submission) -> None:
    if wanted.owner_limit is not None:
        unfinished = await connection.fetchval(
            """
            select count(*) from jobs
            where service = $1 and owner = $2 and state in ('queued', 'running')
            """,
            wanted.service,
            wanted.owner,
        )
        if unfinished >= wanted.owner_limit:
            wait = await seconds_until_end(connection, wanted.service, wanted.owner)
            raise OwnerFull(wanted.owner_limit, wait)
    waiting = await connection.fetchval(
        "select sum(predicted_seconds) from jobs where service = $1 and state = 'queued'",
        wanted.service,
    )
    # An empty queue takes a job of any length: it waits behind nobody.
    if waiting is not None and waiting + wanted.predicted_seconds > wanted.limit_seconds:
        over = min(waiting, waiting + wanted.predicted_seconds - wanted.limit_seconds)
        wait = await seconds_until_room(connection, wanted.service, over)
        raise QueueFull(wanted.limit_seconds, wait)


async def _insert(connection: Connection, wanted: Submission) -> Job:
    rollout = await rollouts.current(connection, wanted.service)
    key = wanted.idempotency_key
    track = rollout.drawn(wanted.job_id if key is None else f"{wanted.owner}/{key}")
    row = await connection.fetchrow(
        """
        insert into jobs (id, service, owner, priority, "order", image, predicted_seconds,
            remixed_from, webhook, track, end_user, choices)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) returning *
        """,
        wanted.job_id,
        wanted.service,
        wanted.owner,
        wanted.priority,
        written(wanted.order),
        wanted.order.image,
        wanted.predicted_seconds,
        wanted.remixed_from,
        wanted.webhook,
        track.value,
        wanted.user,
        wanted.choices and written(wanted.choices),
    )
    assert row is not None
    if wanted.idempotency_key is not None:
        await connection.execute(
            """
            insert into idempotency_keys (service, owner, key, digest, job_id, expires_at)
            values ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))
            on conflict (service, owner, key) do update set
                digest = excluded.digest, job_id = excluded.job_id,
                expires_at = excluded.expires_at
            """,
            wanted.service,
            wanted.owner,
            wanted.idempotency_key,
            wanted.request_digest,
            wanted.job_id,
            KEY_SECONDS,
        )
    return job_of(row)
