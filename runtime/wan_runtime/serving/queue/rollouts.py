"""The canary of a service, as all its gateways and workers go by."""

from __future__ import annotations

from wan_runtime.serving.queue.database import Connection
from wan_runtime.serving.rollout import Rollout


async def current(connection: Connection, service: str) -> Rollout:
    """As it was stored last; none, if nothing was."""
    row = await connection.fetchrow(
        "select canary, weight from rollouts where service = $1", service
    )
    return Rollout() if row is None else Rollout(canary=row["canary"], weight=row["weight"])


async def store(connection: Connection, service: str, rollout: Rollout) -> None:
    """From the next claim and submission on."""
    await connection.execute(
        """
        insert into rollouts (service, canary, weight) values ($1, $2, $3)
        on conflict (service) do update set canary = excluded.canary, weight = excluded.weight
        """,
        service,
        rollout.canary,
        rollout.weight,
    )
