"""Processes of a checkout's `wan-runtime`, driven by command line and files alone: modules may have
moved between the checkouts that are compared."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from object_store import ACCESS_KEY, BUCKET, SECRET_KEY, ObjectStore
from ports import free_port

PRESETS = ("Wan2.1-I2V-Tiny", "Wan2.2-I2V-Tiny")
UID = "0f9e8d7c-0000-4000-8000-000000000000"
KEY = "wan-key-of-the-comparison"
STEP_ID = {"HighNoise": "-high-noise", "LowNoise": "-low-noise"}
PATIENCE = 300


class Checkout:
    """The code in `path`, with a store and a database of its own."""

    def __init__(
        self, path: Path, folder: Path, store: ObjectStore, database: str, first: int = 0
    ) -> None:
        """`first`: from which the logs are numbered."""
        self.path, self.folder, self.store, self.database = path.resolve(), folder, store, database
        self.processes = first

    def start(self, *arguments: str, **environment: str) -> tuple[subprocess.Popen[bytes], Path]:
        """A process, and the file of its log."""
        self.processes += 1
        log = self.folder / f"{self.processes:02}-{arguments[0]}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "wan_runtime", *arguments],
                env={
                    **os.environ,
                    "PYTHONPATH": f"{self.path}/operator:{self.path}/runtime",
                    "OMP_NUM_THREADS": "1",
                    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                    "WAN_DATABASE_URL": self.database,
                    "WAN_PROGRESS_PORT": "0",
                    "WAN_TERMINATION_FILE": str(log.with_suffix(".result")),
                    **environment,
                },
                cwd=self.folder,
                stdout=stream,
                stderr=stream,
            )
        return process, log

    def run(self, *arguments: str) -> dict[str, Any]:
        """The Result of a command that succeeds, if it leaves one."""
        process, log = self.start(*arguments)
        code, result = process.wait(), log.with_suffix(".result")
        if code != 0:
            sys.exit(f"{self.path}: {' '.join(arguments)} ended with {code}:\n{tail(log)}")
        found: dict[str, Any] = json.loads(result.read_text()) if result.exists() else {}
        return found

    def keys(self, prefix: str) -> list[str]:
        """Of the objects below a prefix."""
        listed = self.store.client().list_objects(BUCKET, prefix=prefix, recursive=True)
        return [str(entry.object_name) for entry in listed]

    def committed(self, step: str) -> dict[str, str]:
        """Reference of what a step (`<run>/<step id>`) committed."""
        name, _, id = step.partition("/")
        return json.loads((self.folder / f"{name}-{id}.json").read_text())  # type: ignore[no-any-return]


class FineTune:
    """A run, step by step; each step's result becomes the input of later ones."""

    def __init__(self, checkout: Checkout, name: str, job: dict[str, Any]) -> None:
        self.checkout, self.name, self.job = checkout, name, job
        self.inputs: dict[str, dict[str, str]] = {}

    def fork(self, name: str, **change: Any) -> FineTune:
        """One that shares the dataset and the latents, with another method."""
        job = {key: value for key, value in self.job.items() if key != "lora"}
        copy = FineTune(self.checkout, name, {**job, **change})
        shared = {"prepare", "encode"} & set(self.inputs)
        copy.inputs = {step: self.inputs[step] for step in shared}
        return copy

    def go(self, step: str, expert: str = "Only", **change: Any) -> None:
        """Run a step to its end."""
        id = step + STEP_ID.get(expert, "")
        result = self.checkout.run(*self._arguments(step, expert, **change))
        self.inputs[id] = result["manifest"]
        (self.checkout.folder / f"{self.name}-{id}.json").write_text(json.dumps(result["manifest"]))

    def interrupt(self, step: str, expert: str = "Only", **change: Any) -> None:
        """Begin a training and stop it after its first checkpoint."""
        arguments = self._arguments(step, expert, **change)
        process, log = self.checkout.start(*arguments)
        prefix = f"runs/bits/{self.name}/{UID[:8]}/{step}{STEP_ID.get(expert, '')}/checkpoints/"
        while process.poll() is None:
            if any(key.endswith("manifest.json") for key in self.checkout.keys(prefix)):
                process.send_signal(signal.SIGTERM)
                break
            time.sleep(0.02)
        if process.wait() != 40:
            sys.exit(f"{self.checkout.path}: {step} was not stopped in time:\n{tail(log)}")

    def _arguments(self, step: str, expert: str, **change: Any) -> list[str]:
        store = {"endpoint": self.checkout.store.endpoint, "bucket": BUCKET, "prefix": "runs"}
        about = {"version": 1, "namespace": "bits", "name": self.name, "uid": UID, "image": "bits"}
        job = {**about, "step": step, "expert": expert, "store": store, **self.job, **change}
        file = self.checkout.folder / "job.json"
        file.write_text(json.dumps({**job, "inputs": self._inputs(step)}))
        return [step, "--job", str(file)]

    def _inputs(self, step: str) -> dict[str, dict[str, str]]:
        order = ("prepare", "encode", "train", "export", "sample")
        earlier = order[: order.index(step)]
        return {id: ref for id, ref in self.inputs.items() if id.split("-")[0] in earlier}


class Service:
    """A gateway and a worker."""

    def __init__(
        self, checkout: Checkout, name: str, prefix: str, spec: dict[str, Any], ranks: int
    ) -> None:
        name = name.replace(".", "-")
        folder = checkout.folder / name
        (folder / "keys").mkdir(parents=True)
        (folder / "keys" / "app").write_text(KEY)
        store = {"endpoint": checkout.store.endpoint, "bucket": BUCKET, "prefix": prefix}
        file = folder / "service.json"
        about = {"namespace": "bits", "name": name, "uid": UID, "store": store}
        file.write_text(json.dumps({**about, **spec}))
        port = free_port()
        service = ("--service", str(file))
        listen = ("--keys", str(folder / "keys"), "--host", "127.0.0.1", "--port", str(port))
        work = ("--ranks", str(ranks), "--work", str(folder / "work"))
        self._processes = [
            checkout.start("gateway", *service, *listen),
            checkout.start("worker", *service, *work),
        ]
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=60,
        )

    def __enter__(self) -> Service:
        deadline = time.monotonic() + PATIENCE
        while True:
            self._check(deadline)
            try:
                if self._http.get("/readyz").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.2)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()
        for process, _ in self._processes:
            process.terminate()
        for process, _ in self._processes:
            process.wait()

    def video(self, photo: bytes, **request: Any) -> bytes:
        """The mp4 of a request."""
        picture = f"data:image/png;base64,{base64.b64encode(photo).decode()}"
        body = {"prompt": "a drifting picture", "input_reference": picture, **request}
        answer = self._http.post("/v1/videos", json=body)
        if answer.status_code >= 300:
            self._end(answer.text)
        deadline = time.monotonic() + PATIENCE
        while True:
            self._check(deadline)
            video = self._http.get(f"/v1/videos/{answer.json()['id']}").json()
            if video["status"] == "completed":
                return self._http.get(f"/v1/videos/{video['id']}/content").content
            if video["status"] == "failed":
                self._end(str(video))
            time.sleep(0.2)

    def _check(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            self._end("it takes too long")
        if any(process.poll() is not None for process, _ in self._processes):
            self._end("it has ended")

    def _end(self, text: str) -> None:
        logs = "\n".join(tail(log) for _, log in self._processes)
        self.__exit__(None, None, None)
        sys.exit(f"{text}\n{logs}")


def tail(log: Path) -> str:
    """The end of a log."""
    return log.read_text(errors="replace")[-3000:]
