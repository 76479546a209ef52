"""What the whole queue looks like now: for places, metrics and autoscaling."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from wan_runtime.serving.queue.database import Connection
from wan_runtime.serving.queue.places import Place, Waiting, places
from wan_runtime.serving.queue.rows import SPENT, job_of
from wan_runtime.serving.video import Job, Stage

WORKER_SECONDS = 30.0
"""A worker not heard of for this long does not count."""


@dataclass(frozen=True, slots=True)
class Backlog:
    queued: int
    running: int
    predicted_seconds: float
    """Of all queued jobs."""
    oldest_seconds: float
    """Since the oldest queued job was submitted."""
    by_owner: dict[str, int]
    """Unfinished jobs."""
    workers: int
    """Live and ready."""


async def backlog(connection: Connection, service: str) -> Backlog:
    rows = await connection.fetch(
        """
        select owner,
            count(*) filter (where state = 'queued') as queued,
            count(*) filter (where state = 'running') as running,
            coalesce(sum(predicted_seconds) filter (where state = 'queued'), 0) as seconds,
            coalesce(extract(epoch from now()
                - min(created_at) filter (where state = 'queued'))::float8, 0) as oldest
        from jobs where service = $1 and state in ('queued', 'running') group by owner
        """,
        service,
    )
    return Backlog(
        queued=sum(row["queued"] for row in rows),
        running=sum(row["running"] for row in rows),
        predicted_seconds=sum((row["seconds"] for row in rows), 0.0),
        oldest_seconds=max((row["oldest"] for row in rows), default=0.0),
        by_owner={row["owner"]: row["queued"] + row["running"] for row in rows},
        workers=await ready_workers(connection, service),
    )


async def existing(connection: Connection, service: str, job_ids: Collection[str]) -> set[str]:
    rows = await connection.fetch(
        "select id from jobs where service = $1 and id = any($2)", service, list(job_ids)
    )
    return {row["id"] for row in rows}


async def completed(connection: Connection, service: str, limit: int) -> list[Job]:
    # All are kept equally long, so the index on expires_at has them in the order of their ends.
    rows = await connection.fetch(
        """
        select * from jobs where service = $1 and state = 'completed' and expires_at is not null
        order by expires_at desc limit $2
        """,
        service,
        limit,
    )
    return [job_of(row) for row in rows]


async def ready_workers(connection: Connection, service: str) -> int:
    """Number of those heard of lately."""
    count: int = await connection.fetchval(
        """
        select count(*) from workers where service = $1 and ready
            and seen_at > now() - make_interval(secs => $2)
        """,
        service,
        WORKER_SECONDS,
    )
    return count


async def alive(connection: Connection, service: str, worker: str, ready: bool) -> None:
    """Notes a worker's sign of life."""
    await connection.execute(
        """
        insert into workers (service, name, ready, seen_at) values ($1, $2, $3, now())
        on conflict (service, name) do update set ready = excluded.ready, seen_at = now()
        """,
        service,
        worker,
        ready,
    )


async def gone(connection: Connection, service: str, worker: str) -> None:
    """Takes a worker off the list."""
    await connection.execute(
        "delete from workers where service = $1 and name = $2", service, worker
    )


async def all_places(
    connection: Connection, service: str, new: Waiting | None = None
) -> dict[str, Place]:
    """Of every queued job, and of `new` as if it were queued."""
    queued = await connection.fetch(
        """
        select id, owner, priority, number, predicted_seconds as seconds from jobs
        where service = $1 and state = 'queued'
        """,
        service,
    )
    spent = await connection.fetch(
        f"select owner, {SPENT} as seconds from owners where service = $1", service
    )
    return places(
        [*(Waiting(**row) for row in queued), *([] if new is None else [new])],
        {row["owner"]: row["seconds"] for row in spent},
        await _busy_seconds(connection, service),
    )


async def _busy_seconds(connection: Connection, service: str) -> list[float]:
    """Of each ready worker. Writing a video holds no GPU, so it keeps nobody busy."""
    rows = await connection.fetch(
        """
        select coalesce(max(
            greatest(0, predicted_seconds - extract(epoch from now() - started_at)::float8)
        ) filter (where coalesce(advance ->> 'stage', '') <> $3), 0) as seconds
        from workers left join jobs on jobs.service = workers.service
            and jobs.worker = workers.name and jobs.state = 'running'
        where workers.service = $1 and ready and seen_at > now() - make_interval(secs => $2)
        group by name
        """,
        service,
        WORKER_SECONDS,
        Stage.WRITING.value,
    )
    return [row["seconds"] for row in rows]
