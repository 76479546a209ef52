"""A worker of two ranks: what they make together, and what happens to one of them alone."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from forked_modules import EXECUTED
from renders import save_odd
from wan_runtime.models.adapters.files import FOLDER
from wan_runtime.process import ranks
from wan_runtime.rendering.order import State
from wan_runtime.serving.worker.processes import Patience
from worker_service import LONG, Service, Working, at_step, starve

pytest_plugins = ["worker_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

ORDERS = (
    {"seed": 3},
    {"seed": 3, "guidance": 1.0, "guidance_low": 1.0},
    {"seed": 3, "profile": "Fast", "steps": 18},
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alone(video_service: Service) -> list[bytes]:
    """Videos of ORDERS by a worker of one rank."""
    async with video_service.worker():
        return [await video_service.rendered(**each) for each in ORDERS]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(video_service: Service, alone: list[bytes]) -> AsyncIterator[Working]:
    """The only worker by now. What its ranks free, they give back to the system: the lack of
    memory is felt by a small video too, and by no fork, which has what its origin has freed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "_execute", EXECUTED)
        patch.setenv("MALLOC_MMAP_THRESHOLD_", str(2**16))
        async with video_service.worker(ranks=2, patience=Patience(floor_seconds=10)) as running:
            yield running


async def test_two_ranks_make_the_same_video_as_one(
    video_service: Service, two: Working, alone: list[bytes]
) -> None:
    assert len(two.pids) == 2
    together = [await video_service.rendered(**each) for each in ORDERS]
    assert [each.replace(b'"gpus":2', b'"gpus":1') for each in together] == alone
    assert all(b'"gpus":2' in each for each in together), "the file names their number"
    job = await video_service.until(await video_service.submit(steps=LONG), at_step)
    await video_service.queue.cancel(job.id, "ann")
    assert (await video_service.end(job)).state is State.CANCELLED


async def test_one_rank_alone_finds_an_adapter_odd(video_service: Service, two: Working) -> None:
    """The other waits for it in a collective. Rank 0 has read the file, as it checked it."""
    (file,) = (video_service.folder / "work-2" / FOLDER).glob("*/*.safetensors")
    whole = file.read_bytes()
    save_odd(file)
    pids = two.pids
    odd = await video_service.end(await video_service.submit("good"))
    assert odd.problem is not None
    assert odd.problem.code == "adapter_mismatch"
    assert "adapter good: " in odd.problem.message
    file.write_bytes(whole)
    await video_service.completed(await video_service.submit("good"))
    assert two.pids == pids


async def test_one_rank_alone_has_no_memory(video_service: Service, two: Working) -> None:
    before = two.pids
    starve(before[1])
    full = await video_service.end(await video_service.submit(frames=129))
    assert full.problem is not None
    assert full.problem.code == "out_of_memory"
    assert "fewer frames or a smaller size" in full.problem.message
    await video_service.completed(await video_service.submit())
    assert not set(before) & set(two.pids), "the other was stuck in a collective"


async def test_one_rank_alone_is_stuck(video_service: Service, two: Working) -> None:
    job = await video_service.until(await video_service.submit(steps=LONG), at_step)
    stuck = two.pids
    os.kill(stuck[1], signal.SIGSTOP)
    handed = await video_service.until(job, lambda now: now.state is State.QUEUED)
    assert handed.attempts == 1
    assert not any(map(exists, stuck))
    await video_service.queue.cancel(job.id, "ann")


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
