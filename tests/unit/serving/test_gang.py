"""Workers of four and of eight ranks: what they make, a LoRA that changes between videos, a video
that is cancelled, and a rank that is killed in the middle of one."""

from __future__ import annotations

import os
import signal
import warnings

import pytest

from wan_runtime.contract.service import ParallelSpec
from wan_runtime.rendering.order import State
from wan_runtime.serving.worker.processes import Patience
from worker_service import LONG, Service, at_step

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import yunchang  # noqa: F401  once, before ranks are forked

pytest_plugins = ["worker_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

PLAIN = {"seed": 3, "guidance": 1.0, "guidance_low": 1.0}
"""Without guidance: all ranks share the tokens."""


@pytest.mark.parametrize(
    ("ranks", "parallel"), [(4, None), (8, ParallelSpec(ring=2))], ids=["4", "8, rings of 2"]
)
async def test_ranks_are_lost_and_nothing_else(
    ranks: int, parallel: ParallelSpec | None, video_service: Service
) -> None:
    """A Tiny model's 4 heads are shared by at most 4, so 8 are rings of them."""
    service = video_service.changed(parallel=parallel)
    async with service.worker(ranks=ranks, patience=Patience(floor_seconds=60)) as running:
        before = running.pids
        assert len(before) == ranks
        guided, plain = await service.rendered(seed=3), await service.rendered(**PLAIN)
        changed = await service.completed(await service.submit("good", seed=3))
        assert service.video(changed) != guided
        assert await service.rendered(**PLAIN) == plain, "the LoRA is gone"
        assert running.pids == before

        job = await service.until(await service.submit(steps=LONG), at_step)
        os.kill(before[-1], signal.SIGKILL)
        job = await service.until(job, lambda now: now.state is State.QUEUED)
        assert job.attempts == 1
        job = await service.until(job, lambda now: now.attempts == 2 and at_step(now))
        after = running.pids
        assert not set(before) & set(after), "the others waited for it in a collective"
        await service.queue.cancel(job.id, "ann")
        assert (await service.end(job)).state is State.CANCELLED

        assert await service.rendered(seed=3) == guided
        assert running.pids == after, "a cancelled video ends alone"
