"""A canary beside a stable revision: who gets which jobs, and that none is left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orders import order, rendered, sign, sql, submitted
from postgres import Postgres
from wan_runtime.contract.rollout import ROLLOUT_FILE, Rollout
from wan_runtime.rendering.order import Job
from wan_runtime.serving.gateway.rollouts import Rollouts
from wan_runtime.serving.queue import queue as queue_module
from wan_runtime.serving.queue.places import Place
from wan_runtime.serving.queue.queue import Queue

CANARY = Rollout(canary="6a", weight=100)
NONE_YET = Rollout(canary="6a", weight=0)


async def tracks(postgres: Postgres, service: str) -> list[str]:
    statement = "select track from jobs where service = $1 order by number"
    return [row["track"] for row in await sql(postgres.url(), statement, service)]


async def mixed(queue: Queue, count: int = 6) -> tuple[list[Job], list[Job]]:
    """Stable and canary jobs by turns; the rollout then names the canary."""
    found: tuple[list[Job], list[Job]] = ([], [])
    for number in range(count):
        await queue.roll_out(CANARY if number % 2 else NONE_YET)
        found[number % 2].append(await submitted(queue))
    return found


async def claims(queue: Queue, revision: str) -> list[str]:
    """Ids of all that workers of a revision can get, in order."""
    found = []
    while (job := await queue.claim(f"w-{revision}", 30, revision)) is not None:
        found.append(job.id)
    return found


async def test_each_revision_gets_its_own_in_order(queue: Queue) -> None:
    stable, canary = await mixed(queue)
    assert await claims(queue, "6a") == [job.id for job in canary]
    assert await claims(queue, "5f") == [job.id for job in stable]


async def test_a_withdrawn_canary_leaves_nothing_behind(queue: Queue) -> None:
    stable, canary = await mixed(queue)
    running = await queue.claim("w-6a", 30, "6a")
    assert running is not None
    await queue.roll_out(Rollout())
    await queue.hand_back(running.id, "w-6a", "drained", counts=False)
    # In the one order again: by age.
    both = [job.id for pair in zip(stable, canary, strict=True) for job in pair]
    assert await claims(queue, "5f") == both


async def test_a_withdrawn_canarys_workers_help_until_they_end(queue: Queue) -> None:
    stable, canary = await mixed(queue)
    await queue.roll_out(Rollout())
    assert len(await claims(queue, "6a")) == len(stable) + len(canary)


async def test_the_next_canary_takes_over_what_the_last_one_left(queue: Queue) -> None:
    _, canary = await mixed(queue)
    await queue.roll_out(Rollout(canary="7b", weight=5))
    assert await claims(queue, "7b") == [job.id for job in canary]
    assert len(await claims(queue, "6a")) == 3, "stable from now on"


async def test_nobody_starves_on_either_track(queue: Queue) -> None:
    """A long line of one owner delays another by one job, within each track."""
    for rollout in (NONE_YET, CANARY):
        await queue.roll_out(rollout)
        for _ in range(4):
            await submitted(queue, "ann")
        await submitted(queue, "bob")
    for revision in ("5f", "6a"):
        owners = []
        for _ in range(5):
            job = await queue.claim("w1", 30, revision)
            assert job is not None
            owners.append(job.owner)
            assert await queue.complete(job.id, "w1", rendered())
        assert owners.index("bob") <= 1, revision


async def test_priority_counts_within_a_track(queue: Queue) -> None:
    await queue.roll_out(CANARY)
    low, high = await submitted(queue), await submitted(queue, priority=5)
    assert await claims(queue, "6a") == [high.id, low.id]


async def test_a_key_stays_on_its_track(queue: Queue, service: str, postgres: Postgres) -> None:
    async def submit(key: str) -> None:
        await queue.submit(
            order(), owner="ann", predicted_seconds=1, limit_seconds=1e9, idempotency_key=key
        )

    rollout = Rollout(canary="6a", weight=50)
    await queue.roll_out(rollout)
    keys = [f"key-{number}" for number in range(20)]
    for key in keys:
        await submit(key)
    found = await tracks(postgres, service)
    assert found == [rollout.drawn(f"ann/{key}").value for key in keys]
    assert set(found) == {"stable", "canary"}
    await sql(postgres.url(), "delete from idempotency_keys where service = $1", service)
    for key in keys:  # a day later
        await submit(key)
    assert await tracks(postgres, service) == [*found, *found]


async def test_jobs_without_a_key_are_drawn_by_their_ids(
    queue: Queue, service: str, postgres: Postgres
) -> None:
    rollout = Rollout(canary="6a", weight=50)
    await queue.roll_out(rollout)
    jobs = [await submitted(queue) for _ in range(20)]
    assert await tracks(postgres, service) == [rollout.drawn(job.id).value for job in jobs]


async def test_claims_while_the_rollout_changes_lose_none(queue: Queue) -> None:
    jobs: list[str] = []
    got: list[str] = []

    async def worker(name: str, revision: str) -> None:
        while len(got) < 60:
            job = await queue.claim(name, 30, revision)
            if job is None:
                await queue.wait(0.05)
                continue
            assert await queue.complete(job.id, name, rendered())
            got.append(job.id)

    async def change() -> None:
        for number in range(60):
            await queue.roll_out([CANARY, Rollout(), NONE_YET][number % 3])
            jobs.append((await submitted(queue)).id)
        await queue.roll_out(Rollout())

    async with asyncio.timeout(300):
        await asyncio.gather(change(), worker("w1", "5f"), worker("w2", "6a"))
    assert sorted(got) == sorted(jobs)


async def test_starts_are_predicted_over_the_tracks_own_workers(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "PLACES_SECONDS", -1.0)
    stable, canary = await mixed(queue, 4)
    await queue.alive(sign("w1", revision="5f"))
    assert await queue.place(stable[1].id) == Place(2, 60)
    assert await queue.place(canary[1].id) == Place(2, None)
    await queue.alive(sign("w2", revision="6a"))
    assert await queue.place(canary[0].id) == Place(1, 0)
    assert await queue.place_of_new("bob", seconds=1) == Place(2, 60)
    await queue.roll_out(Rollout())
    assert await queue.place(canary[1].id) == Place(4, 60)


async def test_an_old_mount_takes_nothing_back(queue: Queue, tmp_path: Path) -> None:
    """A gateway may start on a mount that the kubelet has not refreshed yet."""
    newer = Rollout(canary="6a", weight=10, number=7)
    assert await queue.roll_out(newer)
    late = Rollouts(queue, tmp_path)
    await late.read()  # no file yet
    for old in (Rollout(canary="5f", weight=100, number=6), newer):
        (tmp_path / ROLLOUT_FILE).write_text(old.model_dump_json(by_alias=True))
        await late.read()
        assert (await queue.report()).rollout == newer
    last = Rollout(number=8)
    (tmp_path / ROLLOUT_FILE).write_text(last.model_dump_json(by_alias=True))
    await late.read()
    assert (await queue.report()).rollout == last
    assert not await queue.roll_out(newer)
