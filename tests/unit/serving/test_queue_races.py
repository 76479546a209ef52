"""Many connections at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orders import order, rendered, submitted
from postgres import Postgres
from wan_runtime.rendering.order import Job, State
from wan_runtime.serving.queue.errors import KeyReused, OwnerFull, QueueFull
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.queue.submit import Submitted


@pytest_asyncio.fixture
async def queues(postgres: Postgres, service: str) -> AsyncIterator[list[Queue]]:
    """Two gateways and two workers, each with a pool of its own."""
    opened = await asyncio.gather(*(Queue.open(postgres.url(), service) for _ in range(4)))
    yield opened
    for each in opened:
        await each.close()


async def test_no_job_is_claimed_twice(queues: list[Queue]) -> None:
    ids = {(await submitted(queues[0], owner)).id for owner in "abc" * 20}

    async def work(queue: Queue, worker: str) -> list[str]:
        mine = []
        while job := await queue.claim(worker, 30):
            mine.append(job.id)
            assert await queue.complete(job.id, worker, rendered())
        return mine

    shares = await asyncio.gather(
        *(work(queue, f"w{i}-{j}") for i, queue in enumerate(queues) for j in range(5))
    )
    done = [job_id for share in shares for job_id in share]
    assert len(done) == len(set(done))
    assert set(done) == ids


async def test_claims_at_once_are_as_fair_as_claims_in_turn(queues: list[Queue]) -> None:
    for owner in ("ann", "bob", "cyd"):
        for _ in range(8):
            await submitted(queues[0], owner)
    jobs = await asyncio.gather(*(queues[i % 4].claim(f"w{i}", 30) for i in range(12)))
    owners = sorted(job.owner for job in jobs if job is not None)
    assert owners == ["ann"] * 4 + ["bob"] * 4 + ["cyd"] * 4


async def test_equal_requests_at_once_make_one_job(queues: list[Queue]) -> None:
    async def ask(queue: Queue, digest: str) -> Submitted:
        return await queue.submit(
            order(),
            owner="ann",
            predicted_seconds=1,
            limit_seconds=1e9,
            idempotency_key="k",
            request_digest=digest,
        )

    answers = await asyncio.gather(*(ask(queue, "d") for queue in queues * 4))
    assert len({each.job.id for each in answers}) == 1
    assert sorted(each.repeated for each in answers) == [False] + [True] * 15
    others = await asyncio.gather(*(ask(each, "e") for each in queues), return_exceptions=True)
    assert {type(each) for each in others} == {KeyReused}
    assert (await queues[0].report()).queue.queued == 1


@pytest.mark.parametrize(
    ("limit_seconds", "owner_limit", "refusal"), [(95, None, QueueFull), (1e9, 9, OwnerFull)]
)
async def test_limits_hold_against_many_at_once(
    queues: list[Queue], limit_seconds: float, owner_limit: int | None, refusal: type[Exception]
) -> None:
    async def ask(queue: Queue) -> bool:
        try:
            await queue.submit(
                order(),
                owner="ann",
                predicted_seconds=10,
                limit_seconds=limit_seconds,
                owner_limit=owner_limit,
            )
        except refusal:
            return False
        return True

    taken = await asyncio.gather(*(ask(queue) for queue in queues * 8))
    assert sum(taken) == 9
    assert (await queues[0].report()).queue.predicted_seconds == 90


async def test_a_job_cancelled_while_it_is_claimed_is_one_or_the_other(
    queues: list[Queue],
) -> None:
    async def race() -> tuple[Job | None, Job | None]:
        job = await submitted(queues[0])
        got, cancelled = await asyncio.gather(
            queues[1].claim("w1", 30), queues[0].cancel(job.id, "ann")
        )
        if got is not None:
            assert await queues[1].cancelled(job.id, "w1")
        return got, cancelled

    for _ in range(20):
        got, cancelled = await race()
        assert cancelled is not None
        if got is None:
            assert cancelled.state is State.CANCELLED
        else:
            assert (cancelled.state, cancelled.cancel_requested) == (State.RUNNING, True)


@pytest.mark.parametrize("ticks", range(6))
async def test_a_watch_is_left_while_its_job_changes(queues: list[Queue], ticks: int) -> None:
    """A change and a cancellation meet in all orders: a worker that hands a job back does both."""
    job = await submitted(queues[0])

    async def watch() -> None:
        async for _ in queues[0].watch(job.id):
            seen.set()

    seen = asyncio.Event()
    watching = asyncio.create_task(watch())
    await seen.wait()
    for event in queues[0]._events._subscribers[job.id]:
        event.set()
    for _ in range(ticks):
        await asyncio.sleep(0)
    watching.cancel()
    done, _ = await asyncio.wait({watching}, timeout=60)
    assert done, "it watches on"
    assert watching.cancelled()
