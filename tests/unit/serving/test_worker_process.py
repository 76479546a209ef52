"""Workers that end: stopped in the middle of a video, killed outright, refused what they need."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forked_modules import ForkedProcess
from ml_runs import HEIGHT, WIDTH
from orders import found, sql
from ports import free_port
from postgres import Postgres
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import ExitClass, ModelSpec
from wan_runtime.contract.report import WorkerInfo
from wan_runtime.rendering.order import State
from worker_service import LONG, Service, at_step

pytest_plugins = ["worker_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGES = ("/healthz", "/readyz", "/metrics", "/info")


async def executed(*arguments: str, env: dict[str, str]) -> asyncio.subprocess.Process:
    """Python with its own imports, and ranks with theirs."""
    return await asyncio.create_subprocess_exec(sys.executable, "-m", *arguments, env=env)


async def forked(*arguments: str, env: dict[str, str]) -> ForkedProcess:
    return ForkedProcess(*arguments, shares="wan_runtime.serving.worker.rank", env=env)


@asynccontextmanager
async def process(
    video_service: Service,
    postgres: Postgres,
    work: Path,
    *options: str,
    start: Callable[..., Awaitable[Any]] = forked,
) -> AsyncIterator[tuple[Any, int]]:
    """`wan-runtime worker`, and the port of its pages; killed at the end."""
    port = free_port()
    running = await start(
        *("wan_runtime", "worker", "--service", str(video_service.file)),
        *("--work", str(work), *options),
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "WAN_DATABASE_URL": postgres.url(),
            "WAN_PROGRESS_PORT": str(port),
            "WAN_POD_NAME": "wan-0",
            "WAN_REVISION": "5f",
            "WAN_TERMINATION_FILE": str(work / "last-words"),
        },
    )
    try:
        yield running, port
    finally:
        with suppress(ProcessLookupError):
            running.kill()
        await running.wait()


@pytest.mark.parametrize(
    ("grace", "steps", "start"),
    [(600, 40, executed), (6, LONG, forked)],
    ids=["fits", "does not"],
)
async def test_sigterm_in_the_middle_of_a_video(
    video_service: Service, postgres: Postgres, tmp_path: Path, grace: int, steps: int,
    start: Callable[..., Awaitable[Any]],
) -> None:  # fmt: skip
    options = ("--grace", str(grace))
    async with process(video_service, postgres, tmp_path, *options, start=start) as (worker, _):
        job = await video_service.until(await video_service.submit(steps=steps), at_step)
        worker.send_signal(signal.SIGTERM)
        assert await worker.wait() == 0
    after = await found(video_service.queue, job.id)
    if steps == LONG:
        assert (after.state, after.attempts) == (State.QUEUED, 0)
        await video_service.queue.cancel(job.id, "ann")
    else:
        assert after.state is State.COMPLETED
    assert (await video_service.queue.report()).workers == ()


async def test_last_words(video_service: Service, postgres: Postgres, tmp_path: Path) -> None:
    model = ModelSpec(preset="Wan2.1-I2V-Tiny", path=str(tmp_path / "absent"))
    service = video_service.changed(model=model)
    async with process(service, postgres, tmp_path) as (worker, _):
        assert await worker.wait() == 10
    words = (tmp_path / "last-words").read_text()
    assert words == f"model.path {tmp_path / 'absent'} is not a folder in the pod"


async def test_a_store_that_refuses_ends_the_worker(
    video_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next start has the Secret as it is by then."""
    job = await video_service.submit()
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "changed")
        refused = replace(video_service, store=Store.connect(video_service.spec.store))
    code, problem = await refused.ended()
    assert code is ExitClass.INFRASTRUCTURE
    assert "denies access to bucket 'wan'" in problem
    after = await found(video_service.queue, job.id)
    assert (after.state, after.attempts) == (State.QUEUED, 0)
    await video_service.queue.cancel(job.id, "ann")


async def test_a_killed_supervisor_leaves_no_rank_and_its_job_is_found(
    video_service: Service, postgres: Postgres, tmp_path: Path
) -> None:
    named = video_service.changed(attention="SDPA")
    async with process(named, postgres, tmp_path, "--ranks", "2") as (worker, port):
        job = await video_service.until(await video_service.submit(steps=LONG), at_step)
        ranks = children(worker.pid)
        assert len(ranks) == 2
        pages = {page: await asyncio.to_thread(read, port, page) for page in PAGES}
        assert {pages[page][0] for page in PAGES} == {200}
        assert "wan_worker_ready 1.0" in pages["/metrics"][1]
        info = WorkerInfo.model_validate_json(pages["/info"][1])
        assert (info.busy, info.ranks, info.device) == (True, 2, "CPU")
        assert (info.pod, info.revision, info.name[:-8]) == ("wan-0", "5f", "wan-0-")
        assert info.attention == "SDPA (named)"
        assert info.startup is not None
        assert min(info.startup.load_seconds, info.startup.warm_up_seconds) > 0
        assert "with adapters" not in info.startup.parts, "nothing is compiled on CPUs"
        assert 0 < info.seconds_per_clip[f"{WIDTH}x{HEIGHT}"] < 900
        assert info.adapters == ("good",)
        (told,) = await video_service.workers(lambda each: each.busy)
        assert (told.name, told.attention) == (info.name, info.attention)
    await asyncio.to_thread(until_gone, ranks)
    # Nobody renews the lease: as if its 30 s were over.
    await sql(postgres.url(), "update jobs set lease_until = now() where id = $1", job.id)
    handed = job
    while handed.state is State.RUNNING:  # a queue that just started lets leases live
        await video_service.queue.reap()
        handed = await found(video_service.queue, job.id)
    assert (handed.state, handed.attempts) == (State.QUEUED, 1)
    await video_service.queue.cancel(job.id, "ann")


def read(port: int, page: str) -> tuple[int, str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=60) as answer:
        return answer.status, answer.read().decode()


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until_gone(pids: list[int]) -> None:
    """Wait for processes that are not ours."""
    while any(map(is_alive, pids)):
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Not gone, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
