"""A worker with real ranks: what becomes of orders, and what faults cost."""

from __future__ import annotations

import asyncio
import io
import json
import os
import resource
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import pytest_asyncio
import torch
from PIL import Image

from ml_runs import FRAMES, HEIGHT, WIDTH
from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore, free_port
from orders import sql
from postgres import Postgres
from renders import save_odd, write_lora
from wan_runtime.artifacts.store import Store
from wan_runtime.job import ExitClass, Expert
from wan_runtime.models import tiny
from wan_runtime.models.layout import locate
from wan_runtime.models.load import load_dit
from wan_runtime.presets import PRESETS
from wan_runtime.serving.service import AdapterSpec
from wan_runtime.serving.video import Job, Stage, State
from wan_runtime.serving.worker.processes import Patience
from worker_service import TIMING, Service, Working

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = 200
"""Steps: time enough to do something meanwhile."""
PAGES = ("/healthz", "/readyz", "/metrics", "/info")


@pytest.fixture(scope="module")
def objects(server: ObjectStore) -> Iterator[ObjectStore]:
    """With its credentials in the environment, for the ranks too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(
    postgres: Postgres, objects: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    preset = PRESETS["Wan2.1-I2V-Tiny"]
    tiny.write(preset, folder / "model")
    dit = load_dit(
        locate(preset, folder / "model"), Expert.ONLY, torch.float32, torch.device("cpu")
    )
    store = Store.connect(objects.spec())
    store.put_file("lora/good", write_lora(folder / "good.safetensors", dit, 1))
    store.put_file("lora/odd", save_odd(folder / "odd.safetensors"))
    adapters = [
        AdapterSpec(name=name, files={Expert.ONLY: store.uri(f"lora/{name}")})
        for name in ("good", "odd", "absent")
    ]
    opened = await Service.open(postgres.url(), objects, folder / "model", folder, *adapters)
    yield opened
    await opened.queue.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def working(service: Service) -> AsyncIterator[Working]:
    async with service.worker() as running:
        yield running


def address_space(pid: int) -> int:
    """Bytes that a process has mapped."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


def at_step(job: Job) -> bool:
    return job.advance is not None and job.advance.step > 0


async def test_an_order_becomes_files(service: Service, working: Working) -> None:
    job = await service.completed(await service.submit(fps=12, prompt="a secret wish"))
    rendered = job.rendered
    assert rendered is not None
    assert set(rendered.seconds) == set(Stage)
    prefix = f"{service.spec.prefix}/videos/{job.id}"
    assert rendered.files == {
        "video": f"{prefix}/video.mp4",
        "thumbnail": f"{prefix}/thumbnail.webp",
        "spritesheet": f"{prefix}/spritesheet.jpg",
    }
    data = service.video(job)
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
    assert "secret" not in str(comment)
    for variant, size in (("thumbnail", (64, 48)), ("spritesheet", (320, 96))):
        with Image.open(io.BytesIO(service.store.get_bytes(rendered.files[variant]))) as picture:
            assert picture.size == size
    again = await service.completed(await service.submit(fps=12, prompt="a secret wish"))
    assert service.video(again) == data


async def test_a_visible_mark_is_in_the_corner(service: Service, working: Working) -> None:
    plain, marked = [await service.rendered(visible_mark=mark) for mark in (False, True)]

    def first(data: bytes) -> np.ndarray:
        with av.open(io.BytesIO(data)) as container:
            return next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)

    difference = np.abs(first(plain) - first(marked)).mean(axis=2)
    assert difference[:16].mean() < 3 < 10 < difference[-12:, -24:].mean()


async def test_an_adapter_for_one_request(service: Service, working: Working) -> None:
    before = await service.rendered()
    with_lora = await service.completed(await service.submit("good"))
    after = await service.completed(await service.submit())
    assert service.video(with_lora) != before == service.video(after)
    assert with_lora.rendered is not None
    assert after.rendered is not None
    assert with_lora.rendered.weights != after.rendered.weights


@pytest.mark.parametrize(
    ("adapter", "code", "message"),
    [
        ("odd", "adapter_mismatch", "keys are not understood"),
        ("absent", "adapter_unavailable", "does not exist"),
    ],
)
async def test_a_bad_adapter_fails_its_job_alone(
    adapter: str, code: str, message: str, service: Service, working: Working
) -> None:
    pids = working.pids
    job = await service.end(await service.submit(adapter))
    assert job.problem is not None
    assert (job.state, job.problem.code) == (State.FAILED, code)
    assert message in job.problem.message
    await service.completed(await service.submit())
    assert working.pids == pids


async def test_a_cancelled_video_ends_at_the_next_step(service: Service, working: Working) -> None:
    job = await service.until(await service.submit(steps=LONG), at_step)
    await service.queue.cancel(job.id, "ann")
    ended = await service.end(job)
    assert ended.state is State.CANCELLED
    assert ended.advance is not None
    assert ended.advance.step < LONG / 2
    await service.completed(await service.submit())


async def test_memory_that_runs_out_fails_the_job_with_advice(
    service: Service, working: Working
) -> None:
    (pid,) = working.pids
    unlimited = resource.prlimit(pid, resource.RLIMIT_AS, (address_space(pid) + 2**23, -1))
    job = await service.end(await service.submit(frames=1025))
    resource.prlimit(pid, resource.RLIMIT_AS, unlimited)
    assert job.problem is not None
    assert job.problem.code == "out_of_memory"
    assert "fewer frames or a smaller size" in job.problem.message
    await service.completed(await service.submit())
    assert working.pids == [pid]


async def test_a_killed_rank_costs_an_attempt(service: Service, working: Working) -> None:
    before = working.pids
    job = await service.until(await service.submit(steps=LONG), at_step)
    os.kill(before[0], signal.SIGKILL)
    handed = await service.until(job, lambda now: now.attempts == 2)
    assert handed.state is State.RUNNING
    assert working.pids != before
    await service.queue.cancel(job.id, "ann")
    assert (await service.end(job)).state is State.CANCELLED


async def test_two_ranks_make_the_same_video_as_one(service: Service, working: Working) -> None:
    orders = ({"seed": 3}, {"seed": 3, "guidance": 1.0, "guidance_low": 1.0})
    alone = [await service.rendered(**each) for each in orders]
    working.worker.stop()
    await working.task
    async with service.worker(ranks=2, patience=Patience(floor_seconds=10)) as two:
        assert len(two.pids) == 2
        assert [await service.rendered(**each) for each in orders] == alone
        job = await service.until(await service.submit(steps=LONG), at_step)
        await service.queue.cancel(job.id, "ann")
        assert (await service.end(job)).state is State.CANCELLED
        odd = await service.end(await service.submit("odd"))
        assert odd.state is State.FAILED
        await service.completed(await service.submit())
        # One rank alone stands still: the other waits for it in a collective.
        job = await service.until(await service.submit(steps=LONG), at_step)
        stuck = two.pids
        os.kill(stuck[1], signal.SIGSTOP)
        await service.until(job, lambda now: now.attempts == 2)
        assert not set(stuck) & set(two.pids)
        await service.queue.cancel(job.id, "ann")
        await service.end(job)


async def test_a_stopped_worker_ends_what_fits_and_hands_back_the_rest(service: Service) -> None:
    async with service.worker() as working:
        job = await service.until(await service.submit(steps=20), at_step)
        working.worker.stop()
        assert await working.task is ExitClass.STOPPED
        assert (await service.end(job)).state is State.COMPLETED
    brief = replace(TIMING, grace=1.5)
    async with service.worker(timing=brief) as working:
        long = await service.until(await service.submit(steps=LONG), at_step)
        working.worker.stop()
        assert await working.task is ExitClass.STOPPED
        handed = await service.queue.get(long.id)
        assert handed is not None
        assert (handed.state, handed.attempts) == (State.QUEUED, 0)
        await service.queue.cancel(long.id, "ann")


async def test_a_killed_supervisor_leaves_no_rank_and_its_job_is_found(
    service: Service, postgres: Postgres, tmp_path: Path
) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, *("-m", "wan_runtime", "worker", "--service", str(service.file)),
        *("--work", str(tmp_path), "--ranks", "2"),
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "WAN_DATABASE_URL": postgres.url(),
            "WAN_PROGRESS_PORT": str(port),
        },
    )  # fmt: skip
    job = await service.until(await service.submit(steps=LONG), at_step)
    pages = {page: await asyncio.to_thread(read, port, page) for page in PAGES}
    assert {pages[page][0] for page in PAGES} == {200}
    assert "wan_worker_ready 1.0" in pages["/metrics"][1]
    info = json.loads(pages["/info"][1])
    assert (info["job"], info["ranks"], info["device"]) == (job.id, 2, "CPU")
    assert set(info["paces"]) == {f"{WIDTH}x{HEIGHT}"}
    ranks = children(process.pid)
    assert len(ranks) == 2
    process.kill()
    await process.wait()
    await asyncio.to_thread(until_gone, ranks)
    # Nobody renews the lease: as if its 30 s were over.
    await sql(postgres.url(), "update jobs set lease_until = now() where id = $1", job.id)
    assert await service.queue.reap() == 1
    handed = await service.queue.get(job.id)
    assert handed is not None
    assert (handed.state, handed.attempts) == (State.QUEUED, 1)
    await service.queue.cancel(job.id, "ann")


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
