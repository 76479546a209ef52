"""The worker's parts that need no gang: advice, files of adapters, restarts."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from renders import make_order, make_task
from wan_runtime import cli
from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import Lineage
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.job import Certificate
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.report import PROBLEM_CHARACTERS
from wan_runtime.contract.service import AdapterSpec, AdapterUse, Size
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InfrastructureError, InputError, StepError
from wan_runtime.models.adapters import files as adapter_files
from wan_runtime.models.adapters.files import AdapterFiles, by_expert
from wan_runtime.presets import PRESETS
from wan_runtime.process.ranks import RankDied, RanksLost
from wan_runtime.rendering.order import Job, Problem, Stage, VideoOrder
from wan_runtime.serving.planned import Workers
from wan_runtime.serving.problems import Code
from wan_runtime.serving.worker import production
from wan_runtime.serving.worker.adapter_notes import noted
from wan_runtime.serving.worker.advice import advice
from wan_runtime.serving.worker.attempt import Attempt, Timing
from wan_runtime.serving.worker.messages import Alive, Beat, Failed, Pace, Ready
from wan_runtime.serving.worker.problems import UNFORESEEN, problem_of
from wan_runtime.serving.worker.processes import SETTLE_SECONDS, Patience, Processes, RanksFailed
from wan_runtime.serving.worker.production import Eta
from wan_runtime.serving.worker.restarts import BUDGET, Restarts

PAIR, ONE = PRESETS["Wan2.2-I2V-A14B"], PRESETS["Wan2.1-I2V-14B-720P"]
SIZES = (Size(width=832, height=480), Size(width=1280, height=720))


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("NVIDIA L40S", "what would fit: "),
        ("NVIDIA H100 80GB HBM3", "by the planner it fits a GPU of type H100"),
        ("CPU", "ask for fewer frames or a smaller size"),
    ],
)
def test_advice_of_the_planner(device: str, told: str) -> None:
    order = make_order(size=SIZES[1], frames=161, steps=40)
    text = advice(order, PAIR, SIZES, device, "Lossless", 1)
    assert told in text
    assert ("or size 832x480 or a GPU of type " in text) == ("L40S" in device)


def test_advice_is_of_transformers_as_the_worker_has_them() -> None:
    order = make_order(size=SIZES[1], frames=81, steps=40)
    assert order.profile is None, "the service's"
    streamed, whole = (
        advice(order, PAIR, SIZES, "NVIDIA GeForce RTX 4090", own, 1)
        for own in ("Lossless", "Exact")
    )
    assert "by the planner it fits a GPU of type RTX-4090-24GB" in streamed
    assert whole == "by the planner, what would fit: a GPU of type A100-40GB"


def test_the_end_is_told_by_the_steps_that_are_left_to_compute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, attempt = clock_of(make_order(steps=40, profile="Lossless"))
    now = 100.0
    monkeypatch.setattr(production.time, "monotonic", lambda: now)

    def told(stage: Stage, step: int, left: int) -> float | None:
        clock.beat(Beat(rank=0, job_id="video_1", stage=stage, step=step, left=left))
        return attempt.advance.eta_seconds

    assert told(Stage.LOADING, 0, 20) == 20 * 10.0 + 7.0
    assert told(Stage.DENOISING, 0, 20) == 20 * 10.0 + 7.0
    now += 4 * 8.0
    assert told(Stage.DENOISING, 4, 16) == 16 * 8.0 + 7.0
    assert told(Stage.DENOISING, 10, 16) == 16 * 8.0 + 7.0, "none of the six was computed"
    now += 16 * 8.0
    assert told(Stage.DECODING, 40, 0) == 7.0


@pytest.mark.parametrize(
    ("change", "step", "decoding"),
    [
        ({}, 10.0, 5.0),
        ({"guidance": 1.0, "guidance_low": 1.0}, 5.0, 5.0),
        ({"profile": "Fast"}, 10.0 * 7.275 / 10.046, 5.0),
        ({"frames": 41}, 10.0 * 0.38, 5.0 * 11 / 21),  # attention is half of 81 frames
    ],
)
def test_the_first_end_that_is_told_is_of_the_video_not_of_the_warm_up(
    change: dict[str, Any], step: float, decoding: float
) -> None:
    whole = {"size": Size(width=1280, height=720), "frames": 81}
    clock, attempt = clock_of(make_order(**{**whole, **change}))
    clock.beat(Beat(rank=0, job_id="video_1", stage=Stage.LOADING, step=0, left=40))
    assert attempt.advance.eta_seconds == pytest.approx(40 * step + decoding + 2.0, rel=0.02)


def clock_of(order: VideoOrder) -> tuple[Eta, Attempt]:
    """Of a worker that warmed up with guidance, 81 frames if the order is of 1280x720."""
    frames = 81 if order.size.width == 1280 else order.frames
    pace = Pace(
        tokens=10**6, frames=frames, guided=True, step_seconds=10.0, stages={Stage.DECODING: 5.0}
    )
    ready = Ready.model_construct(paces={str(order.size): pace}, profile="Lossless")
    attempt = Attempt(
        cast(Any, None), "w", Job.model_construct(id="video_1", order=order), Timing()
    )
    return Eta(ready, attempt, Workers(preset="Wan2.2-I2V-A14B"), writing=2.0), attempt


@pytest.mark.parametrize(
    ("code", "end", "told"),
    [
        (Code.INTERNAL, RankDied("rank 1 was killed by signal 9"), None),
        (Code.OUT_OF_MEMORY, RankDied("rank 1 was killed by signal 9"), Code.OUT_OF_MEMORY),
        (Code.INTERNAL, RanksLost("no step of rank 1 for 10 s"), Code.INTERNAL),
    ],
)
async def test_what_ranks_say_of_one_that_died_is_no_problem_of_the_video(
    code: Code, end: RanksLost, told: Code | None, tmp_path: Path
) -> None:
    """Their collectives fail without it, often before its end is seen."""
    task = make_task(tmp_path)
    said: Any = iter([(0, Failed(rank=0, job_id=task.job_id, code=code, message="away")), end])

    class Two:
        def __len__(self) -> int:
            return 2

        def send(self, *_: object) -> None: ...

        async def receive(self, *_: object) -> tuple[int, Failed]:
            match next(said):
                case RanksLost() as lost:
                    raise lost
                case report:
                    return cast(tuple[int, Failed], report)

    processes = Processes(Patience())
    processes._ranks = cast(Any, Two())
    with pytest.raises(RanksFailed) as caught:
        await processes.render(task, 1, lambda _: None)
    assert (caught.value.problem and caught.value.problem.code) == told


async def test_a_start_may_take_long_that_gets_on() -> None:
    """What is waited for is counted from the last heartbeat."""
    deadlines = []
    ready = cast(Ready, Ready.model_construct(rank=0))
    said = iter([Alive(rank=0), Alive(rank=0), ready])

    class One:
        def __len__(self) -> int:
            return 1

        async def receive(self, deadline: float, what: str) -> tuple[int, object]:
            deadlines.append(deadline)
            return 0, next(said)

    processes = Processes(Patience())
    processes._ranks = cast(Any, One())
    await processes.begin()
    assert processes.ready == [ready]
    assert deadlines[0] < deadlines[1] < deadlines[2]


async def test_a_heartbeat_gives_a_rank_time_until_another_has_failed(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    failed = Failed(rank=0, job_id=task.job_id, code=Code.INTERNAL, message="away")
    said: Any = iter([Alive(rank=1), failed, Alive(rank=1), RanksLost("silent")])
    left = []

    class Two:
        def __len__(self) -> int:
            return 2

        def send(self, *_: object) -> None: ...

        async def receive(self, deadline: float, what: str) -> tuple[int, object]:
            left.append(deadline - time.monotonic())
            match next(said):
                case RanksLost() as lost:
                    raise lost
                case report:
                    return report.rank, report

    processes = Processes(Patience())
    processes._ranks = cast(Any, Two())
    with pytest.raises(RanksFailed):
        await processes.render(task, 1, lambda _: None)
    assert all(each > SETTLE_SECONDS for each in left[:2])
    assert all(each <= SETTLE_SECONDS for each in left[2:])


def test_the_file_of_each_transformer() -> None:
    high, low, only = Expert.HIGH_NOISE, Expert.LOW_NOISE, Expert.ONLY
    pair = {high: "a", low: "b"}
    assert by_expert(pair, PAIR, None) == {high: high, low: low}
    assert by_expert(pair, PAIR, low) == {low: low}
    assert by_expert({only: "a", high: "b"}, PAIR, None) == {high: high, low: only}
    assert by_expert({only: "a"}, ONE, None) == {only: only}
    with pytest.raises(InputError, match=r"it has files for HighNoise, LowNoise; .* wants .* Only"):
        by_expert(pair, ONE, None)
    with pytest.raises(InputError, match="wants one for LowNoise"):
        by_expert({high: "a"}, PAIR, low)


@pytest.fixture
def store(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    return Store.connect(server.spec())


def test_files_are_fetched_again_once_they_are_others(store: Store, tmp_path: Path) -> None:
    spec = AdapterSpec(
        name="a",
        files={Expert.ONLY: store.uri("parts/any"), Expert.LOW_NOISE: store.uri("parts/low")},
    )
    use = AdapterUse(name="a")
    rank = AdapterFiles(store, tmp_path / "adapters", PAIR)
    supervisor = AdapterFiles(store, tmp_path / "adapters", PAIR)
    with pytest.raises(InputError, match=f"{store.uri('parts/any')} does not exist"):
        rank.apply(spec, use)
    assert not supervisor.renew(spec)
    for name in ("any", "low"):
        store.put_bytes(f"parts/{name}", name.encode())
    assert supervisor.renew(spec)
    first = rank.apply(spec, use).files
    assert (first[Expert.HIGH_NOISE].shared, first[Expert.LOW_NOISE].shared) == (True, False)
    assert first[Expert.LOW_NOISE].address == store.uri("parts/low")
    assert not supervisor.renew(spec), "what the other process fetched is known"
    store.put_bytes("parts/low", b"mended")
    assert supervisor.renew(spec)
    second = supervisor.apply(spec, use).files
    assert Path(second[Expert.LOW_NOISE].path).read_bytes() == b"mended"
    assert second[Expert.LOW_NOISE].sha256 != first[Expert.LOW_NOISE].sha256
    assert second[Expert.HIGH_NOISE] == first[Expert.HIGH_NOISE]
    assert not supervisor.renew(spec)


def test_a_model_is_not_fetched_as_an_adapter(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = AdapterSpec(name="a", files={Expert.ONLY: store.uri("parts/model")})
    store.put_bytes("parts/model", bytes(3 * 2**20))
    monkeypatch.setattr(adapter_files, "LARGEST", 2**21)
    files = AdapterFiles(store, tmp_path, PAIR)
    said = f"{store.uri('parts/model')} has 0.0 GiB, and an adapter at most 0: a model is named as"
    with pytest.raises(InputError, match=said):
        files.apply(spec, AdapterUse(name="a"))
    assert not list(tmp_path.rglob("*.safetensors"))


def test_an_artifact_brings_its_certified_files(store: Store, tmp_path: Path) -> None:
    names = ("style-high-noise.safetensors", "style-low-noise.safetensors", "style.comfyui")
    for name in names:
        (tmp_path / name).write_text(name)
    ref = manifest.commit(
        store, "artifact", {name: tmp_path / name for name in names}, kind="weights", summary={},
        lineage=Lineage(config_hash="0" * 64, preset=PAIR.name),
        certificates=(
            Certificate(
                format=Dialect.DIFFSYNTH, consumer="none", worst_difference=0, files=names[:2]
            ),
        ),
    )  # fmt: skip
    files = AdapterFiles(store, tmp_path / "adapters", PAIR)
    spec = AdapterSpec(name="style", artifact=ref, strength=0.7)
    applied = files.apply(spec, AdapterUse(name="style"))
    assert applied.strength == 0.7
    assert {expert: Path(file.path).read_text() for expert, file in applied.files.items()} == {
        Expert.HIGH_NOISE: names[0],
        Expert.LOW_NOISE: names[1],
    }
    assert applied.files[Expert.LOW_NOISE].address == store.uri(f"artifact/{names[1]}")
    assert not files.renew(spec)
    stronger = AdapterUse(name="style", strength=2, expert=Expert.LOW_NOISE)
    assert files.apply(spec, stronger).files == {Expert.LOW_NOISE: applied.files[Expert.LOW_NOISE]}
    assert files.apply(spec, stronger).strength == 2
    store.put_bytes(f"artifact/{names[0]}", b"damaged")
    elsewhere = AdapterFiles(store, tmp_path / "elsewhere", PAIR)
    assert elsewhere.renew(spec)
    with pytest.raises(InputError, match=r"artifact/style-high-noise.safetensors has 7 bytes"):
        elsewhere.apply(spec, AdapterUse(name="style"))


def test_what_is_wrong_with_an_adapter_is_noted() -> None:
    def failing(error: Exception) -> Callable[[], str]:
        def check() -> str:
            raise error

        return check

    assert noted("a", lambda: "").ready
    kept = noted("a", lambda: "two layers are left out")
    assert (kept.ready, kept.message) == (True, "two layers are left out")
    for error, reason, message in (
        (
            InputError(Reason.MODEL_INVALID, "s3://b/a is empty"),
            "ModelInvalid",
            "s3://b/a is empty",
        ),
        (InfrastructureError(Reason.STORE_ACCESS_DENIED, "no"), "StoreAccessDenied", "no"),
        (
            ZeroDivisionError("a bug"),
            "Unexpected",
            "cannot be read: the log of the worker has the cause",
        ),
    ):
        note = noted("a", failing(error))
        assert (note.ready, note.reason) == (False, reason)
        assert note.message.startswith(message)
    long = noted("a", failing(InputError(Reason.MODEL_INVALID, "x" * 9999)))
    assert len(long.message) == PROBLEM_CHARACTERS
    for theirs in (InfrastructureError(Reason.STORE_UNREACHABLE, "away"), MemoryError()):
        with pytest.raises(StepError):
            noted("a", failing(theirs))


async def test_a_gang_is_started_anew_within_a_budget() -> None:
    restarts = Restarts(0)
    for number in range(BUDGET):
        restarts.lost(RanksFailed(f"loss {number}"))
        await restarts.wait()
    restarts.lost(RanksFailed("one more"))
    with pytest.raises(RanksFailed, match="one more"):
        await restarts.wait()


async def test_a_model_that_cannot_be_loaded_is_not_tried_again() -> None:
    restarts = Restarts(0)
    wrong = Problem(code="adapter_unavailable", message="no such model")
    restarts.lost(RanksFailed("rendering broke it", wrong))
    await restarts.wait()
    restarts.lost(RanksFailed("no such model", wrong, hopeless=True))
    with pytest.raises(RanksFailed, match="no such model"):
        await restarts.wait()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate"),
        RuntimeError("could not create a primitive"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
    ],
)
def test_memory_runs_out_in_many_words(error: Exception) -> None:
    assert problem_of(error).code == "out_of_memory"
    found = problem_of(RuntimeError("a bug"))
    assert (found.code, found.message) == ("internal", UNFORESEEN)


@pytest.mark.parametrize("wrong", ["-1", "nan", "inf", "soon"])
def test_the_grace_is_a_number_of_seconds(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["worker", "--grace", wrong])
    assert f"argument --grace: '{wrong}' is no number of seconds" in capsys.readouterr().err
