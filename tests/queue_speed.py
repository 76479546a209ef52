"""How fast the queue is with 10,000 finished jobs and 1,000 queued ones, beside the most that the
server does: `PYTHONPATH=runtime:tests python tests/queue_speed.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import asyncpg

from orders import fill, order, rendered, sign
from postgres import Postgres
from wan_runtime.rendering.order import Advance, Stage
from wan_runtime.serving.queue.database import SCHEMA
from wan_runtime.serving.queue.queue import Queue

CALLERS = 8
SECONDS = 5.0
ADVANCE = Advance(stage=Stage.DENOISING, step=1, steps=4)


async def rate(what: str, call: Callable[[], Awaitable[object]]) -> None:
    """Prints how many calls a second so many callers get done."""
    start, done = time.monotonic(), 0

    async def caller() -> None:
        nonlocal done
        while time.monotonic() - start < SECONDS:
            await call()
            done += 1

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    print(f"{what}: {done / (time.monotonic() - start):.0f}/s", flush=True)


async def measure(url: str) -> None:
    """Prints a line for each kind of call."""
    queue = await Queue.open(url, "team/wan")
    await fill(url)
    await queue.alive(sign("w"))

    async def submit() -> None:
        await queue.submit(order(), owner="o1", predicted_seconds=60, limit_seconds=1e9)

    async def work() -> None:
        await submit()
        job = await queue.claim("w", 30)
        assert job is not None
        assert await queue.complete(job.id, "w", rendered())

    held = await queue.claim("w", 30)
    assert held is not None
    await limit(url)
    await rate("submit, claim and complete", work)
    await rate("heartbeat", lambda: queue.heartbeat(held.id, "w", ADVANCE, 30))
    await rate("get", lambda: queue.get(held.id))
    start = time.monotonic()
    await queue.place("video_10500")
    print(f"places of all that wait: {(time.monotonic() - start) * 1000:.0f} ms")
    print(f"{(await queue.report()).queue.queued} wait")
    await rate("submit alone", submit)
    await queue.close()


async def limit(url: str) -> None:
    """Transactions of one row each."""
    table = f"{SCHEMA}.plain"
    async with asyncpg.create_pool(url, min_size=CALLERS, max_size=CALLERS) as pool:
        await pool.execute(f"create table {table} (id bigserial primary key, text text)")
        statement = f"insert into {table} (text) values ($1)"
        await rate("insert of a plain row", lambda: pool.execute(statement, "x" * 500))


if __name__ == "__main__":
    with Postgres(fsync="on", full_page_writes="on") as server:
        asyncio.run(measure(server.url()))
