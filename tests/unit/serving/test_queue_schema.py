"""The tables: how they come to be, and that no call reads them whole."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from orders import claimed, fill, order, rendered, sign, sql, submitted
from postgres import Postgres
from wan_runtime.serving.queue import upkeep
from wan_runtime.serving.queue.database import SETTINGS
from wan_runtime.serving.queue.errors import DatabaseRefused, SchemaNewer
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.queue.schema import Migration, migrate, migrations

NEXT = len(migrations()) + 1
"""Number of the first migration of a later release."""


@pytest.fixture
def url(postgres: Postgres) -> str:
    """Of an empty database."""
    return postgres.create(f"d{uuid4().hex}")


async def migrated(url: str, *more: Migration) -> None:
    connection = await asyncpg.connect(url, server_settings=SETTINGS)
    try:
        async with connection.transaction():
            await migrate(connection, [*migrations(), *more])
    finally:
        await connection.close()


async def test_many_pods_may_start_at_once(url: str) -> None:
    queues = await asyncio.gather(*(Queue.open(url, "team/wan") for _ in range(6)))
    await submitted(queues[0])
    for queue in queues:
        await queue.close()
    rows = await sql(url, "select number from migrations order by number")
    assert [row["number"] for row in rows] == [each.number for each in migrations()]


def test_migrations_are_numbered_in_order() -> None:
    assert [each.number for each in migrations()] == list(range(1, len(migrations()) + 1))


async def test_a_newer_schema_is_refused_where_it_breaks(url: str) -> None:
    await migrated(url, Migration(NEXT, "alter table jobs add column cost float8"))
    await (await Queue.open(url, "team/wan")).close()
    known = len(migrations())
    await migrated(
        url, Migration(NEXT + 1, "-- breaking\nalter table jobs rename owner to customer")
    )
    with pytest.raises(
        SchemaNewer, match=f"has migration {NEXT + 1}, this release knows up to {known}: run"
    ):
        await Queue.open(url, "team/wan")


async def test_a_column_that_comes_meanwhile_fails_no_call(url: str) -> None:
    """The server refuses statements that were prepared before it: the newer release's gateway
    brings the column while workers of this one render."""
    queue = await Queue.open(url, "team/wan")
    job = await submitted(queue)
    assert await queue.get(job.id) == job
    await migrated(url, Migration(NEXT, "alter table jobs add column cost float8"))
    assert await queue.get(job.id) == job
    await queue.close()


async def test_orders_of_a_newer_release_wait_for_its_workers(url: str) -> None:
    """In a rollout gateways come before the last of the old workers is gone."""
    queue = await Queue.open(url, "team/wan")
    newer, older = await submitted(queue), await submitted(queue)
    await sql(
        url,
        """
        update jobs set "order" = (("order"::jsonb) || '{"quality": "turbo"}')::json where id = $1
        """,
        newer.id,
    )
    assert (await claimed(queue)).id == older.id
    assert await queue.claim("w1", 30) is None
    assert await queue.get(newer.id) == newer
    assert await queue.cancel(newer.id, "ann")
    await queue.close()


async def test_a_migration_that_fails_leaves_the_tables_as_they_were(url: str) -> None:
    with pytest.raises(asyncpg.UndefinedColumnError):
        await migrated(
            url, Migration(NEXT, "drop table webhooks; alter table jobs drop column nothing")
        )
    await migrated(url)
    assert await sql(url, "select * from webhooks") == []


async def test_a_role_without_the_right_to_make_schemas_can_be_given_one(
    url: str, postgres: Postgres
) -> None:
    role = f"r{uuid4().hex}"
    await sql(url, f"create role {role} login")
    limited = url.replace("wan@", f"{role}@")
    with pytest.raises(DatabaseRefused):
        await Queue.open(limited, "team/wan")
    await sql(url, f"create schema wan_video authorization {role}")
    await (await Queue.open(limited, "team/wan")).close()


async def test_no_call_reads_all_jobs(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 finished jobs and 1,000 queued ones, of many owners."""
    monkeypatch.setattr(upkeep, "GRACE_SECONDS", 0)
    await migrated(url)
    await fill(url)
    whole = "select seq_scan from pg_stat_user_tables where relname = 'jobs'"
    before = await flushed(url, whole)
    queue = await Queue.open(url, "team/wan")
    job = await submitted(queue, "o1")
    await queue.submit(
        order(),
        owner="o1",
        predicted_seconds=1,
        limit_seconds=1e9,
        owner_limit=10_000,
        idempotency_key="k",
    )
    await queue.get(job.id)
    page = await queue.page("o1", after=None, limit=20, order="desc")
    await queue.page("o1", after=page.jobs[-1].id, limit=20, order="desc")
    await queue.alive(sign("w1"))
    await queue.place(job.id)
    await queue.cancel(job.id, "o1")
    await queue.delete(job.id, "o1")
    job = await claimed(queue)
    await queue.heartbeat(job.id, "w1", None, -1)
    await queue.reap()
    job = await claimed(queue)
    await queue.complete(job.id, "w1", rendered())
    await queue.expire()
    await queue.next_webhook()
    await queue.report()
    await queue.completed(50)
    await queue.close()
    assert await flushed(url, whole) == before


async def flushed(url: str, statement: str) -> list[asyncpg.Record]:
    """The answer once all other sessions have ended, for they hand in their counts at the end."""
    others = """
        select 1 from pg_stat_activity where datname = current_database()
            and pid <> pg_backend_pid() and backend_type = 'client backend'
    """
    while await sql(url, others):  # noqa: ASYNC110 (the server sends no event for it)
        await asyncio.sleep(0.02)
    return await sql(url, statement)
