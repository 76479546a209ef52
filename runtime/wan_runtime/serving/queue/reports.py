"""How a service does, by all that its database knows."""

from __future__ import annotations

import asyncpg

from wan_runtime.contract.report import (
    QueueReport,
    ServiceReport,
    TrackReport,
    WorkerInfo,
    WorkerReport,
)
from wan_runtime.contract.rollout import Track
from wan_runtime.rendering.order import Stage
from wan_runtime.serving.problems import OURS
from wan_runtime.serving.queue import rollouts
from wan_runtime.serving.queue.database import Connection
from wan_runtime.serving.queue.workers import WORKER_SECONDS

JUDGED_SECONDS = 3600.0
"""A track is judged by what ended within this time."""


async def report(connection: Connection, service: str) -> ServiceReport:
    """State of the service now, with `age_seconds` 0. Fails where the queue could not be changed,
    as at a server that only reads."""
    await connection.execute("update jobs set id = id where false")
    rollout = await rollouts.current(connection, service)
    tracks = await _tracks(connection, service, rollout.canary)
    return ServiceReport(
        time=await connection.fetchval("select now()"),
        age_seconds=0.0,
        queue=await _queue(connection, service),
        workers=await workers(connection, service),
        rollout=rollout,
        tracks={
            track: tracks.get(track, TrackReport(completed=0, failed=0))
            for track in Track
            if track is Track.STABLE or rollout.canary is not None
        },
    )


async def _queue(connection: Connection, service: str) -> QueueReport:
    row = await connection.fetchrow(
        """
        select count(*) filter (where state = 'queued') as queued,
            count(*) filter (where state = 'running') as running,
            coalesce(sum(predicted_seconds) filter (where state = 'queued'), 0)
                as predicted_seconds,
            coalesce(sum(coalesce(
                (advance ->> 'etaSeconds')::float8,
                greatest(0, predicted_seconds - extract(epoch from now() - started_at)::float8)
            )) filter (where state = 'running'), 0) as remaining_seconds,
            coalesce(extract(epoch from now()
                - min(created_at) filter (where state = 'queued'))::float8, 0) as oldest_seconds,
            -- What was deleted since is remembered as work that its owner was given.
            extract(epoch from now() - greatest(
                max(created_at),
                (select max(completed_at) from jobs
                    where service = $1 and completed_at is not null),
                (select max(spent_at) from owners where service = $1)
            ))::float8 as last_activity_seconds
        from jobs where service = $1 and state in ('queued', 'running')
        """,
        service,
    )
    assert row is not None
    return QueueReport(**row)


async def workers(connection: Connection, service: str) -> tuple[WorkerReport, ...]:
    """All heard of lately, by name."""
    rows = await connection.fetch(
        """
        select name, ready, info, extract(epoch from now() - seen_at)::float8 as seconds
        from workers where service = $1 and seen_at > now() - make_interval(secs => $2)
        order by name
        """,
        service,
        WORKER_SECONDS,
    )
    return tuple(
        WorkerReport(**dict(_info(row)), seen_seconds=max(0.0, row["seconds"])) for row in rows
    )


def _info(row: asyncpg.Record) -> WorkerInfo:
    if row["info"] is None:
        return WorkerInfo(name=row["name"], ready=row["ready"], ranks=0)
    return WorkerInfo.model_validate_json(row["info"], extra="ignore")


async def _tracks(
    connection: Connection, service: str, canary: str | None
) -> dict[Track, TrackReport]:
    # Not `problem ->> 'code'`: that fails where the message has a \u0000.
    rows = await connection.fetch(
        """
        select case when revision = $2 then 'canary' else 'stable' end as track,
            count(*) filter (where state = 'completed') as completed,
            count(*) filter (where state = 'failed' and
                substring(problem::text from '^{"code":"([a-z_]+)"') = any ($3)) as failed,
            percentile_cont(0.5) within group (order by seconds) as median_seconds,
            percentile_cont(0.95) within group (order by seconds) as p95_seconds
        from (
            select state, revision, problem, (
                select sum(value::float8) from json_each_text(rendered -> 'seconds')
                where key <> $4
            ) as seconds
            from jobs where service = $1 and completed_at > now() - make_interval(secs => $5)
        ) ended group by track
        """,
        service,
        canary,
        list(OURS),
        Stage.WRITING.value,
        JUDGED_SECONDS,
    )
    return {
        Track(row["track"]): TrackReport(**{name: row[name] for name in TrackReport.model_fields})
        for row in rows
    }
