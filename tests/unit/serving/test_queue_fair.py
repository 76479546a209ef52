"""Who comes next, and when that is predicted to be."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from orders import claimed, found, rendered, sign, sql, submitted
from postgres import Postgres
from wan_runtime.rendering.order import Advance, Stage
from wan_runtime.serving.queue import places as places_module
from wan_runtime.serving.queue import queue as queue_module
from wan_runtime.serving.queue.places import Place, Waiting, places
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.queue.rows import HALF_LIFE_SECONDS


async def test_a_long_line_of_one_owner_delays_another_by_one_job(queue: Queue) -> None:
    for _ in range(5):
        await submitted(queue, "ann")
    await claimed(queue)
    for _ in range(2):
        await submitted(queue, "bob")
    assert [(await claimed(queue)).owner for _ in range(6)] == [
        *("bob", "ann", "bob", "ann", "ann", "ann")
    ]


async def test_seconds_count_not_jobs(queue: Queue) -> None:
    for _ in range(12):
        await submitted(queue, "ann", seconds=30)
        await submitted(queue, "bob", seconds=90)
    given = Counter([(await claimed(queue)).owner for _ in range(12)])
    assert given == {"ann": 9, "bob": 3}


async def test_priority_comes_before_fairness(queue: Queue) -> None:
    await submitted(queue, "bob")
    low, high = await submitted(queue, "ann"), await submitted(queue, "ann", priority=5)
    assert (await claimed(queue)).id == high.id
    assert (await claimed(queue)).owner == "bob"
    assert (await claimed(queue)).id == low.id


async def test_what_an_owner_got_long_ago_is_forgiven(
    queue: Queue, service: str, postgres: Postgres
) -> None:
    async def hours_pass(hours: int) -> None:
        await sql(
            postgres.url(),
            "update owners set spent_at = spent_at - make_interval(hours => $2) where service = $1",
            service,
            hours,
        )

    await submitted(queue, "ann", seconds=800)
    await claimed(queue)
    await hours_pass(3)
    await submitted(queue, "bob", seconds=110)
    await claimed(queue)
    await submitted(queue, "bob")
    await submitted(queue, "ann")
    # 800 s after three half-lives are 100 s.
    assert (await claimed(queue)).owner == "ann"
    await hours_pass(24 * 365)
    assert (await claimed(queue)).owner == "bob"


async def test_work_not_done_is_not_counted(queue: Queue) -> None:
    """Neither what was handed back nor the rest of what was cancelled."""
    first = await submitted(queue, "ann", seconds=1000)
    await claimed(queue)
    await queue.hand_back(first.id, "w1", "drained", counts=False)
    await claimed(queue)
    await queue.cancelled(first.id, "w1")
    await submitted(queue, "bob", seconds=50)
    await claimed(queue)
    await submitted(queue, "bob")
    await submitted(queue, "ann")
    assert (await claimed(queue)).owner == "ann"


@pytest.mark.parametrize("seed", range(6))
async def test_places_are_the_order_of_the_claims(
    queue: Queue, service: str, postgres: Postgres, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker after the other job, or one for each job at once: a minute apart, since among
    claims that follow each other at once the longer of two pauses decides."""
    pause = 60.0
    chance = random.Random(seed)
    one_worker = bool(seed % 2)
    if not one_worker:
        monkeypatch.setattr(places_module, "TIE_SECONDS", pause)
    for worker in range(1 if one_worker else 30):
        await queue.alive(sign(f"w{worker}"))
    ids = []
    for _ in range(30):
        job = await submitted(
            queue,
            chance.choice(["ann", "bob", "cyd", "dee"]),
            chance.choice([10.0, 60.0, 60.0, 600.0]),
            priority=chance.choice([0, 0, 0, 2]),
        )
        ids.append(job.id)
    places = {job_id: await queue.place(job_id) for job_id in ids}
    assert sorted(place.position for place in places.values()) == list(range(1, 31))
    for position in range(1, 31):
        job = await claimed(queue)
        assert places[job.id].position == position
        columns = "owner, spent_seconds"
        spent = await sql(
            postgres.url(), f"select {columns} from owners where service = $1", service
        )
        if one_worker:
            assert await queue.complete(job.id, "w1", rendered())
        # As predicted, whatever the processor did meanwhile.
        await sql(
            postgres.url(),
            "update owners set spent_at = now(), spent_seconds = given.seconds * $4 "
            "from unnest($2::text[], $3::float8[]) as given (owner, seconds) "
            "where service = $1 and owners.owner = given.owner",
            service,
            *zip(*spent, strict=True),
            0.5 ** ((job.predicted_seconds if one_worker else pause) / HALF_LIFE_SECONDS),
        )


async def test_the_start_is_predicted_over_live_workers(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "PLACES_SECONDS", -1.0)
    running, first, second = [await submitted(queue, seconds=100) for _ in range(3)]
    assert await queue.place(second.id) == Place(3, None)
    await queue.alive(sign("w1"))
    await queue.alive(sign("w2", ready=False))
    assert await queue.place(second.id) == Place(3, 200)
    await claimed(queue)
    place = await queue.place(first.id)
    assert place.position == 1
    assert place.starts_in_seconds == pytest.approx(100, abs=40)
    await queue.alive(sign("w2"))
    assert await queue.place(first.id) == Place(1, 0)
    await queue.gone("w2")
    # Writing holds no GPU: the next one can start.
    await queue.heartbeat(running.id, "w1", Advance(stage=Stage.WRITING), 30)
    assert await queue.place(first.id) == Place(1, 0)
    assert await queue.place(running.id) == Place(0, 0)
    assert (await found(queue, running.id)).advance == Advance(stage=Stage.WRITING)
    assert await queue.complete(running.id, "w1", rendered())


def test_a_replay_fills_the_worker_that_is_free_first() -> None:
    queued = [Waiting(str(number), "ann", 0, number, 10.0) for number in range(4)]
    found = places(queued, {}, [0.0, 5.0])
    assert [found[each.id].starts_in_seconds for each in queued] == [0, 5, 10, 15]
