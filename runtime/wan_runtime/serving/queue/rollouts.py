"""The canary of a service, as all its gateways and workers go by."""

from __future__ import annotations

from wan_runtime.contract.rollout import Rollout
from wan_runtime.serving.queue.database import Connection


async def current(connection: Connection, service: str) -> Rollout:
    """As it was stored last; none, if nothing was."""
    row = await connection.fetchrow(
        "select canary, weight, number from rollouts where service = $1", service
    )
    return Rollout() if row is None else Rollout(**row)


async def store(connection: Connection, service: str, rollout: Rollout) -> bool:
    """From the next claim and submission on. False: one with a higher number stays."""
    stored = await connection.fetchval(
        """
        insert into rollouts (service, canary, weight, number) values ($1, $2, $3, $4)
        on conflict (service) do update set
            canary = excluded.canary, weight = excluded.weight, number = excluded.number
            where rollouts.number <= excluded.number
        returning true
        """,
        service,
        rollout.canary,
        rollout.weight,
        rollout.number,
    )
    return stored is not None
