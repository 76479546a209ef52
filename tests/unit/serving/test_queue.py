"""The queue against a real PostgreSQL: what owners and workers see."""

from __future__ import annotations

import pytest

from orders import claimed, found, order, rendered, sign, submitted
from postgres import Postgres
from wan_runtime.rendering.order import Advance, Problem, Stage, State
from wan_runtime.serving.queue.errors import AfterUnknown, KeyReused, OwnerFull, QueueFull
from wan_runtime.serving.queue.queue import Queue


async def test_a_job_goes_through_its_states(queue: Queue) -> None:
    job = await submitted(queue)
    assert job.state is State.QUEUED
    got = await claimed(queue)
    assert (got.id, got.state, got.attempts) == (job.id, State.RUNNING, 1)
    assert await queue.claim("w2", 30) is None
    advance = Advance(stage=Stage.DENOISING, step=1, steps=4)
    assert not (await queue.heartbeat(job.id, "w1", advance, 30)).lost
    running = await queue.get(job.id, "ann")
    assert running is not None
    assert running.advance == advance
    assert await queue.complete(job.id, "w1", rendered())
    done = await found(queue, job.id)
    assert (done.state, done.rendered) == (State.COMPLETED, rendered())
    assert done.expires_at is not None


async def test_another_owner_sees_and_changes_nothing(queue: Queue) -> None:
    job = await submitted(queue)
    assert await queue.get(job.id, "bob") is None
    assert await queue.cancel(job.id, "bob") is None
    assert await queue.delete(job.id, "bob") is None
    assert (await queue.page("bob", after=None, limit=10, order="asc")).jobs == ()
    assert await queue.get(job.id, "ann") == job


async def test_pages_follow_each_other(queue: Queue) -> None:
    ids = [(await submitted(queue)).id for _ in range(5)]
    page = await queue.page("ann", after=None, limit=2, order="desc")
    assert ([job.id for job in page.jobs], page.has_more) == (ids[:-3:-1], True)
    page = await queue.page("ann", after=ids[3], limit=2, order="desc")
    assert ([job.id for job in page.jobs], page.has_more) == ([ids[2], ids[1]], True)
    page = await queue.page("ann", after=ids[1], limit=3, order="asc")
    assert ([job.id for job in page.jobs], page.has_more) == (ids[2:], False)
    with pytest.raises(AfterUnknown, match="video_none"):
        await queue.page("ann", after="video_none", limit=3, order="asc")


async def test_a_key_makes_one_job(queue: Queue) -> None:
    async def ask(digest: str, owner: str = "ann") -> tuple[str, bool]:
        answer = await queue.submit(
            order(),
            owner=owner,
            predicted_seconds=1,
            limit_seconds=100,
            idempotency_key="k",
            request_digest=digest,
        )
        return answer.job.id, answer.repeated

    first, repeated = await ask("d1")
    assert not repeated
    assert await ask("d1") == (first, True)
    with pytest.raises(KeyReused):
        await ask("d2")
    assert (await ask("d2", "bob"))[0] != first


async def test_limits_refuse_with_the_time_to_wait(queue: Queue) -> None:
    async def ask(seconds: float, owner_limit: int | None = None) -> None:
        await queue.submit(
            order(),
            owner="ann",
            predicted_seconds=seconds,
            limit_seconds=100,
            owner_limit=owner_limit,
        )

    await ask(90)
    with pytest.raises(QueueFull, match="100 s of predicted work may wait") as refused:
        await ask(30)
    assert refused.value.wait_seconds == 20, "no worker is ready: as if one began now"
    with pytest.raises(OwnerFull, match="may have 1 unfinished"):
        await ask(5, owner_limit=1)
    await ask(10, owner_limit=2)


async def test_the_time_to_wait_is_that_of_the_places(queue: Queue) -> None:
    """A worker is busy first, and what it takes next is what it is predicted to take."""
    await queue.alive(sign("w1"))
    for seconds in (50, 40, 30):
        await submitted(queue, seconds=seconds)
    running = await claimed(queue)

    async def refused(owner: str, limit: float, owner_limit: int | None = None) -> float:
        with pytest.raises(QueueFull) as caught:
            await queue.submit(
                order(), owner=owner, predicted_seconds=30, limit_seconds=limit,
                owner_limit=owner_limit,
            )  # fmt: skip
        return caught.value.wait_seconds

    # 70 s wait. For 90 s, the first of them has to begin; for 50 s, the second too.
    assert await refused("bob", 90) == pytest.approx(50, abs=20)
    assert await refused("bob", 50) == pytest.approx(90, abs=20)
    assert await refused("ann", 1e9, 3) == pytest.approx(50, abs=20), "the running one ends"
    assert await queue.complete(running.id, "w1", rendered())
    assert await refused("ann", 1e9, 2) == pytest.approx(40, abs=20), "begun at once"


async def test_cancelling(queue: Queue) -> None:
    job = await submitted(queue)
    cancelled = await queue.cancel(job.id, "ann")
    assert cancelled is not None
    assert cancelled.state is State.CANCELLED
    assert await queue.claim("w1", 30) is None

    job = await submitted(queue)
    await queue.claim("w1", 30)
    asked = await queue.cancel(job.id, "ann")
    assert asked is not None
    assert (asked.state, asked.cancel_requested) == (State.RUNNING, True)
    assert (await queue.heartbeat(job.id, "w1", None, 30)).cancel_requested
    assert await queue.cancelled(job.id, "w1")
    ended = await queue.cancel(job.id, "ann")
    assert ended is not None
    assert ended.state is State.CANCELLED


async def test_failing_tells_why(queue: Queue) -> None:
    job = await submitted(queue)
    await queue.claim("w1", 30)
    problem = Problem(code="out_of_memory", message="81 frames need 90 GiB")
    assert await queue.fail(job.id, "w1", problem)
    failed = await found(queue, job.id)
    assert (failed.state, failed.problem) == (State.FAILED, problem)


async def test_handing_back_counts_attempts_or_does_not(queue: Queue) -> None:
    job = await submitted(queue)
    for _ in range(5):
        assert await queue.claim("w1", 30)
        await queue.hand_back(job.id, "w1", "drained", counts=False)
    for attempt in (1, 2, 3, 4, 5):
        assert (await claimed(queue)).attempts == attempt
        await queue.hand_back(job.id, "w1", "rank 1 died", counts=True)
    failed = await found(queue, job.id)
    assert failed.problem is not None
    assert failed.problem.code == "worker_lost"
    assert "rank 1 died" in failed.problem.message


async def test_a_handed_back_job_is_before_younger_ones(queue: Queue) -> None:
    first, _ = await submitted(queue), await submitted(queue)
    await queue.claim("w1", 30)
    await queue.hand_back(first.id, "w1", "drained", counts=False)
    assert (await claimed(queue, "w2")).id == first.id


async def test_the_same_calls_again_get_the_same_answers(queue: Queue) -> None:
    """A worker that did not hear the answer asks again."""
    job = await submitted(queue)
    await claimed(queue)
    assert [await queue.complete(job.id, "w1", rendered()) for _ in range(2)] == [True, True]
    assert not await queue.fail(job.id, "w1", Problem(code="c", message="m"))
    assert not await queue.complete(job.id, "w2", rendered())
    assert (await found(queue, job.id)).state is State.COMPLETED


async def test_prompts_may_hold_any_character(queue: Queue) -> None:
    odd = "a\x00b \U0001f9da \\u0000 '; drop table jobs; --"
    answer = await queue.submit(order(odd), owner="ann", predicted_seconds=1, limit_seconds=10)
    assert (await found(queue, answer.job.id)).order.prompt == odd
    assert (await claimed(queue)).order.prompt == odd


async def test_services_share_a_database_and_nothing_else(queue: Queue, postgres: Postgres) -> None:
    job = await submitted(queue)
    other = await Queue.open(postgres.url(), "team/other")
    try:
        assert await other.get(job.id) is None
        assert await other.claim("w1", 30) is None
        assert (await other.heartbeat(job.id, "w1", None, 30)).lost
        assert (await other.report()).queue.queued == 0
    finally:
        await other.close()
