"""`wan-runtime gateway` as a process: it stops on request, and its death loses nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from object_store import ObjectStore
from serving_processes import Processes
from starting import LIMIT
from unit.serving.test_gateway import ask

pytest_plugins = ["gateway_fixtures"]


@pytest.fixture
def processes(tmp_path: Path, server: ObjectStore, database: str) -> Iterator[Processes]:
    made = Processes(tmp_path, server, database)
    yield made
    made.close()


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


def test_it_stops_on_request(processes: Processes) -> None:
    process, http = processes.start()
    processes.ready(process, http)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT) == 0


def test_what_is_wrong_is_said_at_once(processes: Processes) -> None:
    process, _ = processes.start(WAN_DATABASE_URL="")
    said = process.communicate(timeout=LIMIT)[0]
    assert (process.returncode, "Secret) is not set" in said) == (10, True), said
    (processes.folder / "service.json").write_text('{"name": "x"}')
    process, _ = processes.start()
    said = process.communicate(timeout=LIMIT)[0]
    assert process.returncode == 10
    assert "service.json" in said
    assert "namespace" in said
