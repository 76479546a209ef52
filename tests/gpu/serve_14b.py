"""A worker at the 14B shapes, from a request to its mp4: seconds by stage, GPU memory, a change of
LoRA, a cancellation, and the same order again. With `--ranks`, on several GPUs: then one rank is
killed in the middle of a video too, which is made again.

    WAN_MINIO=$(which minio) PYTHONPATH=runtime:tests python tests/gpu/serve_14b.py --out row.json

The real gateway, worker, PostgreSQL and MinIO; random weights, so the video is noise. Needs 45 GB
of disk in `--work` and 100 GiB of memory; a model that is there is used again. `--small` is the
dry run on a CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from object_store import BUCKET, ObjectStore
from postgres import Postgres
from serving_processes import Processes, wait
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.report import WorkerReport
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.contract.steps import Expert
from wan_runtime.presets import PRESETS, Preset
from wan_runtime.serving.queue.queue import Queue

STEPS, SMALL_STEPS = 4, 24
RANK = 32
ADAPTERS = ("one", "two")
RANK_MODULE = b"wan_runtime.serving.worker.start_rank"
LIMIT = 900
"""Seconds until a worker must be ready."""


class Memory:
    """Of the fullest GPU of this process, as the driver counts it: all processes, all
    allocators."""

    def __init__(self) -> None:
        self.peak_gib = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
            query.append(f"--id={visible}")
        while not self._stopped.wait(0.5):
            used = subprocess.run(query, capture_output=True, text=True, check=True).stdout
            self.peak_gib = max(self.peak_gib, *(int(each) / 1024 for each in used.splitlines()))


class Client:
    """Of a service with one gateway and one worker."""

    def __init__(self, http: httpx.Client, photo: bytes) -> None:
        self._http, self._photo = http, photo

    def submit(self, *adapters: str, **fields: Any) -> str:
        data = {"prompt": "a man talks", **{key: str(value) for key, value in fields.items()}}
        if adapters:
            data["adapters"] = json.dumps([{"name": name} for name in adapters])
        files = {"input_reference": ("a.png", self._photo)}
        answer = self._http.post("/v1/videos", data=data, files=files)
        assert answer.status_code < 400, answer.text
        return str(answer.json()["id"])

    def made(
        self, *adapters: str, meanwhile: Callable[[], None] | None = None, **fields: Any
    ) -> dict[str, Any]:
        """A video's figures, from the request until its bytes are here. `meanwhile`: what is done
        after its first step."""
        start = time.monotonic()
        video = self.submit(*adapters, **fields)
        if meanwhile is not None:
            wait(self._http, video, step=1)
            meanwhile()
        predicted = self._http.get(f"/v1/videos/{video}").json()["eta_seconds"]
        done = wait(self._http, video)
        assert done["status"] == "completed", done
        content = self._http.get(f"/v1/videos/{video}/content").content
        return {
            "seconds": round(time.monotonic() - start, 1),
            "stages": done["timings"],
            "bytes": len(content),
            "predictedSeconds": predicted,
            "sha256": hashlib.sha256(content).hexdigest(),
        }

    def cancelled(self, *adapters: str, **fields: Any) -> float:
        """Seconds from the request to cancel, after the first step, to the end."""
        video = self.submit(*adapters, **fields)
        wait(self._http, video, step=1)
        start = time.monotonic()
        self._http.post(f"/v1/videos/{video}/cancel")
        done = wait(self._http, video)
        assert done["status"] == "failed", done
        assert done["error"]["code"] == "cancelled", done
        return round(time.monotonic() - start, 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "serve-14b")
    parser.add_argument("--ranks", type=int, default=1, help="GPUs of the worker")
    parser.add_argument("--quiet", action="store_true", help="a quiet picture, as in clips_14b.py")
    parser.add_argument("--small", action="store_true", help="the Tiny model, on a CPU")
    options = parser.parse_args()
    preset = PRESETS["Wan2.2-I2V-Tiny" if options.small else "Wan2.2-I2V-A14B"]
    with running(preset, options.work, quiet=options.quiet) as (processes, server):
        service = spec_of(
            "serve", preset, options.work, server,
            defaults={"steps": STEPS}, adapters=[adapter_of(name) for name in ADAPTERS],
        )  # fmt: skip
        alone(upload_adapters, preset, service)
        row = measure(processes, service, options.small, options.ranks)
    options.out.write_text(json.dumps(row, indent=1))
    print(json.dumps(row, indent=1))
    return 0


@contextmanager
def running(
    preset: Preset, work: Path, *, quiet: bool = False
) -> Iterator[tuple[Processes, ObjectStore]]:
    """Processes of a service, and its store: they end with the context, and their logs are shown.
    `quiet`: see `random_model.write`."""
    ensure_model(preset, work, quiet=quiet)
    with (
        tempfile.TemporaryDirectory(dir=work) as folder,
        ObjectStore(Path(folder) / "minio") as server,
        Postgres(fsync="on") as database,
    ):
        home = Path(folder) / "service"
        home.mkdir()
        processes = Processes(home, server, database.url())
        os.environ |= processes.environment
        try:
            yield processes, server
        finally:
            for process in processes.running:
                process.terminate()
            for process in processes.running:
                process.communicate()
            for path in home.glob("*.log"):
                sys.stderr.write(path.read_text()[-20000:])


def measure(processes: Processes, service: ServiceSpec, small: bool, ranks: int) -> dict[str, Any]:
    """Everything, on one worker."""
    (processes.folder / "service.json").write_text(service.model_dump_json(by_alias=True))
    gateway, http = processes.start()
    processes.ready(gateway, http)
    size = service.sizes[0]
    client = Client(http, photo(size.width, size.height))
    steps = SMALL_STEPS if small else STEPS
    row: dict[str, Any] = {"model": service.model.preset, "size": str(size), "steps": steps}
    row["ranks"] = ranks
    with Memory() if not small else nullcontext() as memory:
        start = time.monotonic()
        processes.start_worker("--ranks", str(ranks))
        row["worker"] = facts(*ready(processes, service))
        say(row, "secondsToReady", round(time.monotonic() - start, 1))
        say(row, "first", client.made(seed=1, steps=steps))
        say(row, "newLora", client.made("one", seed=1, steps=2))
        say(row, "cancelSeconds", client.cancelled("two", seed=1, steps=200 if small else STEPS))
        say(row, "sameOrderAgain", client.made(seed=1, steps=steps))
        if ranks > 1:
            say(row, "rankKilled", client.made(seed=1, steps=steps, meanwhile=kill_rank(processes)))
        row["worker"] = facts(*ready(processes, service))
        if memory:
            row["gpuPeakGiB"] = round(memory.peak_gib, 1)
    again = [row[each]["sha256"] for each in ("sameOrderAgain", "rankKilled") if each in row]
    assert {row["first"]["sha256"]} == set(again), "not the same video again"
    return row


def kill_rank(processes: Processes) -> Callable[[], None]:
    """Ends the last rank of the only worker, as the kernel does where memory is short."""

    def kill() -> None:
        (worker,) = processes.workers
        tasks = Path(f"/proc/{worker.pid}/task").glob("*/children")
        children = [int(pid) for task in tasks for pid in task.read_text().split()]
        named = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
        ranks = [pid for pid, line in named.items() if RANK_MODULE in line]
        os.kill(max(ranks), signal.SIGKILL)

    return kill


def photo(width: int, height: int) -> bytes:
    """A gradient as a PNG."""
    data = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(data, "PNG")
    return data.getvalue()


def say(row: dict[str, Any], name: str, value: Any) -> None:
    row[name] = value
    print(f"{name}: {value}", flush=True)


def spec_of(
    name: str, preset: Preset, work: Path, server: ObjectStore, **fields: Any
) -> ServiceSpec:
    """One size, the preset's own length."""
    return ServiceSpec.model_validate(
        {
            "namespace": "gpu",
            "name": name,
            "uid": "0f9e8d7c-0000-4000-8000-000000000000",
            "model": {"preset": preset.name, "path": str(work / preset.name)},
            "store": server.spec(prefix="serving").model_dump(),
            "sizes": [{"width": preset.width, "height": preset.height}],
            **fields,
        }
    )


def adapter_of(name: str) -> dict[str, Any]:
    """An adapter of a service, whose file in the bucket is of both experts."""
    file = f"s3://{BUCKET}/{name}.safetensors"
    return {"name": name, "files": {Expert.HIGH_NOISE: file, Expert.LOW_NOISE: file}}


def ready(processes: Processes, service: ServiceSpec) -> list[WorkerReport]:
    """What the workers tell, once all are ready and idle."""

    async def ask() -> list[WorkerReport]:
        queue = await Queue.of(service, processes.environment["WAN_DATABASE_URL"])
        try:
            async with asyncio.timeout(LIMIT):
                while True:
                    told = (await queue.report()).workers
                    found = [each for each in told if each.ready and not each.busy]
                    if len(found) == len(processes.workers):
                        return found
                    ended = [each for each in processes.workers if each.poll() is not None]
                    assert not ended, "a worker ended: see its log"
                    await asyncio.sleep(0.2)
        finally:
            await queue.close()

    return asyncio.run(ask())


def facts(report: WorkerReport) -> dict[str, Any]:
    return report.model_dump(
        mode="json",
        include={"startup", "seconds_per_clip", "peak_gib", "adapters", "attention", "device"},
    )


def ensure_model(preset: Preset, work: Path, *, quiet: bool) -> None:
    """Have the model in `work`, whole, also if several services begin at once. One that is there is
    used again."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (work / preset.name).is_dir():
            partial = work / f"{preset.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            alone(write_model, preset, partial, quiet)
            partial.rename(work / preset.name)


def write_model(preset: Preset, folder: Path, quiet: bool) -> None:
    from gpu import random_model
    from wan_runtime.models.load import compute_device

    start = time.monotonic()
    random_model.write(preset, folder, compute_device(), quiet=quiet)
    print(f"model written in {time.monotonic() - start:.0f} s", flush=True)


def upload_adapters(preset: Preset, service: ServiceSpec) -> None:
    from gpu import random_model
    from wan_runtime.models.adapters.dialects import write_adapter

    store = Store.connect(service.store)
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in enumerate(ADAPTERS):
            path = Path(folder) / f"{name}.safetensors"
            write_adapter(Dialect.DIFFSYNTH, path, random_model.adapter(preset, RANK, seed), {})
            store.put_file(f"{name}.safetensors", path)


def alone(task: Any, *arguments: Any) -> None:
    """In a process of its own, which takes its GPU memory along when it ends."""
    process = multiprocessing.get_context("spawn").Process(target=task, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0, f"{task.__name__} failed"


if __name__ == "__main__":
    sys.exit(main())
