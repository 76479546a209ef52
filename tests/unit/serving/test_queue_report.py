"""What the operator learns of a service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import pytest

from orders import claimed, rendered, sign, sql, submitted
from postgres import Postgres
from wan_runtime.contract.report import (
    AdapterNote,
    QueueReport,
    Startup,
    TrackReport,
    WorkerInfo,
)
from wan_runtime.contract.rollout import Rollout, Track
from wan_runtime.rendering.order import Advance, Problem, Stage
from wan_runtime.serving.queue import reports
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


async def ended(queue: Queue, revision: str, *ends: float | str) -> None:
    """Videos of a revision: seconds of one that completed, or why one failed."""
    for end in ends:
        await submitted(queue)
        job = await queue.claim("w1", 30, revision)
        assert job is not None
        if isinstance(end, float):
            spent = {Stage.ENCODING_INPUT: 1.0, Stage.DENOISING: end - 1, Stage.WRITING: 500.0}
            await queue.complete(job.id, "w1", rendered().model_copy(update={"seconds": spent}))
        else:
            await queue.fail(job.id, "w1", Problem(code=end, message="\0"))


@pytest.fixture
def later(service: str, postgres: Postgres) -> Callable[[float], Awaitable[object]]:
    """Lets hours pass for what has ended."""
    statement = (
        "update jobs set completed_at = completed_at - make_interval(secs => $2) where service = $1"
    )
    return lambda hours: sql(postgres.url(), statement, service, hours * 3600)


async def test_tracks_are_judged_by_who_rendered(
    queue: Queue, later: Callable[[float], Awaitable[object]]
) -> None:
    await ended(queue, "5f", 100.0, 1000.0)
    await later(2)
    await ended(
        queue, "5f", 10.0, 20.0, 30.0, "out_of_memory", "invalid_image", "moderation_refused"
    )
    await ended(queue, "6a", 40.0, "internal", "worker_lost")
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


def begun(now: datetime, hours: float, number: int = 0) -> Rollout:
    """The canary of revision 6a, for so many hours."""
    since = now - timedelta(hours=hours)
    number = number or int(since.timestamp())
    return Rollout(canary="6a", weight=10, number=number, begun=since)


async def counted(queue: Queue, mounted: Rollout | None) -> tuple[int, int]:
    """Videos of the canary, and of the others."""
    tracks = (await queue.report(mounted)).tracks
    return tracks[Track.CANARY].completed, tracks[Track.STABLE].completed


async def test_a_canary_is_judged_by_all_since_it_began(
    queue: Queue, later: Callable[[float], Awaitable[object]]
) -> None:
    """Of videos of 13 minutes one worker makes less than five an hour. The others are judged by
    what they made meanwhile, and at least by the last hour."""
    for revision in ("6a", "5f"):  # an earlier rollout of the same revision
        await ended(queue, revision, 1.0)
    await later(3)
    for _ in range(3):
        await ended(queue, "6a", 766.0, 766.0)
        await ended(queue, "5f", 700.0, 700.0, 700.0)
        await later(1.5)
    now = (await queue.report()).time
    rollout = begun(now, 5)
    await queue.roll_out(rollout)
    report = await queue.report(rollout)
    assert report.rollout == rollout
    assert report.tracks == {
        Track.CANARY: TrackReport(completed=6, failed=0, median_seconds=766, p95_seconds=766),
        Track.STABLE: TrackReport(completed=9, failed=0, median_seconds=700, p95_seconds=700),
    }
    await queue.roll_out(Rollout(number=rollout.number + 1))
    for revision in ("6a", "5f"):
        await ended(queue, revision, 700.0)
    await later(0.5)
    rollout = begun(now, 0.25)
    await queue.roll_out(rollout)
    assert await counted(queue, rollout) == (0, 1)


async def test_a_share_that_changed_counts_from_its_change_where_the_mount_is_behind(
    queue: Queue, later: Callable[[float], Awaitable[object]]
) -> None:
    """The database has the time of its number alone."""
    for hours in (2.0, 1.0):
        await ended(queue, "6a", 766.0)
        await ended(queue, "5f", 700.0)
        await later(hours)
    now = (await queue.report()).time
    begins = begun(now, 5)
    changed = begun(now, 5, number=int((now - timedelta(hours=2)).timestamp()))
    await queue.roll_out(changed)
    for mounted in (None, Rollout(), begins, Rollout(canary="5f", weight=10, begun=begins.begun)):
        assert await counted(queue, mounted) == (1, 1), mounted
        assert (await queue.report(mounted)).rollout.begun is None
    assert await counted(queue, changed) == (2, 2)
    # A clock that is ahead.
    await queue.roll_out(begun(now, -10))
    assert await counted(queue, None) == (0, 0)


async def test_a_long_canary_is_judged_by_a_week_and_by_no_more_than_it_may_want(
    queue: Queue,
    later: Callable[[float], Awaitable[object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for seconds, hours in ((9.0, 24.0), (5.0, 6 * 24.0), (6.0, 0.0), (7.0, 0.0)):
        for revision in ("6a", "5f"):
            await ended(queue, revision, seconds)
        await later(hours)
    rollout = begun((await queue.report()).time, 365 * 24)
    await queue.roll_out(rollout)
    assert await counted(queue, rollout) == (3, 3)
    monkeypatch.setattr(reports, "MOST_VIDEOS", 2)
    tracks = (await queue.report(rollout)).tracks
    newest = TrackReport(completed=2, failed=0, median_seconds=6.5, p95_seconds=6.95)
    assert tracks == {Track.CANARY: newest, Track.STABLE: newest}
