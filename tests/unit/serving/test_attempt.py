"""A job in a worker's hands, without the worker."""

from __future__ import annotations

import asyncio

import pytest

from wan_runtime.serving.worker.attempt import Attempt, Timing
from worker_service import Service

pytest_plugins = ["worker_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("remove", [False, True], ids=["cancelled", "deleted"])
async def test_that_a_video_is_unwanted_is_heard_between_heartbeats(
    video_service: Service, remove: bool
) -> None:
    queue = video_service.queue
    job = await video_service.submit()
    assert await queue.claim("w", 600) is not None
    heard = asyncio.Event()
    # So rare that within this test no heartbeat but the first could tell.
    attempt = Attempt(queue, "w", job, Timing(lease=600, news=500, beat=550))
    attempt.on_unwanted = heard.set
    async with attempt:
        async for now in queue.watch(job.id):
            if now.advance is not None:  # by the first heartbeat
                break
        await (queue.delete if remove else queue.cancel)(job.id, "ann")
        async with asyncio.timeout(60):
            await heard.wait()
    assert attempt.unwanted
