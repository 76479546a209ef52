"""Heartbeats: what gives them, who takes them for life, and what becomes of a step without any."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from job_files import make_job
from object_store import ObjectStore
from ports import free_port
from supervised import Pod
from wan_operator.resources.labels import Owner
from wan_operator.resources.meeting import meeting_env
from wan_runtime import heartbeat
from wan_runtime.artifacts.store import PART_BYTES, Store, file_sha256
from wan_runtime.contract.job import Progress
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Step
from wan_runtime.models import imported
from wan_runtime.models.digest import file_digest
from wan_runtime.models.dit.transformer import Pass
from wan_runtime.models.imported import alone
from wan_runtime.models.weights import SafetensorsFiles, stream_safetensors
from wan_runtime.presets import PRESETS
from wan_runtime.process import stuck
from wan_runtime.process.launch import Place, other_pods
from wan_runtime.process.pages import HEARTBEATS, ProgressFile, Server
from wan_runtime.process.progress import Reporter
from wan_runtime.process.stuck import Others, Patience, Silence
from wan_runtime.threads import in_order
from wan_runtime.training import sample


@pytest.fixture
def beats(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[None]]:
    """One entry for each heartbeat."""
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.0)
    heard: list[None] = []
    heartbeat.pass_on(lambda: heard.append(None))
    yield heard
    heartbeat.pass_on(None)


def test_heartbeats_are_passed_on_once_a_second(
    beats: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 1.0)
    now = [7.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    for seconds in (7.0, 7.9, 8.0, 8.5, 20.0):
        now[0] = seconds
        heartbeat.beat()
    assert len(beats) == 3
    heartbeat.pass_on(None)
    heartbeat.beat()


CONTENT = bytes(PART_BYTES + 1)


def put(store: Store, folder: Path) -> None:
    store.put_bytes("large", CONTENT)


def get(store: Store, folder: Path) -> None:
    store.stream("large", lambda chunk: None)


def hash_two_ways(store: Store, folder: Path) -> None:
    (folder / "file").write_bytes(CONTENT)
    assert file_sha256(folder / "file") == file_digest(folder / "file")


def tensors(store: Store, folder: Path) -> None:
    path, layout = folder / "a.safetensors", {"a": (torch.float32, torch.Size([2]))}
    stream_safetensors(path, layout, lambda name: torch.zeros(2), {})
    with SafetensorsFiles([path]) as files:
        files["a"]


def threads(store: Store, folder: Path) -> None:
    list(in_order(str, range(2), threads=1))


def count(store: Store, folder: Path) -> None:
    advance = Reporter("train", terminal=False).counting("fetching", 10**12)
    advance(1)
    advance(1)


def sample_with_stock_pipeline(store: Store, folder: Path) -> None:
    """It calls no transformer of ours."""

    def pipe(progress_bar_cmd: Callable[[Any], Any], **_: Any) -> torch.Tensor:
        assert list(progress_bar_cmd(range(2))) == [0, 1]
        return torch.zeros(1, 3, 5, 16, 16)

    frames = np.zeros((5, 16, 16, 3), np.uint8)
    sample.render(pipe, PRESETS["Wan2.1-I2V-Tiny"], make_job(), "a fox", frames)


def run_transformer(store: Store, folder: Path) -> None:
    transformer: Any = SimpleNamespace(_velocity=lambda *_: None)
    through = Pass(transformer, *[cast(Any, None)] * 4)
    for _ in range(2):
        through.velocity(torch.zeros(1), torch.zeros(1))


WORK = (
    put, get, hash_two_ways, tensors, threads, count, sample_with_stock_pipeline, run_transformer
)  # fmt: skip


@pytest.mark.parametrize("work", WORK)
def test_each_part_of_long_work_is_a_heartbeat(
    work: Callable[[Store, Path], None], store: Store, tmp_path: Path, beats: list[None]
) -> None:
    if work is get:
        store.put_bytes("large", CONTENT)
        beats.clear()
    work(store, tmp_path)
    assert len(beats) >= 2


def test_a_pod_that_waits_for_another_lives(
    tmp_path: Path, beats: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imported, "LOCK_SECONDS", 0.01)
    let_go = threading.Event()
    monkeypatch.setattr(heartbeat, "_receiver", let_go.set)
    taken = threading.Event()

    def other() -> None:
        with alone(tmp_path / "lock"):
            taken.set()
            let_go.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    assert taken.wait(60)
    with alone(tmp_path / "lock"):
        assert let_go.is_set()
    thread.join()


def test_silence_is_counted_from_the_last_heartbeat_of_any_pod() -> None:
    silence = Silence(Patience(silence=60))
    assert silence.overdue(0.0, (1, 1), "starting") is None
    assert silence.overdue(59.0, (1, 2), "starting") is None
    assert silence.overdue(118.0, (1, 2), "starting") is None
    assert silence.overdue(119.0, (1, 2), "loading the model") == (
        "no sign of progress for 60 s while loading the model"
    )


def test_time_in_which_the_pod_stood_still_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a frozen container: supervisor and step stand still together."""
    now, seen = [0.0], []

    def overdue(self: Silence, watched: float, *_: object) -> None:
        seen.append(watched)
        now[0] += 1000.0

    monkeypatch.setattr(stuck.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Silence, "overdue", overdue)
    watch: Any = object.__new__(stuck.Watch)
    watch._patience, watch._folders, watch._others = Patience(every=5.0), [], tuple
    watch._read = lambda: (Progress(step_id="train", activity="starting"), True)
    watch._over = type("Over", (), {"wait": lambda self, seconds: len(seen) > 3})()
    watch._run()
    assert seen == [0.0, 10.0, 20.0, 30.0]


def test_the_first_pod_asks_the_others(tmp_path: Path) -> None:
    number = [5]
    server = Server(ProgressFile(tmp_path, "train"), 0, lambda: number[0])
    addresses = [f"http://127.0.0.1:{port}{HEARTBEATS}" for port in (server.port, free_port())]
    others = Others(addresses, every=0)
    assert others() == (5, 0)
    number[0] = 6
    assert others() == (6, 0)
    server.close()
    assert others() == (6, 0), "one that does not answer gives no heartbeat"


def test_other_pods_are_named_as_the_operator_names_them() -> None:
    owner = Owner(kind="WanFineTune", label="run", namespace="ns", name="run-0", uid="uid")
    env = meeting_env(owner, "train", 2)
    address = {each["name"]: each["value"] for each in env}["MASTER_ADDR"]
    places = [Place(rank, 6, rank, 2, address) for rank in range(2)]
    first, _, domain = address.partition(".")
    assert other_pods(places) == [f"{first[:-1]}{number}.{domain}" for number in (1, 2)]
    assert other_pods([Place()]) == []


def test_a_step_that_hangs_before_it_counts_anything_ends(
    tmp_path: Path, server: ObjectStore, credentials: None, request: pytest.FixtureRequest
) -> None:
    """Any step, not training alone."""
    pod = Pod(tmp_path, server, "load_and_hang", Step.PREPARE)
    request.addfinalizer(pod.close)
    pod.until("loading the model")
    (pod.work / "silent").touch()
    ended = pod.end()
    assert ended.result.reason is Reason.STEP_STUCK
    assert re.fullmatch(
        r"the step is stuck: no sign of progress for \d s while loading the model; the log has the "
        "stacks",
        ended.result.message,
    )
    logged = [json.loads(line)["message"] for line in ended.output.splitlines()]
    [stacks] = [message for message in logged if "stacks of local rank 0" in message]
    assert "in wait_here" in stacks
