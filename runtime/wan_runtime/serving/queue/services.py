"""Whose rows these are: a service's uid, in a cluster, whatever its name.

A database that an earlier release has used holds rows under "<namespace>/<name>", and pods of that
release may still work on them. The service of that name that comes first keeps this as its queue,
so that old and new pods meet in one; rows whose objects lie below another's prefix are set aside
before. In any other case the queue is named by the uid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from wan_runtime.contract.left import LeftQueue
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.serving.queue.database import Connection

UNCLAIMED_SECONDS = 7 * 86400.0
"""What is set aside, and no service comes for, is removed after this."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells a service from all others that share its database."""

    uid: str
    cluster: str
    queue: str
    """Name of its queue where no earlier release wrote."""
    namespace: str
    name: str
    prefix: str
    """ServiceSpec.prefix."""
    store: str
    """Address of its bucket."""

    @classmethod
    def of(cls, service: ServiceSpec) -> Identity:
        """The identity of a service."""
        return cls(
            uid=service.uid,
            cluster=service.cluster or "",
            queue=service.id,
            namespace=service.namespace,
            name=service.name,
            prefix=service.prefix,
            store=f"{service.store.endpoint.rstrip('/')}/{service.store.bucket}",
        )

    @classmethod
    def left(cls, queue: LeftQueue) -> Identity:
        """The identity of a deleted service."""
        return cls(
            uid=queue.uid,
            cluster=queue.cluster or "",
            queue="",
            namespace=queue.namespace,
            name=queue.name,
            prefix=queue.prefix,
            store="",
        )

    @property
    def named(self) -> str:
        """Name of its queue to an earlier release."""
        return f"{self.namespace}/{self.name}"


async def find(connection: Connection, wanted: Identity) -> str | None:
    """Name of the service's queue; None: it has none."""
    queue: str | None = await connection.fetchval(
        "select queue from services where uid = $1 and cluster = $2", wanted.uid, wanted.cluster
    )
    return queue


async def register(connection: Connection, wanted: Identity) -> str:
    """Name of the service's queue, from now on known as in use. Its caller holds the lock of
    migrations, so that two that begin at once get the same."""
    queue = await find(connection, wanted) or await _inherited(connection, wanted) or wanted.queue
    await connection.execute(
        """
        insert into services (queue, uid, cluster, namespace, name, prefix, store)
        values ($1, $2, $3, $4, $5, $6, $7)
        on conflict (queue) do update set uid = excluded.uid, cluster = excluded.cluster,
            namespace = excluded.namespace, name = excluded.name, prefix = excluded.prefix,
            store = excluded.store, seen_at = now(), deleted_at = null
        """,
        queue,
        wanted.uid,
        wanted.cluster,
        wanted.namespace,
        wanted.name,
        wanted.prefix,
        wanted.store,
    )
    return queue


async def owners(connection: Connection, queue: str, ids: Mapping[str, str]) -> dict[str, str]:
    """Owners of videos by the ids of API keys, for those that differ: an earlier release wrote the
    names of keys. Keys that are there when the first gateway of this release begins take what was
    written under their names, once. `ids`: of the keys by name."""
    first = ids and await connection.fetchval(
        """
        update services set owners_at = now()
        where queue = $1 and owners_at is null and queue <> concat_ws('/', nullif(cluster, ''), uid)
        returning true
        """,
        queue,
    )
    if first:
        # Equal keys have one id: the last of their names is what requests count as.
        await connection.executemany(
            """
            insert into api_keys (service, id, owner) values ($1, $2, $3)
            on conflict (service, id) do update set owner = excluded.owner
            """,
            [(queue, id, name) for name, id in ids.items()],
        )
    rows = await connection.fetch("select id, owner from api_keys where service = $1", queue)
    return {row["id"]: row["owner"] for row in rows}


async def seen(connection: Connection, queue: str) -> None:
    """Notes that the service has somebody who tends its queue: it lives, whatever was said."""
    await connection.execute(
        "update services set seen_at = now(), deleted_at = null where queue = $1", queue
    )


async def _inherited(connection: Connection, wanted: Identity) -> str | None:
    """Name of the queue that an earlier release wrote, or may still be writing, for the service;
    None: there is none."""
    if not await _was_used_before(connection):
        return None
    holder = await connection.fetchrow(
        "select uid, cluster from services where queue = $1", wanted.named
    )
    digits = wanted.uid[:8]
    await set_aside(connection, wanted, digits if holder is None else holder["uid"][:8])
    if holder is None:
        return wanted.named
    aside = f"{wanted.named}/{digits}"
    if await connection.fetchval(
        "select true from services where queue = $1 and uid is null", aside
    ):
        await connection.execute(
            """
            update jobs set expires_at = null
            where service = $1 and state in ('queued', 'running')
            """,
            aside,
        )
        return aside
    return None


async def _was_used_before(connection: Connection) -> bool:
    """Whether a release that knows no services has made the database's tables."""
    found: bool = await connection.fetchval(
        """
        select count(distinct applied_at) > 1 from migrations
        where number in (1, (select min(number) from migrations where number >= $1))
        """,
        FIRST,
    )
    return found


FIRST = 4
"""Number of the migration that made the services' table."""


async def set_aside(connection: Connection, wanted: Identity, kept: str) -> None:
    """Gives what lies under the service's name, and whose objects belong to others, a queue for
    each of those others. `kept`: first digits of the uid whose rows stay.

    Jobs that somebody renders stay until they end.
    """
    folder = f"{re.escape(wanted.namespace)}/{re.escape(wanted.name)}/([^/]+)/"
    # As text, in which quotes of a prompt are escaped: reading it as JSON fails where a prompt has
    # a \u0000.
    image = """substring("order"::text from '"image":"([^"]*)"')"""
    rows = await connection.fetch(
        f"""
        with named as (
            select id, substring({image} from $2) as digits from jobs where service = $1
        )
        update jobs set service = $1 || '/' || digits,
            expires_at = coalesce(expires_at, now() + make_interval(secs => $4))
        from named where jobs.id = named.id and digits <> $3
            and (state <> 'running' or lease_until < now())
        returning jobs.id, digits
        """,
        wanted.named,
        f"(?:^|/){folder}",
        kept,
        UNCLAIMED_SECONDS,
    )
    moved = [row["id"] for row in rows]
    for table in ("idempotency_keys", "webhooks"):
        await connection.execute(
            f"""
            update {table} set service = jobs.service from jobs
            where job_id = jobs.id and jobs.id = any($1)
            """,
            moved,
        )
    rubbish = await connection.fetch(
        """
        update rubbish set service = $1 || '/' || substring(key from $2)
        where service = $1 and substring(key from $2) <> $3
        returning substring(key from $2) as digits
        """,
        wanted.named,
        f"(?:^|/){folder}",
        kept,
    )
    # Objects were written below one prefix: it differs in the last part.
    above = wanted.prefix.rpartition("/")[0]
    for digits in sorted({row["digits"] for row in (*rows, *rubbish)}):
        await connection.execute(
            """
            insert into services (queue, cluster, namespace, name, prefix, store)
            values ($1, '', $2, $3, $4, $5) on conflict do nothing
            """,
            f"{wanted.named}/{digits}",
            wanted.namespace,
            wanted.name,
            f"{above}/{digits}",
            wanted.store,
        )
