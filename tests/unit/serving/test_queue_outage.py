"""PostgreSQL goes away, and answers get lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from lossy import LossyNetwork
from orders import claimed, found, order, rendered, submitted
from ports import free_port
from postgres import Postgres
from wan_runtime.rendering.order import Advance, Job, Problem, Stage, State
from wan_runtime.serving.queue import database, events
from wan_runtime.serving.queue import queue as queue_module
from wan_runtime.serving.queue.errors import QueueAway
from wan_runtime.serving.queue.queue import Queue


class Lossy:
    """A queue behind a network that loses the answer to the commit of each call's first try."""

    def __init__(self, queue: Queue, network: LossyNetwork) -> None:
        self._queue = queue
        self._network = network

    def __call__(self) -> Queue:
        """For one call."""
        self._network.lose_answer_to(b"COMMIT;")
        return self._queue

    @property
    def lost(self) -> bool:
        """Whether the answer was."""
        return self._network.lost


@pytest_asyncio.fixture
async def lossy(postgres: Postgres, service: str) -> AsyncIterator[Lossy]:
    async with LossyNetwork(postgres.port) as network:
        opened = await Queue.open(network.url(postgres.url()), service)
        yield Lossy(opened, network)
        await opened.close()


async def test_a_lost_answer_to_an_owner_changes_nothing(queue: Queue, lossy: Lossy) -> None:
    first = (await lossy().submit(order(), owner="ann", predicted_seconds=1, limit_seconds=9)).job
    assert lossy.lost
    assert (await queue.report()).queue.queued == 1
    cancelled = await lossy().cancel(first.id, "ann")
    assert lossy.lost
    assert cancelled is not None
    assert cancelled.state is State.CANCELLED
    deleted = await lossy().delete(first.id, "ann")
    assert lossy.lost
    assert deleted == cancelled
    assert await queue.get(first.id) is None


async def test_a_lost_answer_to_a_keyed_request_is_no_repetition(lossy: Lossy) -> None:
    answer = await lossy().submit(
        order(), owner="ann", predicted_seconds=1, limit_seconds=9, idempotency_key="k"
    )
    assert lossy.lost
    assert not answer.repeated


async def test_a_lost_answer_to_a_worker_loses_no_job(queue: Queue, lossy: Lossy) -> None:
    ids = [(await submitted(queue)).id for _ in range(4)]
    got = [await lossy().claim("w1", 30) for _ in range(4)]
    assert lossy.lost
    assert [job and (job.id, job.attempts) for job in got] == [(each, 1) for each in ids]
    assert await lossy().complete(ids[0], "w1", rendered())
    assert await lossy().fail(ids[1], "w1", Problem(code="c", message="m"))
    assert await lossy().cancelled(ids[2], "w1")
    await lossy().hand_back(ids[3], "w1", "drained", counts=True)
    assert lossy.lost
    states = [(await found(queue, each)).state.value for each in ids]
    assert states == ["completed", "failed", "cancelled", "queued"]
    assert (await claimed(queue)).attempts == 2


async def test_patience_ends(service: str) -> None:
    with pytest.raises(QueueAway, match=r"PostgreSQL at .* is away \(migrate: "):
        await Queue.open(f"postgresql://wan@127.0.0.1:{free_port()}/x", service, patience_seconds=1)


async def test_patience_ends_with_a_server_that_says_nothing(
    postgres: Postgres, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CONNECT_SECONDS", 2.0)
    async with LossyNetwork(postgres.port) as network:
        queue = await Queue.open(network.url(postgres.url()), service, patience_seconds=8)
        job = await submitted(queue)
        network.frozen = True
        async with asyncio.timeout(database.STATEMENT_SECONDS - 1):
            with pytest.raises(QueueAway, match=r"is away \(get: "):
                await queue.get(job.id)
        network.frozen = False
        assert await queue.get(job.id) == job
        await queue.close()


async def test_calls_wait_for_a_server_that_restarts(queue: Queue, postgres: Postgres) -> None:
    job = await submitted(queue)
    await claimed(queue)
    postgres.kill()
    calls = [
        asyncio.create_task(queue.heartbeat(job.id, "w1", None, 30)),
        asyncio.create_task(queue.get(job.id)),
        asyncio.create_task(submitted(queue)),
    ]
    await asyncio.sleep(0)
    await asyncio.to_thread(postgres.start)
    beat, seen, _ = await asyncio.gather(*calls)
    assert not beat.lost
    assert seen is not None
    assert seen.state is State.RUNNING
    assert (await queue.report()).queue.queued == 1


async def test_watching_hears_of_each_change(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "POLL_SECONDS", 3600.0)
    job = await submitted(queue)
    seen: list[Job] = []
    watching = queue.watch(job.id)
    seen.append(await anext(watching))
    await claimed(queue)
    seen.append(await anext(watching))
    advance = Advance(stage=Stage.DENOISING, step=2, steps=4)
    await queue.heartbeat(job.id, "w1", advance, 30)
    seen.append(await anext(watching))
    await queue.cancel(job.id, "ann")
    seen.append(await anext(watching))
    await queue.cancelled(job.id, "w1")
    seen.extend([each async for each in watching])
    assert [each.state.value for each in seen] == ["queued", *["running"] * 3, "cancelled"]
    assert seen[2].advance == advance
    assert seen[3].cancel_requested
    assert [each async for each in queue.watch("video_none")] == []


async def test_watching_goes_on_after_a_restart(
    queue: Queue, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happened while nobody listened is seen too."""
    monkeypatch.setattr(queue_module, "POLL_SECONDS", 3600.0)
    job = await submitted(queue)
    watching = queue.watch(job.id)
    await anext(watching)
    following = asyncio.create_task(anext(watching))
    postgres.kill()
    await asyncio.to_thread(postgres.start)
    await claimed(queue)
    assert (await following).state is State.RUNNING
    await queue.complete(job.id, "w1", rendered())
    assert (await anext(watching)).state is State.COMPLETED


async def test_watching_polls_where_nothing_is_heard(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(events.Events, "_heard", lambda *_: None)
    job = await submitted(queue)
    watching = queue.watch(job.id)
    await anext(watching)
    await claimed(queue)
    assert (await anext(watching)).state is State.RUNNING


async def test_an_idle_worker_hears_of_new_work_only(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "POLL_SECONDS", 3600.0)
    held = await submitted(queue)
    await claimed(queue)
    watching = queue.watch(held.id)
    await anext(watching)

    async def all_is_heard(stage: Stage) -> None:
        """Notifications come in order: after this one, all before it have come."""
        await queue.heartbeat(held.id, "w1", Advance(stage=stage), 30)
        await anext(watching)

    await all_is_heard(Stage.LOADING)
    assert await queue.claim("w2", 30) is None
    waiting = asyncio.create_task(queue.wait(3600))
    await all_is_heard(Stage.DENOISING)
    assert not waiting.done()
    await submitted(queue)
    await waiting
    await claimed(queue, "w2")
    # What comes between a claim and the waiting is not missed.
    await submitted(queue)
    await all_is_heard(Stage.DECODING)
    await queue.wait(3600)
