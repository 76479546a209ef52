"""Gateways and workers of one service as processes of `wan-runtime`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from ports import free_port
from running_gateway import KEYS, service_spec
from starting import LIMIT
from wan_runtime.models import tiny
from wan_runtime.presets import PRESETS


def executed(
    module: str, *arguments: str, env: Mapping[str, str], log: int
) -> subprocess.Popen[bytes]:
    """`python -m MODULE`. `log`: file descriptor of standard output and error."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, env=env, stdout=log, stderr=log)


class Processes:
    """Of one service; each gateway on a port of its own."""

    run: Callable[..., subprocess.Popen[Any]] = staticmethod(executed)
    """Starts a worker."""

    def __init__(self, folder: Path, server: ObjectStore, database: str) -> None:
        self.folder = folder
        (folder / "keys").mkdir()
        (folder / "keys" / "app").write_text(KEYS["app"])
        service = service_spec(server, f"p{time.monotonic_ns():x}")
        (folder / "service.json").write_text(service.model_dump_json(by_alias=True))
        self.environment = {
            **os.environ,
            "WAN_DATABASE_URL": database,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "WAN_PROGRESS_PORT": "0",
        }
        self.running: list[subprocess.Popen[Any]] = []
        self.workers: list[subprocess.Popen[Any]] = []
        self.clients = ExitStack()
        """Closed at the end, however it comes: a socket that is collected open fails the test that
        runs by then."""

    def close(self) -> None:
        """Kill the processes and close the clients."""
        for process in self.running:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self.clients.close()

    def start(
        self, *, log: Path | None = None, **environment: str
    ) -> tuple[subprocess.Popen[str], httpx.Client]:
        """`log`: file of what it says; None: a pipe, for what says little."""
        port = free_port()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "wan_runtime", "gateway"),
                *("--service", str(self.folder / "service.json")),
                *("--keys", str(self.folder / "keys"), "--host", "127.0.0.1", "--port", str(port)),
            ],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE if log is None else log.open("w"),
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.running.append(process)
        headers = {"Authorization": f"Bearer {KEYS['app']}"}
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60)
        return process, self.clients.enter_context(client)

    def ready(self, process: subprocess.Popen[str], http: httpx.Client) -> None:
        deadline = time.monotonic() + LIMIT
        while True:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, "not ready"
            try:
                if http.get("/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)

    def start_worker(self, *arguments: str, **environment: str) -> subprocess.Popen[Any]:
        number = len(self.running)
        with (self.folder / f"worker-{number}.log").open("w") as log:
            process = self.run(
                *("wan_runtime", "worker", "--service", str(self.folder / "service.json")),
                *("--work", str(self.folder / f"work-{number}"), *arguments),
                env={**self.environment, **environment},
                log=log.fileno(),
            )
        self.running.append(process)
        self.workers.append(process)
        return process


class Whole(Processes):
    """A service of Wan2.1-I2V-Tiny, small and quick."""

    def __init__(self, folder: Path, server: ObjectStore, database: str, **change: Any) -> None:
        super().__init__(folder, server, database)
        tiny.write(PRESETS["Wan2.1-I2V-Tiny"], folder / "model")
        service = service_spec(
            server,
            f"w{time.monotonic_ns():x}",
            model={"preset": "Wan2.1-I2V-Tiny", "path": str(folder / "model")},
            adapters=[],
            effects=[],
            **{
                "sizes": [{"width": 64, "height": 48}],
                "defaults": {"frames": 5, "steps": 6},
                **change,
            },
        )
        (folder / "service.json").write_text(service.model_dump_json(by_alias=True))


def wait(http: httpx.Client, video: str, *, step: int | None = None) -> dict[str, Any]:
    """Until it has ended; or has done so many steps."""
    while True:
        found: dict[str, Any] = http.get(f"/v1/videos/{video}").json()
        if found["status"] in ("completed", "failed") or (step and (found["step"] or 0) >= step):
            return found
        time.sleep(0.02)
