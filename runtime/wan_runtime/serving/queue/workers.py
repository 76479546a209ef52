"""Who waits and who works: for predictions."""

from __future__ import annotations

from collections.abc import Collection

from wan_runtime.contract.report import WorkerInfo
from wan_runtime.contract.rollout import Track
from wan_runtime.rendering.order import Job, Stage
from wan_runtime.serving.queue import rollouts
from wan_runtime.serving.queue.database import Connection
from wan_runtime.serving.queue.places import Place, Waiting, places
from wan_runtime.serving.queue.rows import SPENT, job_of

WORKER_SECONDS = 30.0
"""A worker not heard of for this long does not count."""


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


async def alive(connection: Connection, service: str, info: WorkerInfo) -> None:
    """Notes a worker's sign of life."""
    await connection.execute(
        """
        insert into workers (service, name, ready, info, seen_at) values ($1, $2, $3, $4, now())
        on conflict (service, name) do update
            set ready = excluded.ready, info = excluded.info, seen_at = now()
        """,
        service,
        info.name,
        info.ready,
        info.model_dump_json(by_alias=True),
    )


async def gone(connection: Connection, service: str, worker: str) -> None:
    """Takes a worker off the list."""
    await connection.execute(
        "delete from workers where service = $1 and name = $2", service, worker
    )


async def all_places(
    connection: Connection, service: str, new: Waiting | None = None
) -> dict[str, Place]:
    """Places of all queued jobs, each among the jobs that the same workers claim, and of `new`, as
    if it were queued on the stable track."""
    queued = await connection.fetch(
        """
        select id, owner, priority, number, predicted_seconds as seconds, track from jobs
        where service = $1 and state = 'queued'
        """,
        service,
    )
    spent = await connection.fetch(
        f"select owner, {SPENT} as seconds from owners where service = $1", service
    )
    rollout = await rollouts.current(connection, service)
    busy = await _busy_seconds(connection, service)
    found: dict[str, Place] = {}
    lines: list[Track | None] = list(Track) if rollout.canary else [None]
    for track in lines:
        jobs = [
            Waiting(row["id"], row["owner"], row["priority"], row["number"], row["seconds"])
            for row in queued
            if track in (None, row["track"])
        ]
        found |= places(
            [*jobs, *([new] if new and track is not Track.CANARY else [])],
            {row["owner"]: row["seconds"] for row in spent},
            [seconds for revision, seconds in busy if rollout.claimed_by(revision) is track],
        )
    return found


async def _busy_seconds(connection: Connection, service: str) -> list[tuple[str, float]]:
    """Revision of each ready worker, with the seconds until it is predicted to be free. Writing a
    video uses no GPU, so it does not count."""
    rows = await connection.fetch(
        """
        select coalesce(info ->> 'revision', '') as revision, coalesce(max(
            greatest(0, predicted_seconds - extract(epoch from now() - started_at)::float8)
        ) filter (where coalesce(advance ->> 'stage', '') <> $3), 0) as seconds
        from workers left join jobs on jobs.service = workers.service
            and jobs.worker = workers.name and jobs.state = 'running'
        where workers.service = $1 and ready and seen_at > now() - make_interval(secs => $2)
        group by workers.service, workers.name
        """,
        service,
        WORKER_SECONDS,
        Stage.WRITING.value,
    )
    return [(row["revision"], row["seconds"]) for row in rows]
