"""What gateways and workers cost, beside a peer or a limit of the same run: `make bench-serving`.

Real processes of `wan-runtime`, PostgreSQL with fsync, MinIO; the Tiny model on CPUs. It prints a
table.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from object_store import ObjectStore
from ports import free_port
from postgres import Postgres
from serving_processes import Whole, wait
from unit.serving.test_pictures import picture
from wan_runtime.contract.report import ServiceReport
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.serving.queue.queue import Queue

CALLS = 200
CLIENTS = 8
QUEUED = 1000
VIDEOS = 20
PHOTO = picture(640, 480, "JPEG")
BARE = """
import sys, uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.get("/")
async def answer() -> dict[str, object]:
    return {str(number): "x" * 20 for number in range(40)}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_config=None, access_log=False)
"""


def row(what: str, measured: str) -> None:
    print(f"| {what} | {measured} |", flush=True)


def spread(seconds: list[float]) -> str:
    """Median, 95th and 99th percentile."""
    cuts = statistics.quantiles(seconds, n=100)
    return " / ".join(f"{1000 * cuts[at - 1]:.1f}" for at in (50, 95, 99)) + " ms"


def timed(call: Callable[[], httpx.Response], times: int = CALLS) -> list[float]:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        answer = call()
        taken.append(time.perf_counter() - start)
        assert answer.status_code < 400, answer.text
    return taken


def rate(call: Callable[[], httpx.Response], times: int) -> float:
    """Calls a second of all clients together."""
    start = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda _: call().status_code, range(times)))
    assert max(answers) < 400, answers
    return times / (time.perf_counter() - start)


def rss(process: subprocess.Popen[str]) -> str:
    text = Path(f"/proc/{process.pid}/status").read_text()
    return f"{int(text.split('VmRSS:')[1].split()[0]) / 1024:.0f} MiB"


def create(http: httpx.Client, **fields: Any) -> httpx.Response:
    data = {"prompt": "a man talks"} | {key: str(value) for key, value in fields.items()}
    return http.post("/v1/videos", data=data, files={"input_reference": ("a.jpg", PHOTO)})


def report(database: str, service: ServiceSpec) -> ServiceReport:
    async def ask() -> ServiceReport:
        queue = await Queue.of(service, database)
        found = await queue.report()
        await queue.close()
        return found

    return asyncio.run(ask())


def requests(http: httpx.Client, gateway: subprocess.Popen[str], database: str) -> None:
    """Of one client, with an empty queue; then of eight with a full one."""
    port = free_port()
    bare = subprocess.Popen([sys.executable, "-c", BARE, str(port)])
    peer = httpx.Client(base_url=f"http://127.0.0.1:{port}")
    try:
        while True:
            try:
                peer.get("/")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        row("a bare FastAPI app answers (p50 / p95 / p99)", spread(timed(lambda: peer.get("/"))))
        nothing = rate(lambda: peer.get("/"), 2000)
    finally:
        bare.kill()
        bare.wait()
    row("PostgreSQL answers `select 1`", spread(asyncio.run(round_trips(database))))
    video = create(http).json()["id"]
    row("state of a video", spread(timed(lambda: http.get(f"/v1/videos/{video}"))))
    row("list of 20", spread(timed(lambda: http.get("/v1/videos?limit=20"))))
    row("a video asked for, with a picture of 640x480", spread(timed(lambda: create(http))))
    before = rss(gateway)
    made = rate(lambda: create(http), QUEUED - CALLS - 1)
    row(f"asked for by {CLIENTS} clients, until {QUEUED} wait", f"{made:.0f}/s")
    states = rate(lambda: http.get(f"/v1/videos/{video}"), 2000)
    row(f"states, {QUEUED} wait; the bare app", f"{states:.0f}/s; {nothing:.0f}/s")
    row("RSS of the gateway, before and after", f"{before}, {rss(gateway)}")


async def round_trips(database: str) -> list[float]:
    connection = await asyncpg.connect(database)
    taken = []
    for _ in range(CALLS):
        start = time.perf_counter()
        await connection.fetchval("select 1")
        taken.append(time.perf_counter() - start)
    await connection.close()
    return taken


def worker(whole: Whole, http: httpx.Client, service: ServiceSpec, database: str) -> None:
    """An idle one, then a busy one, then a dead one."""
    start = time.perf_counter()
    whole.start_worker()
    while not any(each.ready for each in report(database, service).workers):
        time.sleep(0.1)
    taken = time.perf_counter() - start
    [found] = report(database, service).workers
    assert found.startup is not None
    split = found.startup
    row("a worker from its start to ready", f"{taken:.1f} s")
    row(
        "of it: loading, compiling, warm-up (the rest: imports)",
        f"{split.load_seconds:.1f}, {split.compile_seconds:.1f}, {split.warm_up_seconds:.1f} s",
    )
    first = []
    for _ in range(10):
        start = time.perf_counter()
        done = wait(http, create(http, steps=4).json()["id"])
        whole_time = time.perf_counter() - start
        step = done["timings"]["denoising"] / 4
        before = done["timings"]["loading"] + done["timings"]["encoding_input"] + step
        after = sum(done["timings"].values()) - before
        first.append(whole_time - after)
    row(
        "submit to first step, idle worker (p50, worst of 10)",
        f"{1000 * statistics.median(first):.0f}, {1000 * max(first):.0f} ms",
    )
    row("RSS of a worker's supervisor", rss(whole.workers[0]))
    cancelled(http)
    predicted(http)
    killed(whole, http)


def cancelled(http: httpx.Client) -> None:
    done = wait(http, create(http, steps=100).json()["id"])
    step = done["timings"]["denoising"] / 100
    taken = []
    for _ in range(5):
        video = create(http, steps=200).json()["id"]
        wait(http, video, step=5)
        start = time.perf_counter()
        http.post(f"/v1/videos/{video}/cancel")
        wait(http, video)
        taken.append(time.perf_counter() - start)
    middle = statistics.median(taken)
    row(
        "cancel to the end of the video; a step takes",
        f"{1000 * middle:.0f} ms; {1000 * step:.0f} ms",
    )


def predicted(http: httpx.Client) -> None:
    """Predicted end at submit beside the end, of videos that wait for one another."""
    asked = [create(http, steps=4 + 4 * (number % 5)).json() for number in range(VIDEOS)]
    errors = []
    for video in asked:
        done = wait(http, video["id"])
        taken = done["completed_at"] - done["created_at"]
        if video["eta_seconds"] and taken >= 3:  # times are in whole seconds
            errors.append(100 * abs(video["eta_seconds"] - taken) / taken)
    cuts = statistics.quantiles(errors, n=10)
    text = f"{statistics.median(errors):.0f} %, {cuts[8]:.0f} % of {len(errors)}"
    row("error of the predicted end, from 3 s on (median, p90)", text)


def killed(whole: Whole, http: httpx.Client) -> None:
    whole.start_worker()
    time.sleep(15)
    video = create(http, steps=200).json()["id"]
    wait(http, video, step=5)
    start = time.perf_counter()
    for process in whole.workers:
        process.kill()
        process.wait()
    whole.start_worker()
    while http.get(f"/v1/videos/{video}").json()["attempts"] < 2:
        time.sleep(0.1)
    row(
        "all workers killed, until the video is rendered again",
        f"{time.perf_counter() - start:.0f} s",
    )


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        ObjectStore(Path(folder) / "minio") as store,
        Postgres(fsync="on", full_page_writes="on") as server,
    ):
        database = server.url()
        whole = Whole(make(folder, "whole"), store, database)
        service = ServiceSpec.model_validate_json((whole.folder / "service.json").read_text())
        try:
            gateway, http = whole.start()
            whole.ready(gateway, http)
            print("| what | measured |\n| --- | --- |")
            worker(whole, http, service, database)
            for process in whole.workers:
                process.kill()
                process.wait()
            requests(http, gateway, database)
        finally:
            for process in whole.running:
                process.kill()
                process.communicate()


def make(folder: str, name: str) -> Path:
    path = Path(folder) / name
    path.mkdir()
    return path


if __name__ == "__main__":
    main()
