"""A worker of a small service: real PostgreSQL, MinIO, model and rank processes."""

from __future__ import annotations

import asyncio
import io
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_DNS, uuid4, uuid5

from PIL import Image

from moving import FRAMES, HEIGHT, WIDTH, moving_picture
from object_store import ObjectStore
from renders import make_order
from wan_runtime.artifacts.patience import Patience as StorePatience
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import ExitClass
from wan_runtime.contract.report import WorkerReport
from wan_runtime.contract.service import AdapterSpec, AdapterUse, ServiceSpec
from wan_runtime.rendering.order import Job, State
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.worker.attempt import Timing
from wan_runtime.serving.worker.processes import Patience
from wan_runtime.serving.worker.worker import Worker

TIMING = Timing(lease=30, beat=0.2, news=0.05, idle=0.5, grace=60, margin=1, back_off=0.1)
LONG = 1000
"""Steps: time enough to do something meanwhile."""


def at_step(job: Job) -> bool:
    """Whether it is being denoised."""
    return job.advance is not None and job.advance.step > 0


def starve(pid: int) -> tuple[int, int]:
    """From now on a process can have no more memory; its limits until now. Below what it has:
    allocators keep tens of MiB between videos, and what one gives back must not make room. Of data,
    not of addresses: heaps grow into addresses that they have reserved."""
    status = Path(f"/proc/{pid}/status").read_text()
    data = 1024 * int(status.split("VmData:")[1].split()[0])
    return resource.prlimit(pid, resource.RLIMIT_DATA, (data - 2**26, -1))


@contextmanager
def starved(pid: int) -> Iterator[None]:
    """A process that can have no more memory for a while."""
    unlimited = starve(pid)
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_DATA, unlimited)


@dataclass
class Service:
    """What its workers share."""

    spec: ServiceSpec
    file: Path
    queue: Queue
    store: Store
    folder: Path

    @classmethod
    async def open(
        cls, database: str, objects: ObjectStore, model: Path, folder: Path, *adapters: AdapterSpec
    ) -> Service:
        spec = ServiceSpec.model_validate(
            {
                "namespace": "team",
                "name": folder.name,
                "uid": str(uuid5(NAMESPACE_DNS, folder.name)),
                "model": {"preset": "Wan2.1-I2V-Tiny", "path": str(model)},
                "store": objects.spec(prefix="serving"),
                "sizes": [{"width": WIDTH, "height": HEIGHT}],
                "defaults": {"frames": FRAMES},
                "adapters": adapters,
            }
        )
        file = folder / "service.json"
        file.write_text(spec.model_dump_json(by_alias=True))
        queue = await Queue.of(spec, database)
        store = Store.connect(spec.store, patience=StorePatience(seconds=1))
        return cls(spec, file, queue, store, folder)

    def changed(self, **update: Any) -> Service:
        """With other fields of its ServiceSpec, over the same queue."""
        spec = self.spec.model_copy(update=update)
        file = self.folder / f"service-{uuid4().hex}.json"
        file.write_text(spec.model_dump_json(by_alias=True))
        return replace(self, spec=spec, file=file)

    async def ended(self) -> tuple[ExitClass, str]:
        """How a worker that cannot begin ends, and why."""
        work = self.folder / "work-1"
        work.mkdir(exist_ok=True)
        worker = Worker(self.spec, self.file, self.queue, self.store, work, timing=TIMING)
        code = await worker.run()
        return code, worker.status.obstacle or ""

    async def submit(self, *adapters: str | AdapterUse, **change: Any) -> Job:
        """A new order, of a picture in the bucket."""
        key = f"{self.spec.prefix}/inputs/first.png"
        data = io.BytesIO()
        Image.fromarray(moving_picture(0)[0]).save(data, "PNG")
        self.store.put_bytes(key, data.getvalue())
        uses = tuple(
            each if isinstance(each, AdapterUse) else AdapterUse(name=each) for each in adapters
        )
        order = make_order(**{"image": key, "adapters": uses, **change})
        return (
            await self.queue.submit(order, owner="ann", predicted_seconds=1, limit_seconds=1e9)
        ).job

    async def until(self, job: Job, reached: Callable[[Job], bool]) -> Job:
        """The job once it is so."""
        async for now in self.queue.watch(job.id):
            if reached(now):
                return now
            assert not now.state.final, now
        raise AssertionError(f"{job.id} is gone")

    async def workers(self, reached: Callable[[WorkerReport], bool]) -> tuple[WorkerReport, ...]:
        """What all of them tell, once it is so of each."""
        while True:
            told = (await self.queue.report()).workers
            if told and all(map(reached, told)):
                return told
            await asyncio.sleep(0.05)

    async def end(self, job: Job) -> Job:
        return await self.until(job, lambda now: now.state.final)

    async def completed(self, job: Job) -> Job:
        done = await self.end(job)
        assert done.state is State.COMPLETED, done
        return done

    async def rendered(self, **change: Any) -> bytes:
        """The mp4 of a new order."""
        return self.video(await self.completed(await self.submit(**change)))

    def video(self, job: Job) -> bytes:
        assert job.rendered is not None
        return self.store.get_bytes(job.rendered.files["video"])

    @asynccontextmanager
    async def worker(self, *, ranks: int = 1, **change: Any) -> AsyncIterator[Working]:
        """Ready, and stopped at the end."""
        work = self.folder / f"work-{ranks}"
        work.mkdir(exist_ok=True)
        options = {"timing": TIMING, "patience": Patience(floor_seconds=20), **change}
        worker = Worker(self.spec, self.file, self.queue, self.store, work, ranks=ranks, **options)
        running = Working(worker, asyncio.create_task(worker.run()))
        try:
            await running.ready()
            yield running
        finally:
            worker.stop()
            await running.task


@dataclass
class Working:
    """A worker in this process, its ranks in others."""

    worker: Worker
    task: asyncio.Task[ExitClass]

    async def ready(self) -> None:
        while not self.worker.status.takes_jobs:
            assert not self.task.done(), self.task.result()
            await asyncio.sleep(0.05)

    @property
    def pids(self) -> list[int]:
        assert self.worker.processes is not None
        return self.worker.processes.pids
