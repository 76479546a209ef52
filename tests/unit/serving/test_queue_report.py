"""What the operator learns of a service."""

from __future__ import annotations

import pytest

from orders import claimed, rendered, sign, sql, submitted
from postgres import Postgres
from wan_runtime.contract.report import AdapterNote, QueueReport, Startup, TrackReport, WorkerInfo
from wan_runtime.contract.rollout import Rollout, Track
from wan_runtime.rendering.order import Advance, Problem, Rendered, Stage
from wan_runtime.serving.queue.queue import Queue


async def test_an_idle_queue(queue: Queue) -> None:
    report = await queue.report()
    assert report.queue == QueueReport(
        queued=0,
        running=0,
        predicted_seconds=0,
        remaining_seconds=0,
        oldest_seconds=0,
        last_activity_seconds=None,
    )
    assert (report.workers, report.rollout) == ((), Rollout())
    assert report.tracks == {Track.STABLE: TrackReport(completed=0, failed=0)}


async def test_what_waits_and_runs(queue: Queue, service: str, postgres: Postgres) -> None:
    for owner, seconds in (("ann", 10.0), ("ann", 20.0), ("bob", 40.0), ("cyd", 80.0)):
        await submitted(queue, owner, seconds)
    first, second = await claimed(queue, "w1"), await claimed(queue, "w2")
    await sql(
        postgres.url(),
        """
        update jobs set created_at = created_at - interval '1 hour',
            started_at = started_at - interval '15 s' where service = $1
        """,
        service,
    )
    told_eta = Advance(stage=Stage.DENOISING, step=1, steps=4, eta_seconds=7)
    await queue.heartbeat(first.id, "w1", told_eta, 30)
    found = (await queue.report()).queue
    assert (found.queued, found.running, found.predicted_seconds) == (2, 2, 100)
    assert second.predicted_seconds == 40
    assert found.remaining_seconds == pytest.approx(7 + 25, abs=20)
    assert found.oldest_seconds == pytest.approx(3600, abs=30)
    # The claims were a moment ago.
    assert found.last_activity_seconds == pytest.approx(0, abs=30)


async def test_activity_is_remembered(queue: Queue, service: str, postgres: Postgres) -> None:
    async def time_passes() -> float:
        """Since the last activity, ten minutes later."""
        for statement in (
            "update jobs set created_at = created_at - interval '10 minutes', "
            "completed_at = completed_at - interval '10 minutes' where service = $1",
            "update owners set spent_at = spent_at - interval '10 minutes' where service = $1",
        ):
            await sql(postgres.url(), statement, service)
        seconds = (await queue.report()).queue.last_activity_seconds
        assert seconds is not None
        return seconds

    job = await submitted(queue)
    assert await time_passes() == pytest.approx(600, abs=60)
    await queue.cancel(job.id, "ann")
    assert await time_passes() == pytest.approx(600, abs=60)
    job = await submitted(queue)
    await claimed(queue)
    await time_passes()
    await queue.complete(job.id, "w1", rendered())
    await queue.delete(job.id, "ann")
    assert await time_passes() == pytest.approx(600, abs=60)
    assert await time_passes() == pytest.approx(1200, abs=60)


async def test_workers_as_they_tell(queue: Queue, service: str, postgres: Postgres) -> None:
    full = WorkerInfo(
        name="b-1",
        pod="b",
        revision="5f",
        ready=True,
        busy=True,
        ranks=4,
        startup=Startup(load_seconds=60, compile_seconds=5, warm_up_seconds=20),
        seconds_per_clip={"1280x720": 118.5},
        peak_gib=71.5,
        adapters=("fairy",),
        adapter_notes=(AdapterNote(name="fairy", ready=True, message="a part is left out"),),
        attention="FlashAttention3",
        device="NVIDIA H100 80GB HBM3",
    )
    lost = WorkerInfo(name="c-1", ready=False, ranks=1, problem="rank 0 was killed by signal 9")
    for info in (full, lost, sign("a-1"), sign("gone")):
        await queue.alive(info)
    await queue.gone("gone")
    await sql(
        postgres.url(),
        "update workers set info = null where service = $1 and name = 'a-1'",
        service,
    )
    older, second, third = (await queue.report()).workers
    assert (older.name, older.ready, older.ranks) == ("a-1", True, 0)
    assert WorkerInfo(**second.model_dump(exclude={"seen_seconds"})) == full
    assert WorkerInfo(**third.model_dump(exclude={"seen_seconds"})) == lost
    assert 0 <= second.seen_seconds < 30
    await sql(
        postgres.url(),
        "update workers set seen_at = now() - interval '2 days' where service = $1",
        service,
    )
    assert (await queue.report()).workers == ()
    await queue.expire()
    assert await sql(postgres.url(), "select * from workers where service = $1", service) == []


async def test_tracks_are_judged_by_who_rendered(
    queue: Queue, service: str, postgres: Postgres
) -> None:
    def took(seconds: float) -> Rendered:
        spent = {Stage.ENCODING_INPUT: 1.0, Stage.DENOISING: seconds - 1, Stage.WRITING: 500.0}
        return rendered().model_copy(update={"seconds": spent})

    async def ended(revision: str, *ends: float | str) -> None:
        for end in ends:
            await submitted(queue)
            job = await queue.claim("w1", 30, revision)
            assert job is not None
            if isinstance(end, float):
                await queue.complete(job.id, "w1", took(end))
            else:
                await queue.fail(job.id, "w1", Problem(code=end, message="\0"))

    await ended("5f", 100.0, 1000.0)
    await sql(
        postgres.url(),
        "update jobs set completed_at = completed_at - interval '2 hours' where service = $1",
        service,
    )
    await ended("5f", 10.0, 20.0, 30.0, "out_of_memory", "invalid_image", "moderation_refused")
    await ended("6a", 40.0, "internal", "worker_lost")
    cancelled = await submitted(queue)
    await queue.claim("w1", 30, "6a")
    await queue.cancelled(cancelled.id, "w1")
    await queue.roll_out(Rollout(canary="6a", weight=10))
    report = await queue.report()
    assert report.rollout == Rollout(canary="6a", weight=10)
    assert report.tracks == {
        Track.STABLE: TrackReport(completed=3, failed=1, median_seconds=20, p95_seconds=29),
        Track.CANARY: TrackReport(completed=1, failed=2, median_seconds=40, p95_seconds=40),
    }
    await queue.roll_out(Rollout(canary="7b", weight=10))
    tracks = (await queue.report()).tracks
    assert (tracks[Track.CANARY].completed, tracks[Track.STABLE].completed) == (0, 4)
    await queue.roll_out(Rollout())
    assert set((await queue.report()).tracks) == {Track.STABLE}
