"""A store that goes away: what is made is kept, and no job is to blame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from wan_runtime.rendering.order import Job, Stage, State
from wan_runtime.serving.worker import production
from worker_service import Service, Working, at_step

pytest_plugins = ["worker_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """One that no other test needs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        patch.setattr(production, "STORE_PAUSE", 0.1)
        with ObjectStore(tmp_path_factory.mktemp("minio")) as running:
            yield running


def is_kept(job: Job) -> bool:
    """Made, and waiting for the store."""
    assert job.state is State.RUNNING, job
    advance = job.advance
    return advance is not None and (advance.stage, advance.eta_seconds) == (Stage.WRITING, None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def working(video_service: Service) -> AsyncIterator[Working]:
    async with video_service.worker() as running:
        yield running


async def test_a_store_that_is_away_costs_no_video(
    video_service: Service, working: Working, objects: ObjectStore
) -> None:
    first, second, third = [await video_service.submit(steps=60) for _ in range(3)]
    await video_service.until(first, at_step)
    objects.kill()
    made = await video_service.until(first, is_kept)
    (told,) = await video_service.workers(lambda each: bool(each.problem))
    assert not told.ready
    assert "did not answer for 1 s" in str(told.problem)
    assert not working.worker.status.takes_jobs
    # What was claimed meanwhile is back in the queue, as if nothing had been.
    waiting = await video_service.until(second, lambda now: now.state is State.QUEUED)
    assert waiting.attempts == 0
    await video_service.queue.cancel(third.id, "ann")
    await asyncio.to_thread(objects.start)
    done = await video_service.completed(first)
    assert (done.attempts, done.started_at) == (1, made.started_at), "made once"
    assert len(video_service.video(done)) > 0
    assert (await video_service.completed(second)).attempts == 1
    assert working.worker.status.takes_jobs


async def test_a_kept_video_that_nobody_wants_is_given_up(
    video_service: Service, working: Working, objects: ObjectStore
) -> None:
    job = await video_service.until(await video_service.submit(steps=60), at_step)
    objects.kill()
    await video_service.until(job, is_kept)
    await video_service.queue.cancel(job.id, "ann")
    assert (await video_service.end(job)).state is State.CANCELLED
    await asyncio.to_thread(objects.start)
