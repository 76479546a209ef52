"""The step `rate`, from the links to the committed ratings."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from evaluations import Evaluation
from moving import moving_picture
from ports import free_port
from running_gateway import plain
from starting import LIMIT
from wan_runtime.artifacts import documents, manifest
from wan_runtime.artifacts.manifest import Lineage
from wan_runtime.contract.job import ExitClass, Result
from wan_runtime.contract.steps import Step
from wan_runtime.errors import InfrastructureError
from wan_runtime.evaluation.rating import server
from wan_runtime.evaluation.rating.links import Links
from wan_runtime.evaluation.records import RATINGS, SCORES, Measured, Ratings, Scores
from wan_runtime.process import job_file

pytest_plugins = ["evaluation_fixtures"]

TESTS = Path(__file__).parents[2]
MARKS = {"dynamics": 4, "camera_control": 3, "frame_quality": 5, "accuracy": 2}


@pytest.fixture
def rated(evaluation: Evaluation) -> Evaluation:
    """Two clips, two candidates; one video is missing."""
    evaluation.upload_few()
    for name in ("base", "ours"):
        evaluation.add(name)
        evaluation.put(f"{name}/clip-0001.mp4", moving_picture(5))
    evaluation.put("ours/clip-0002.mp4", moving_picture(6))
    evaluation.go(Step.COLLECT)
    for name in ("base", "ours"):
        evaluation.go(Step.GENERATE, candidate=name)
    evaluation.work["ratings"] = {"raters": ["ann"], "repeats": 1}
    return evaluation


def prefix(evaluation: Evaluation) -> str:
    return f"{evaluation.job(Step.RATE).output_prefix}/ratings"


def open_since(evaluation: Evaluation, seconds: float) -> None:
    Links.opened_at(
        evaluation.store, prefix(evaluation), ["ann"], datetime.now(UTC) - timedelta(0, seconds)
    )


def ratings(evaluation: Evaluation) -> Ratings:
    return documents.read(evaluation.store, evaluation.inputs["rate"], RATINGS, Ratings)


@contextmanager
def client(evaluation: Evaluation, port: int) -> Iterator[httpx.Client]:
    """Below the link of ann, once the page is ready."""
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            with plain(f"http://127.0.0.1:{port}") as http:
                assert http.get("/readyz").is_success
                break
        except httpx.TransportError:
            assert time.monotonic() < deadline, "the page does not start"
            time.sleep(0.05)
    links = json.loads(evaluation.store.get_bytes(f"{prefix(evaluation)}/links.json"))
    with plain(f"http://127.0.0.1:{port}/rate/{links['raters']['ann']}/") as http:
        yield http


def save(http: httpx.Client, item: dict[str, Any]) -> httpx.Response:
    return http.put(f"judgements/{item['id']}", json={"scores": MARKS})


class Pod:
    """The step's process, with a port of its own."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.folder = evaluation.folder
        (self.folder / "job.json").write_text(
            evaluation.job(Step.RATE).model_dump_json(by_alias=True)
        )
        (self.folder / "work").mkdir(exist_ok=True)
        self.port, self.log = free_port(), self.folder / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rating_process", "rate", "job.json", "work", "."],
                cwd=self.folder,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
                    "WAN_RATING_PORT": str(self.port),
                    "WAN_TEST_KILLED": str(self.folder / "killed"),
                },
                stderr=log,
            )

    def result(self) -> Result:
        return Result.model_validate_json((self.folder / "result.json").read_bytes())


@pytest.fixture
def start(rated: Evaluation) -> Iterator[Callable[[], Pod]]:
    """Starts the step's process; killed at the end."""
    with ExitStack() as stack:

        def start() -> Pod:
            pod = Pod(rated)
            stack.enter_context(pod.process)
            stack.callback(pod.process.kill)
            return pod

        yield start


def test_a_kill_in_the_midst_of_a_save_loses_nothing(
    rated: Evaluation, start: Callable[[], Pod], monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = start()
    with client(rated, pod.port) as http:
        items = http.get("session").json()["items"]
        assert len(items) == 3 + 2 + 1, "the videos, the recordings and a repeat"
        with pytest.raises(httpx.TransportError):
            save(http, items[0])
    assert pod.process.wait(LIMIT) == -9
    made = list(rated.store.list(f"{rated.job(Step.RATE).output_prefix}/references/"))
    pod = start()
    with client(rated, pod.port) as http:
        answers = [item["answer"] for item in http.get("session").json()["items"]]
        assert answers == [{"scores": MARKS}, *[None] * 5], "it was stored, and so it counts"
        assert save(http, items[0]).is_success
        save(http, items[1])
    pod.process.terminate()
    assert pod.process.wait(LIMIT) == ExitClass.STOPPED
    assert pod.result().exit_class is ExitClass.STOPPED
    tokens = json.loads(rated.store.get_bytes(f"{prefix(rated)}/links.json"))
    said = pod.log.read_text() + (pod.folder / "progress.json").read_text()
    assert "waiting for ratings" in said
    assert not any(token in said for token in (tokens["admin"], tokens["raters"]["ann"]))

    monkeypatch.setenv("WAN_RATING_PORT", str(free_port()))

    def rest() -> None:
        with client(rated, int(os.environ["WAN_RATING_PORT"])) as http:
            for item in http.get("session").json()["items"]:
                if item["answer"] is None:
                    save(http, item)

    hands = threading.Thread(target=rest)
    hands.start()
    outcome = rated.go(Step.RATE)
    hands.join()
    found = ratings(rated)
    assert (found.complete, found.simulated, len(found.ratings)) == (True, False, 6)
    assert sorted((each.clip, each.candidate) for each in found.ratings if not each.repeat) == [
        ("clip-0001", "base"), ("clip-0001", "ours"), ("clip-0001", "reference"),
        ("clip-0002", "ours"), ("clip-0002", "reference"),
    ]  # fmt: skip
    assert outcome.message == "6 of 6 ratings by 1 rater"
    again = list(rated.store.list(f"{rated.job(Step.RATE).output_prefix}/references/"))
    assert [each.modified for each in again] == [each.modified for each in made]
    assert len(made) == 2, "recordings are made once"


def test_the_deadline_may_be_edited_while_people_rate(
    rated: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAN_RATING_PORT", str(free_port()))
    monkeypatch.setattr(server, "POLL_SECONDS", 0.05)
    file = rated.folder / "job.json"
    monkeypatch.setattr(job_file, "_path", file)
    open_since(rated, 100)

    def edit(**change: Any) -> None:
        work = {"ratings": {**rated.work["ratings"], **change}}
        file.write_text(rated.job(Step.RATE, work=work).model_dump_json(by_alias=True))

    def shorten() -> None:
        with client(rated, int(os.environ["WAN_RATING_PORT"])) as http:
            file.write_text("{")  # as in the midst of a write: it stays as it was
            save(http, http.get("session").json()["items"][0])
            edit(deadlineSeconds=60, repeats=0)  # something else is asked for: of another job
            assert http.get("session").is_success
            edit(deadlineSeconds=60)

    edit()
    hands = threading.Thread(target=shorten)
    hands.start()
    outcome = rated.go(Step.RATE)
    hands.join()
    assert outcome.message == "1 of 6 ratings by 1 rater; the deadline came first"


def test_a_port_that_is_taken(rated: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    rated.work["ratings"]["hiddenReferences"] = False
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("WAN_RATING_PORT", f"{port}")
        said = rf"port {port} \(WAN_RATING_PORT\): address already in use; choose a free one"
        with pytest.raises(InfrastructureError, match=said):
            rated.go(Step.RATE)


def test_no_video_at_all(evaluation: Evaluation) -> None:
    evaluation.upload_few()
    evaluation.add("ours")
    evaluation.put("ours/other.mp4", moving_picture(5))
    evaluation.go(Step.COLLECT)
    evaluation.go(Step.GENERATE, candidate="ours")
    evaluation.work["ratings"] = {"raters": ["ann"], "hiddenReferences": False}
    assert evaluation.go(Step.RATE).message == "0 of 0 ratings by 1 rater"


def test_nobody_rates_before_the_deadline(
    rated: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAN_RATING_PORT", "0")
    rated.work["ratings"].update(deadlineSeconds=60, hiddenReferences=False)
    open_since(rated, 59.5)
    outcome = rated.go(Step.RATE)
    found = ratings(rated)
    assert (found.complete, found.ratings, found.raters) == (False, (), ("ann",))
    assert outcome.message == "0 of 4 ratings by 1 rater; the deadline came first"


def test_simulated_ratings_follow_the_metrics_and_say_so(rated: Evaluation) -> None:
    values = {"base": {"psnr": 10.0, "ssim": 0.2}, "ours": {"psnr": 30.0, "ssim": 0.8}}
    scores = Scores(
        measured=tuple(
            Measured(clip=clip, candidate=name, values=each)
            for name, each in values.items()
            for clip in ("clip-0001", "clip-0002")
        )
    )
    folder = rated.folder / "scores"
    folder.mkdir()
    job = rated.job(Step.SCORE)
    rated.inputs["score"] = manifest.commit(
        rated.store, job.output_prefix, {SCORES: documents.written(scores, folder / SCORES)},
        kind="scores", lineage=Lineage.of(job), summary={},
    )  # fmt: skip
    rated.work["ratings"].update(simulated=True, raters=["ann", "bob"])
    outcome = rated.go(Step.RATE)
    found = ratings(rated)
    assert (found.simulated, found.complete, len(found.ratings)) == (True, True, 12)

    def mean(name: str) -> float:
        marks = [
            m for each in found.ratings if each.candidate == name for m in each.scores.values()
        ]
        return sum(marks) / len(marks)

    assert mean("base") + 2 < mean("ours") <= mean("reference")
    assert re.match("12 of 12 simulated ratings", outcome.message)
    rated.go(Step.RATE)
    again = [each.scores for each in ratings(rated).ratings]
    assert again == [each.scores for each in found.ratings]
    rated.work["ratings"]["mode"] = "Pairs"
    rated.go(Step.RATE)
    won = [each.left if each.chosen == "Left" else each.right for each in ratings(rated).choices]
    assert "reference" in won
    assert "base" not in won
