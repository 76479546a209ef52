"""How a service does, by all that its database knows."""

from __future__ import annotations

from datetime import datetime, timedelta

import asyncpg

from wan_runtime.contract.report import (
    QueueReport,
    ServiceReport,
    TrackReport,
    WorkerInfo,
    WorkerReport,
)
from wan_runtime.contract.rollout import Rollout, Track
from wan_runtime.rendering.order import Stage
from wan_runtime.serving.problems import OURS
from wan_runtime.serving.queue import rollouts
from wan_runtime.serving.queue.database import Connection
from wan_runtime.serving.queue.workers import WORKER_SECONDS

STABLE = timedelta(hours=1)
"""What the stable track is judged by at least, however short its canary's trial is."""
LONGEST = timedelta(days=7)
"""What ended before is left out, however long the trial is."""
MOST_VIDEOS = 10_000
"""Number of videos of each track that count, the newest: as many as a spec may want."""


async def report(
    connection: Connection, service: str, mounted: Rollout | None = None
) -> ServiceReport:
    """State of the service now, with `age_seconds` 0. Fails where the queue could not be changed,
    as at a server that only reads. `mounted`: the rollout as the caller's mount has it, for what
    the database does not keep of it."""
    await connection.execute("update jobs set id = id where false")
    now: datetime = await connection.fetchval("select now()")
    rollout = await rollouts.current(connection, service)
    if mounted is not None and mounted.model_copy(update={"begun": None}) == rollout:
        rollout = mounted
    return ServiceReport(
        time=now,
        age_seconds=0.0,
        queue=await _queue(connection, service),
        workers=await workers(connection, service),
        rollout=rollout,
        tracks={
            track: await _track(connection, service, rollout.canary, track, since)
            for track, since in _since(rollout, now).items()
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


def _since(rollout: Rollout, now: datetime) -> dict[Track, datetime]:
    """From when on videos of each track count."""
    recent = now - STABLE
    if rollout.canary is None:
        return {Track.STABLE: recent}
    begun = rollout.begun
    if begun is None and rollout.number:
        # Of a mount that is behind, or ahead: since the share was changed, which is never earlier.
        begun = datetime.fromtimestamp(min(rollout.number, now.timestamp()), now.tzinfo)
    begun = max(begun or recent, now - LONGEST)
    return {Track.STABLE: min(begun, recent), Track.CANARY: begun}


async def _track(
    connection: Connection, service: str, canary: str | None, track: Track, since: datetime
) -> TrackReport:
    # Not `problem ->> 'code'`: that fails where the message has a \u0000.
    row = await connection.fetchrow(
        """
        select count(*) filter (where state = 'completed') as completed,
            count(*) filter (where state = 'failed') as failed,
            percentile_cont(0.5) within group (order by seconds) as median_seconds,
            percentile_cont(0.95) within group (order by seconds) as p95_seconds
        from (
            select state, (
                select sum(value::float8) from json_each_text(rendered -> 'seconds')
                where key <> $6
            ) as seconds
            from jobs
            where service = $1 and coalesce(revision = $2, false) = $3 and completed_at > $4
                and (state = 'completed' or (state = 'failed' and
                    substring(problem::text from '^{"code":"([a-z_]+)"') = any ($5)))
            order by completed_at desc limit $7
        ) ended
        """,
        service,
        canary,
        track is Track.CANARY,
        since,
        list(OURS),
        Stage.WRITING.value,
        MOST_VIDEOS,
    )
    assert row is not None
    return TrackReport(**row)
