"""Workers that come and go: on one rank and two, told to stop, and killed outright."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from ml_runs import HEIGHT, WIDTH
from object_store import free_port
from orders import found, sql
from postgres import Postgres
from renders import save_odd
from wan_runtime.contract.job import ExitClass, ModelSpec
from wan_runtime.contract.report import WorkerInfo
from wan_runtime.rendering.order import State
from wan_runtime.serving.worker.adapter_files import FOLDER
from wan_runtime.serving.worker.processes import Patience
from wan_runtime.serving.worker.worker import Worker
from worker_service import LONG, TIMING, Service, at_step

pytest_plugins = ["worker_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGES = ("/healthz", "/readyz", "/metrics", "/info")


def address_space(pid: int) -> int:
    """Bytes that a process has mapped."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


async def test_two_ranks_make_the_same_video_as_one(video_service: Service) -> None:
    orders = ({"seed": 3}, {"seed": 3, "guidance": 1.0, "guidance_low": 1.0})
    async with video_service.worker():
        alone = [await video_service.rendered(**each) for each in orders]
    async with video_service.worker(ranks=2, patience=Patience(floor_seconds=10)) as two:
        assert len(two.pids) == 2
        assert [await video_service.rendered(**each) for each in orders] == alone
        job = await video_service.until(await video_service.submit(steps=LONG), at_step)
        await video_service.queue.cancel(job.id, "ann")
        assert (await video_service.end(job)).state is State.CANCELLED


async def test_what_happens_to_one_rank_alone(video_service: Service) -> None:
    """The other waits for it in a collective."""
    async with video_service.worker(ranks=2, patience=Patience(floor_seconds=10)) as two:
        # Rank 0 has read it, as it checked the adapters.
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

        resource.prlimit(pids[1], resource.RLIMIT_AS, (address_space(pids[1]) - 2**26, -1))
        full = await video_service.end(await video_service.submit(frames=1025))
        assert full.problem is not None
        assert full.problem.code == "out_of_memory"
        assert "fewer frames or a smaller size" in full.problem.message
        await video_service.completed(await video_service.submit())
        assert not two.task.done()

        job = await video_service.until(await video_service.submit(steps=LONG), at_step)
        stuck = two.pids
        os.kill(stuck[1], signal.SIGSTOP)
        await video_service.until(job, lambda now: now.attempts == 2)
        assert not set(stuck) & set(two.pids)
        await video_service.queue.cancel(job.id, "ann")
        await video_service.end(job)


async def test_a_stopped_worker_ends_what_fits_and_hands_back_the_rest(
    video_service: Service,
) -> None:
    async with video_service.worker() as working:
        job = await video_service.until(await video_service.submit(steps=20), at_step)
        working.worker.stop()
        assert await working.task is ExitClass.STOPPED
        assert (await video_service.end(job)).state is State.COMPLETED
    brief = replace(TIMING, grace=1.5)
    async with video_service.worker(timing=brief) as working:
        long = await video_service.until(await video_service.submit(steps=LONG), at_step)
        working.worker.stop()
        assert await working.task is ExitClass.STOPPED
        handed = await video_service.queue.get(long.id)
        assert handed is not None
        assert (handed.state, handed.attempts) == (State.QUEUED, 0)
        await video_service.queue.cancel(long.id, "ann")


async def test_a_model_that_is_not_there_ends_the_worker(video_service: Service) -> None:
    absent = {"preset": "Wan2.1-I2V-Tiny", "path": str(video_service.folder / "absent")}
    file = video_service.folder / "broken.json"
    spec = video_service.spec.model_copy(update={"model": ModelSpec.model_validate(absent)})
    file.write_text(spec.model_dump_json(by_alias=True))
    worker = Worker(spec, file, video_service.queue, video_service.store, video_service.folder)
    assert await worker.run() is ExitClass.INPUT


@asynccontextmanager
async def process(
    video_service: Service, postgres: Postgres, work: Path, *options: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """`wan-runtime worker`, and the port of its pages; killed at the end."""
    port = free_port()
    running = await asyncio.create_subprocess_exec(
        sys.executable, *("-m", "wan_runtime", "worker", "--service", str(video_service.file)),
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
    )  # fmt: skip
    try:
        yield running, port
    finally:
        with suppress(ProcessLookupError):
            running.kill()
        await running.wait()


@pytest.mark.parametrize(("grace", "steps"), [(60, 40), (6, LONG)], ids=["fits", "does not"])
async def test_sigterm_in_the_middle_of_a_video(
    video_service: Service, postgres: Postgres, tmp_path: Path, grace: int, steps: int
) -> None:
    async with process(video_service, postgres, tmp_path, "--grace", str(grace)) as (worker, _):
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


async def test_a_killed_supervisor_leaves_no_rank_and_its_job_is_found(
    video_service: Service, postgres: Postgres, tmp_path: Path
) -> None:
    async with process(video_service, postgres, tmp_path, "--ranks", "2") as (worker, port):
        job = await video_service.until(await video_service.submit(steps=LONG), at_step)
        ranks = children(worker.pid)
        assert len(ranks) == 2
        pages = {page: await asyncio.to_thread(read, port, page) for page in PAGES}
        assert {pages[page][0] for page in PAGES} == {200}
        assert "wan_worker_ready 1.0" in pages["/metrics"][1]
        info = WorkerInfo.model_validate_json(pages["/info"][1])
        assert (info.busy, info.ranks, info.device) == (True, 2, "CPU")
        assert (info.pod, info.revision, info.name[:-8]) == ("wan-0", "5f", "wan-0-")
        assert info.startup is not None
        assert min(info.startup.load_seconds, info.startup.warm_up_seconds) > 0
        assert 0 < info.seconds_per_clip[f"{WIDTH}x{HEIGHT}"] < 60
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
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=10) as answer:
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
