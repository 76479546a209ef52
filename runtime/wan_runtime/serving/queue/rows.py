"""Rows of the tables as the contracts' models, and the few statements that all parts share."""

from __future__ import annotations

import asyncpg

from wan_runtime.rendering.order import (
    Advance,
    Choices,
    Delivery,
    Job,
    Problem,
    Rendered,
    State,
    VideoOrder,
)
from wan_runtime.serving.queue.database import Connection

CHANNEL = "wan_video"
"""Channel of NOTIFY, one for all services: channel names are too short for service names."""

CLAIMABLE = "claimable"

HALF_LIFE_SECONDS = 3600.0
"""What an owner was given counts half after this."""

# Beyond a thousand half-lives power() would fail with an underflow.
SPENT = (
    "spent_seconds * power(0.5::float8, "
    f"least(extract(epoch from now() - spent_at)::float8 / {HALF_LIFE_SECONDS}, 500))"
)
"""Seconds of work of a row of `owners`, faded to now."""


def job_of(row: asyncpg.Record) -> Job:
    """Job from a whole row of `jobs`. Fields that a newer release wrote are ignored."""
    return Job(
        id=row["id"],
        owner=row["owner"],
        state=State(row["state"]),
        order=VideoOrder.model_validate_json(row["order"], extra="ignore"),
        choices=row["choices"] and Choices.model_validate_json(row["choices"], extra="ignore"),
        priority=row["priority"],
        predicted_seconds=row["predicted_seconds"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        expires_at=row["expires_at"],
        attempts=row["attempts"],
        cancel_requested=row["cancel_requested"],
        advance=row["advance"] and Advance.model_validate_json(row["advance"], extra="ignore"),
        rendered=row["rendered"] and Rendered.model_validate_json(row["rendered"], extra="ignore"),
        problem=row["problem"] and Problem.model_validate_json(row["problem"], extra="ignore"),
        remixed_from=row["remixed_from"],
        webhook=row["webhook"],
        user=row["end_user"],
        delivery=row["delivery"] and Delivery.model_validate_json(row["delivery"], extra="ignore"),
    )


def written(part: VideoOrder | Choices) -> str:
    """A part of a job as its column holds it."""
    return part.model_dump_json(by_alias=True, exclude_none=True)


async def notify(
    connection: Connection, service: str, job_id: str, *, claimable: bool = False
) -> None:
    """Tells listeners, at commit, that the job changed; workers, where it may be claimed now."""
    word = CLAIMABLE if claimable else "changed"
    await connection.execute("select pg_notify($1, $2)", CHANNEL, f"{service} {job_id} {word}")


async def spend(connection: Connection, service: str, owner: str, seconds: float) -> None:
    """Counts work that the owner was given; negative seconds take some back."""
    await connection.execute(
        f"""
        insert into owners (service, owner, spent_seconds, spent_at)
        values ($1, $2, greatest($3::float8, 0), now())
        on conflict (service, owner) do update set
            spent_seconds = greatest(0, {SPENT.replace("spent_", "owners.spent_")} + $3::float8),
            spent_at = now()
        """,
        service,
        owner,
        seconds,
    )


async def discard(connection: Connection, service: str, *keys: str | None) -> None:
    """Puts keys on the rubbish list."""
    await connection.executemany(
        "insert into rubbish (service, key) values ($1, $2) on conflict do nothing",
        [(service, key) for key in keys if key],
    )
