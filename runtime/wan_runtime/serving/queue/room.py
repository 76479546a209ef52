"""When a refused job would be taken, by the predictions that the queue's places come from."""

from __future__ import annotations

from wan_runtime.serving.queue.database import Connection
from wan_runtime.serving.queue.workers import all_places


async def seconds_until_room(connection: Connection, service: str, over: float) -> float:
    """Until workers have claimed `over` seconds of what waits; with no ready worker, as if one
    began now."""
    rows = await connection.fetch(
        "select id, predicted_seconds as seconds from jobs where service = $1 and state = 'queued'",
        service,
    )
    found = await all_places(connection, service)
    starts = {name: place.starts_in_seconds for name, place in found.items()}
    known = ((starts.get(row["id"]), row["seconds"]) for row in rows)
    for start, seconds in sorted((start, each) for start, each in known if start is not None):
        over -= seconds
        if over <= 0:
            return float(start)
    return over


async def seconds_until_end(connection: Connection, service: str, owner: str) -> float:
    """Until the first of the owner's unfinished jobs ends; of those that nobody can tell, as if
    they began now."""
    rows = await connection.fetch(
        """
        select id, state, predicted_seconds as seconds, greatest(0, predicted_seconds -
            coalesce(extract(epoch from now() - started_at)::float8, 0)) as remaining
        from jobs where service = $1 and owner = $2 and state in ('queued', 'running')
        """,
        service,
        owner,
    )
    found = await all_places(connection, service)
    ends = []
    for row in rows:
        place = found.get(row["id"])
        starts = place.starts_in_seconds if place is not None else None
        running = row["state"] == "running"
        ends.append(row["remaining"] if running else (starts or 0) + row["seconds"])
    return float(min(ends, default=0))
