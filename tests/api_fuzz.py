"""10,000 requests at random to a gateway, a process of its own: `make fuzz-api`.

No answer is 5xx, the log has no traceback, and neither its memory nor the number of its metric
series grows. Prints a table; the exit code is 1 where one of these fails.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import httpx

from api_cases import try_out
from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from ports import free_port
from postgres import Postgres
from running_gateway import KEYS
from serving_processes import Processes
from unit.serving.test_pictures import picture
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.rendering.order import Rendered, Stage
from wan_runtime.serving.queue.queue import Queue

EXAMPLES, ROUNDS = 60, 8
"""Of each operation, right and wrong; 10,080 cases in all."""
GROWTH = 1.1
"""By which memory and series may grow in the second half of the rounds."""


def memory_mib(process: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


async def completed(processes: Processes) -> str:
    """Id of the video that waits, made by this process in a worker's place."""
    text = (processes.folder / "service.json").read_bytes()
    service = ServiceSpec.model_validate_json(text)
    queue = await Queue.of(service, processes.environment["WAN_DATABASE_URL"])
    job = await queue.claim("fuzz", 60)
    assert job is not None
    store = Store.connect(service.store)
    folder = f"{service.prefix}/videos/{job.id}"
    files_made = {"video": f"{folder}/video.mp4", "thumbnail": f"{folder}/thumbnail.webp"}
    for key in files_made.values():
        store.put_bytes(key, picture(128, 96))
    done = Rendered(files=files_made, bytes=100, sha256="0" * 64, seconds={Stage.DENOISING: 2.0})
    assert await queue.complete(job.id, "fuzz", done)
    await queue.close()
    return job.id


def series(page: str) -> int:
    """Number of the gateway's metric series."""
    return sum(not line.startswith("#") for line in httpx.get(page).text.splitlines())


def main() -> int:
    seed = int(os.environ.get("WAN_SEED", random.randrange(2**32)))
    print(f"WAN_SEED={seed} repeats this run\n\n| cases | memory | series | slowest |")
    print("| --- | --- | --- | --- |", flush=True)
    os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    with tempfile.TemporaryDirectory() as made, Postgres() as postgres:
        folder = Path(made)
        (folder / "service").mkdir()
        with ObjectStore(folder / "store") as store:
            processes = Processes(folder / "service", store, postgres.create("videos"))
            return fuzzed(processes, folder / "log", seed)


def fuzzed(processes: Processes, log: Path, seed: int) -> int:
    port = free_port()
    process, http = processes.start(log=log, WAN_PROGRESS_PORT=str(port))
    try:
        processes.ready(process, http)
        photo = {"input_reference": ("photo.png", picture(128, 96), "image/png")}
        http.post("/v1/videos", data={"prompt": "a cat"}, files=photo).raise_for_status()
        video = asyncio.run(completed(processes))
        taken: list[tuple[float, int]] = []
        statuses, faults = Counter[str](), []
        for number in range(1, ROUNDS + 1):
            tried = try_out(
                str(http.base_url), KEYS["app"], EXAMPLES, video=video, seed=seed + number
            )
            statuses += tried.statuses
            faults += tried.faults
            taken.append((memory_mib(process.pid), series(f"http://127.0.0.1:{port}/metrics")))
            print(
                f"| {statuses.total()} | {taken[-1][0]:.1f} MiB | {taken[-1][1]} "
                f"| {tried.slowest[0]:.1f} s, {tried.slowest[1]} |",
                flush=True,
            )
    finally:
        http.close()
        process.terminate()
        process.wait()
    print(f"\nby way and status: {dict(sorted(statuses.items()))}")
    said = log.read_text().splitlines()
    faults += [line[:2000] for line in said if "Traceback" in line]
    for name, before, last in zip(
        ("memory", "series"), taken[ROUNDS // 2 - 1], taken[-1], strict=True
    ):
        if last > GROWTH * before:
            faults.append(f"{name} grew from {before:.0f} to {last:.0f}")
    print("\n".join(faults) or "no 5xx, no traceback, no growth")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
