"""A worker with real ranks: what becomes of orders, and what faults cost."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import AsyncIterator

import av
import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from ml_runs import FRAMES, HEIGHT, WIDTH
from wan_runtime.contract.service import AdapterUse
from wan_runtime.contract.steps import Expert
from wan_runtime.rendering.order import Stage, State
from worker_service import LONG, Service, Working, at_step, starved

pytest_plugins = ["worker_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def working(video_service: Service) -> AsyncIterator[Working]:
    async with video_service.worker() as running:
        yield running


async def test_an_order_becomes_files(video_service: Service, working: Working) -> None:
    job = await video_service.completed(await video_service.submit(fps=12, prompt="a secret wish"))
    rendered = job.rendered
    assert rendered is not None
    assert set(rendered.seconds) == set(Stage)
    prefix = f"{video_service.spec.prefix}/videos/{job.id}"
    assert rendered.files == {
        "video": f"{prefix}/video.mp4",
        "thumbnail": f"{prefix}/thumbnail.webp",
        "spritesheet": f"{prefix}/spritesheet.jpg",
        "first_frame": f"{prefix}/first-frame.png",
    }
    data = video_service.video(job)
    assert len(data) == rendered.bytes
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (WIDTH, HEIGHT, 12)
        assert sum(1 for _ in container.decode(stream)) == FRAMES
        comment = json.loads(container.metadata["comment"])
        assert container.metadata["description"] == "AI-generated content"
    assert comment["seed"] == job.order.seed
    assert comment["aiGenerated"] is True
    assert comment["profile"] == "Lossless"
    assert comment["gpus"] == 1
    assert "secret" not in str(comment)
    for variant, size in (
        ("thumbnail", (64, 48)),
        ("spritesheet", (320, 96)),
        ("first_frame", (64, 48)),
    ):
        with Image.open(
            io.BytesIO(video_service.store.get_bytes(rendered.files[variant]))
        ) as picture:
            assert picture.size == size
    again = await video_service.completed(
        await video_service.submit(fps=12, prompt="a secret wish")
    )
    assert video_service.video(again) == data


async def test_a_visible_mark_is_in_the_corner(video_service: Service, working: Working) -> None:
    plain, marked = [await video_service.rendered(visible_mark=mark) for mark in (False, True)]

    def first(data: bytes) -> np.ndarray:
        with av.open(io.BytesIO(data)) as container:
            return next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)

    difference = np.abs(first(plain) - first(marked)).mean(axis=2)
    assert difference[:16].mean() < 3 < 10 < difference[-12:, -24:].mean()


async def test_an_adapter_for_one_request(video_service: Service, working: Working) -> None:
    before = await video_service.rendered()
    with_lora = await video_service.completed(await video_service.submit("good"))
    after = await video_service.completed(await video_service.submit())
    assert video_service.video(with_lora) != before == video_service.video(after)
    assert with_lora.rendered is not None
    assert after.rendered is not None
    assert with_lora.rendered.weights != after.rendered.weights


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (AdapterUse(name="good", expert=Expert.LOW_NOISE), "has no such expert"),
        (AdapterUse(name="withdrawn"), "'withdrawn' is not served here; there are: "),
    ],
)
async def test_an_adapter_that_is_not_there_fails_its_job_alone(
    adapter: AdapterUse, message: str, video_service: Service, working: Working
) -> None:
    pids = working.pids
    job = await video_service.end(await video_service.submit(adapter))
    assert job.problem is not None
    assert (job.state, job.problem.code) == (State.FAILED, "invalid_request")
    assert message in job.problem.message
    await video_service.completed(await video_service.submit())
    assert working.pids == pids


async def test_a_cancelled_video_ends_at_the_next_step(
    video_service: Service, working: Working
) -> None:
    job = await video_service.until(await video_service.submit(steps=LONG), at_step)
    await video_service.queue.cancel(job.id, "ann")
    ended = await video_service.end(job)
    assert ended.state is State.CANCELLED
    assert ended.advance is not None
    assert ended.advance.step < LONG / 2
    await video_service.completed(await video_service.submit())


async def test_memory_that_runs_out_fails_the_job_with_advice(
    video_service: Service, working: Working
) -> None:
    (pid,) = working.pids
    with starved(pid):
        job = await video_service.end(await video_service.submit(frames=1025))
    assert job.problem is not None
    assert job.problem.code == "out_of_memory"
    assert "fewer frames or a smaller size" in job.problem.message
    await video_service.completed(await video_service.submit())
    assert working.pids == [pid]


async def test_the_next_video_begins_while_the_last_is_written(
    video_service: Service, working: Working
) -> None:
    jobs = [await video_service.submit(seed=seed) for seed in (1, 2)]
    first, second = [await video_service.completed(job) for job in jobs]
    assert first.completed_at is not None
    assert second.started_at is not None
    assert second.started_at < first.completed_at


async def test_a_killed_rank_costs_an_attempt(video_service: Service, working: Working) -> None:
    before = working.pids
    job = await video_service.until(await video_service.submit(steps=LONG), at_step)
    os.kill(before[0], signal.SIGKILL)
    handed = await video_service.until(job, lambda now: now.attempts == 2)
    assert handed.state is State.RUNNING
    assert working.pids != before
    await video_service.queue.cancel(job.id, "ann")
    assert (await video_service.end(job)).state is State.CANCELLED
