"""Candidates that a running service renders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evaluations import Evaluation
from moving import moving_picture
from videos_service import VideosService
from wan_runtime.artifacts.patience import Patience
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.evaluation import CandidateSpec, ServiceAddress, evaluation_of
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Step
from wan_runtime.errors import InfrastructureError, InputError
from wan_runtime.evaluation import client
from wan_runtime.evaluation.client import Client, Refused
from wan_runtime.evaluation.evidence import cost_of
from wan_runtime.evaluation.requested import gpu_seconds_of
from wan_runtime.rendering.media import write_mp4

pytest_plugins = ["evaluation_fixtures"]

SERVED = {"name": "served", "service": {"url": "http://videos", "model": "wan"}}
BUSY = {"code": "queue_full", "message": "the queue is full"}


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    patience = Patience(seconds=20, sleep=made.sleep, clock=lambda: made.now)
    monkeypatch.setattr(client, "Patience", lambda heard: replace(patience, heard=heard))
    return made


@pytest.fixture
def service(evaluation: Evaluation, store: Store) -> Iterator[VideosService]:
    evaluation.upload_few(2)
    evaluation.work["sampling"] = {"steps": 3}
    evaluation.go(Step.COLLECT)
    key = store.parse(evaluation.put("made.mp4", moving_picture(5)))[1]
    with VideosService(store.get_bytes(key)).running() as running:
        key_file = evaluation.folder / "key"
        key_file.write_text("sesame\n")
        address = {"url": running.url, "model": "wan", "keyFile": str(key_file)}
        evaluation.add("served", service=address, profile="Fast")
        yield running


def test_a_service_is_asked_for_every_clip_once(
    evaluation: Evaluation, service: VideosService, clock: Clock, store: Store
) -> None:
    videos = evaluation.generate("served")
    first = service.asked[0]
    assert (first.prompt, first.size, first.frames) == ("a drifting picture 0", "64x48", 9)
    assert (first.seed, first.steps, first.fps, first.quality) == (0, 3, 16, "fast")
    assert (first.model, first.guidance) == ("wan", None)
    assert all(picture.startswith(b"\x89PNG") for picture in service.pictures)
    assert service.authorization == {"Bearer sesame"}
    assert len(set(service.keys)) == 2
    assert clock.slept == [1.5, 1.5], "as the service states"
    for video in videos:
        assert video.video is not None
        assert store.get_bytes(store.parse(video.video.uri)[1]) == service.video
    assert evaluation.generate("served") == videos
    assert len(service.asked) == 2, "what an earlier attempt brought is there"


def test_what_a_video_took_is_the_services_stages_on_its_gpus(
    evaluation: Evaluation, service: VideosService, clock: Clock, store: Store
) -> None:
    evaluation.folder.mkdir(parents=True, exist_ok=True)
    path = evaluation.folder / "stated.mp4"
    write_mp4(moving_picture(5), path, 16, {"comment": json.dumps({"gpus": 4})})
    service.video = path.read_bytes()
    service.completed = {"timings": {"loading": 9, "denoising": 2.5, "decoding": 0.5, "writing": 7}}
    videos = evaluation.generate("served")
    assert {each.gpu_seconds for each in videos} == {12.0}
    assert evaluation.generate("served") == videos, "also of what an earlier attempt brought"
    cost = cost_of(evaluation_of(evaluation.job(Step.SCORE)), CandidateSpec(**SERVED), videos)
    assert cost.clip_gpu_hours == pytest.approx(12 / 3600)
    assert cost.training_gpu_hours is None


@pytest.mark.parametrize("said", [{}, {"timings": None}, {"timings": {"denoising": "soon"}}])
def test_a_service_that_says_nothing_of_its_time_has_no_cost(
    said: dict[str, object], tmp_path: Path
) -> None:
    write_mp4(moving_picture(5), tmp_path / "a.mp4", 16, {"comment": json.dumps({"gpus": 1})})
    assert gpu_seconds_of(said, tmp_path / "a.mp4") is None
    assert gpu_seconds_of({"timings": {"denoising": 1}}, tmp_path / "none.mp4") is None


def test_a_busy_service_is_waited_for_and_refusals_are_in_its_words(
    evaluation: Evaluation, service: VideosService, clock: Clock
) -> None:
    wrong = {"code": "invalid_request", "message": "size: 64x48 is not served here"}
    busy = (429, {"Retry-After": "17"}, {"error": BUSY})
    service.refusals = [busy, (400, {}, {"error": wrong})]
    service.failing["a drifting picture 1"] = {"code": "not_finite", "message": "NaN pixels"}
    refused, failed = evaluation.generate("served")
    assert clock.slept[0] == 17
    assert refused.failure == "invalid_request: size: 64x48 is not served here"
    assert failed.failure == "not_finite: NaN pixels"


def test_what_is_no_videos_api_is_a_failure(
    evaluation: Evaluation, service: VideosService, clock: Clock
) -> None:
    service.refusals = [(200, {}, {}), (404, {}, {"detail": "Not Found"})]
    failures = [each.failure for each in evaluation.generate("served")]
    assert failures == [
        "the service answered without the id of a video",
        "HTTP 404 without a reason",
    ]


def test_what_is_no_video_is_a_failure(
    evaluation: Evaluation, service: VideosService, clock: Clock
) -> None:
    service.video = service.video[:300]
    failures = {each.failure for each in evaluation.generate("served")}
    assert failures == {"what the service sent holds no video stream"}


def test_a_wrong_key_and_a_shift_end_the_step(
    evaluation: Evaluation, service: VideosService, clock: Clock
) -> None:
    service.refusals = [(401, {}, {"error": {"message": "Invalid key"}})]
    with pytest.raises(InputError, match="refuses the API key: Invalid key") as wrong:
        evaluation.generate("served")
    assert wrong.value.reason is Reason.JOB_INVALID
    with pytest.raises(InputError, match="a request cannot state a shift"):
        evaluation.generate("served", work={"sampling": {"shift": 3}})


def test_a_service_that_is_away(clock: Clock) -> None:
    heard = list[str]()
    away = Client(ServiceAddress(url="http://127.0.0.1:9", model="wan"), heard.append)
    with pytest.raises(InfrastructureError, match="does not answer: nothing listens there") as gone:
        away.create({}, b"", "key")
    assert gone.value.reason is Reason.SERVICE_UNREACHABLE
    assert set(heard) == {"http://127.0.0.1:9: nothing listens there"}
    assert sum(clock.slept) == pytest.approx(20)


def test_a_video_that_never_changes(service: VideosService, clock: Clock) -> None:
    stuck = Client(ServiceAddress(url=service.url, model="wan"))
    service._poll = lambda video_id: (200, {}, {"status": "in_progress"})  # type: ignore[method-assign]
    with pytest.raises(Refused, match="is in_progress and has not changed for 30 minutes"):
        stuck.wait("video_0")
