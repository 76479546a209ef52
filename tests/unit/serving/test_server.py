"""`wan-runtime gateway` as a process: it stops on request, and its death loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore, free_port
from running_gateway import KEYS, service_spec
from unit.serving.test_gateway import ask

pytest_plugins = ["gateway_fixtures"]


class Processes:
    """Gateways of one service, each on a port of its own."""

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
        self.running: list[subprocess.Popen[str]] = []

    def start(self, **environment: str) -> tuple[subprocess.Popen[str], httpx.Client]:
        port = free_port()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "wan_runtime", "gateway"),
                *("--service", str(self.folder / "service.json")),
                *("--keys", str(self.folder / "keys"), "--host", "127.0.0.1", "--port", str(port)),
            ],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.running.append(process)
        headers = {"Authorization": f"Bearer {KEYS['app']}"}
        return process, httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60
        )

    def ready(self, process: subprocess.Popen[str], http: httpx.Client) -> None:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, "not ready"
            try:
                if http.get("/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)


@pytest.fixture
def processes(tmp_path: Path, server: ObjectStore, database: str) -> Iterator[Processes]:
    made = Processes(tmp_path, server, database)
    yield made
    for process in made.running:
        process.kill()
        process.communicate()


def test_killed_outright_it_loses_nothing(processes: Processes) -> None:
    (first, http), (second, other) = processes.start(), processes.start()
    processes.ready(first, http)
    processes.ready(second, other)
    videos = [ask(client).json()["id"] for client in (http, other)]
    first.kill()
    listed = other.get("/v1/videos").json()["data"]
    assert {video["id"] for video in listed} == set(videos)
    again, third = processes.start()
    processes.ready(again, third)
    assert third.get(f"/v1/videos/{videos[0]}").json()["status"] == "queued"
    for client in (http, other, third):
        client.close()


def test_it_stops_on_request(processes: Processes) -> None:
    process, http = processes.start()
    processes.ready(process, http)
    http.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_what_is_wrong_is_said_at_once(processes: Processes) -> None:
    process, http = processes.start(WAN_DATABASE_URL="")
    http.close()
    said = process.communicate(timeout=60)[0]
    assert (process.returncode, "WAN_DATABASE_URL is not set" in said) == (10, True), said
    (processes.folder / "service.json").write_text('{"name": "x"}')
    process, http = processes.start()
    http.close()
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 10
    assert "service.json" in said
    assert "namespace" in said
