"""Exact resume: whatever stops a run and however often, its final weights are the same bits."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ml_runs import Run
from wan_runtime.artifacts import manifest
from wan_runtime.contract.job import ExitClass
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert, Step, step_id
from wan_runtime.errors import InfrastructureError, Stopped
from wan_runtime.process import stopping
from wan_runtime.process.progress import Reporter
from wan_runtime.training import checkpoint, trainer

pytest_plugins = ["ml_fixtures"]
pytestmark = pytest.mark.usefixtures("sigterm")

# All that could make a resumed run differ: dropout's random state, dropped captions, accumulation,
# a moving rate, a mean of the weights.
TRAINING = {
    "steps": 6, "gradientAccumulation": 2, "schedule": "Cosine", "checkpointEvery": 2,
    "probeEvery": 3, "captionDropout": 0.5,
}  # fmt: skip
EXACT: dict[str, dict[str, Any]] = {
    "lora": {"training": {**TRAINING, "emaDecay": 0.9}, "lora": {"dropout": 0.2}},
    "full": {"training": TRAINING},
}


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the attempt's state survives it."""


class Watch(Reporter):
    """Remembers the steps done. While it reports `at`, sends this process SIGTERM, or dies."""

    def __init__(self, at: int | None = None, *, kill: bool = False) -> None:
        super().__init__("train")
        self._at, self._kill = at, kill
        self.steps: list[int] = []

    def update(self, **change: Any) -> None:
        super().update(**change)
        if change.get("activity") == "training":
            self.steps.append(change["current"])
            if change["current"] == self._at and self._kill:
                raise Killed
            if change["current"] == self._at:
                os.kill(os.getpid(), signal.SIGTERM)


def stop(run: Run, at: int, expert: Expert = Expert.ONLY) -> Stopped:
    """An attempt that SIGTERM ends at step `at`."""
    with pytest.raises(Stopped) as caught:
        run.go(Step.TRAIN, expert, report=Watch(at), **EXACT[run.method])
    stopping._requested.clear()
    return caught.value


def steps_of(run: Run, expert: Expert = Expert.ONLY, **change: Any) -> list[int]:
    """Steps done by an attempt that reaches the end."""
    watch = Watch()
    run.go(Step.TRAIN, expert, report=watch, **{**EXACT[run.method], **change})
    return watch.steps


def result(run: Run, name: str = "train") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights, and the record without times."""
    folder = run.fetch(name)
    weights = {k: v for path in folder.glob("*.safetensors") for k, v in load_file(path).items()}
    record: dict[str, Any] = json.loads((folder / trainer.RECORD).read_text())
    for step in record["steps"]:
        del step["seconds"]
    return weights, record


def same(one: Run, two: Run, name: str = "train") -> bool:
    """Whether weights and records are equal to the bit."""
    (weights, record), (others, other_record) = result(one, name), result(two, name)
    assert weights.keys() == others.keys()
    assert len(record["steps"]) == TRAINING["steps"]
    return record == other_record and all(
        torch.equal(tensor, others[key]) for key, tensor in weights.items()
    )


def checkpoints(run: Run) -> list[str]:
    """Keys of the manifests of the run's checkpoints."""
    prefix = f"{run.job(Step.TRAIN).output_prefix}/checkpoints/"
    return [entry.key for entry in run.store.list(prefix) if entry.key.endswith("manifest.json")]


class Whole:
    """Runs of Wan2.1 that nothing interrupts, one for each method."""

    def __init__(self, encoded: Run) -> None:
        self._encoded, self._runs = encoded, dict[str, Run]()

    def __getitem__(self, method: str) -> Run:
        if method not in self._runs:
            run = self._encoded.fork(f"whole-{method}", method)
            run.go(Step.TRAIN, **EXACT[method])
            self._runs[method] = run
        return self._runs[method]


@pytest.fixture(scope="module")
def whole(encoded21: Run) -> Whole:
    return Whole(encoded21)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_kills_and_stops_at_random_steps_change_nothing(
    method: str, encoded21: Run, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "PIECE_BYTES", 400_000)
    broken = encoded21.fork(f"broken-{method}", method)
    break_off(broken, EXACT[method])
    assert same(whole[method], broken)


@pytest.mark.parametrize(
    ("method", "expert"), [("lora", Expert.HIGH_NOISE), ("full", Expert.LOW_NOISE)]
)
def test_kills_and_stops_change_nothing_in_an_expert_of_two(
    method: str, expert: Expert, encoded22: Run
) -> None:
    whole, broken = (encoded22.fork(f"{name}-{method}-{expert}", method) for name in "ab")
    whole.go(Step.TRAIN, expert, **EXACT[method])
    break_off(broken, EXACT[method], expert)
    assert same(whole, broken, step_id(Step.TRAIN, expert))


def test_kills_and_stops_change_nothing_in_a_run_over_two_buckets(mixed21: Run) -> None:
    """Batches of two: one bucket has three clips to train on, so batches reach over passes."""
    whole, broken = (mixed21.fork(f"{name}-mixed") for name in "ab")
    exact = {**EXACT["lora"], "training": {**EXACT["lora"]["training"], "batchSize": 2}}
    whole.go(Step.TRAIN, **exact)
    break_off(broken, exact)
    assert same(whole, broken)


def break_off(run: Run, exact: dict[str, Any], expert: Expert = Expert.ONLY) -> None:
    """Train in attempts that are killed or stopped at random steps, and one that is not."""
    chance = random.Random(f"{run.method}{expert}")
    ends: list[str] = []
    saved = 0
    while saved < 4:
        watch = Watch(min(saved + chance.randint(1, 3), 5), kill=chance.random() < 0.5)
        with pytest.raises((Stopped, Killed)) as caught:
            run.go(Step.TRAIN, expert, report=watch, **exact)
        stopping._requested.clear()
        assert watch.steps[0] == saved + 1, "goes on from the newest checkpoint"
        if caught.type is Stopped:
            saved = watch.steps[-1]
        else:  # while it reported a step, before that step's own checkpoint
            saved = max([saved, *(step for step in watch.steps[:-1] if step % 2 == 0)])
        ends.append(caught.type.__name__)
    assert run.go(Step.TRAIN, expert, **exact).summary["resumedFromStep"] == saved
    assert len(ends) > 1


def test_a_stop_says_where_it_saved(encoded21: Run) -> None:
    run = encoded21.fork("stopped")
    error = stop(run, 3)
    assert (error.reason, error.exit_class) == (Reason.TERMINATED, ExitClass.STOPPED)
    assert "a checkpoint at step 3" in error.message
    assert checkpoints(run)[-1].endswith("step-00000003/manifest.json")
    assert steps_of(run) == [4, 5, 6]


def test_the_progress_tells_of_the_newest_checkpoint(encoded21: Run) -> None:
    run = encoded21.fork("told")
    first, second = Watch(3), Watch(4, kill=True)
    with pytest.raises(Stopped):
        run.go(Step.TRAIN, report=first, **EXACT["lora"])
    stopping._requested.clear()
    with pytest.raises(Killed):  # before it saves again
        run.go(Step.TRAIN, report=second, **EXACT["lora"])
    for watch in (first, second):
        told = watch.progress.checkpoint
        assert told is not None
        assert told.step == 3
        assert run.store.parse(told.manifest.uri)[1] == checkpoints(run)[-1]
        assert manifest.load(run.store, told.manifest).summary == {"step": 3}


def test_a_stop_before_the_first_step_saves_nothing(encoded21: Run) -> None:
    run = encoded21.fork("stopped-early")
    stop(run, 4)
    before = checkpoints(run)
    stopping._requested.set()
    with pytest.raises(Stopped, match="at step 4"):
        run.go(Step.TRAIN, **EXACT["lora"])
    assert checkpoints(run) == before


def test_resume_passes_over_a_truncated_checkpoint(encoded21: Run, whole: Whole) -> None:
    broken = encoded21.fork("damaged")
    stop(broken, 5)
    newest = checkpoints(broken)[-1].replace("manifest.json", "exp_avg.safetensors")
    assert "step-00000005" in newest
    data = broken.store.get_bytes(newest)
    broken.store.put_bytes(newest, data[: len(data) // 2])
    assert steps_of(broken) == [5, 6], "from the checkpoint at step 4, the newest that is whole"
    assert same(whole["lora"], broken)


def rot(run: Run) -> None:
    """Flip a bit of the newest checkpoint's second moments, with the size and checksum kept."""
    key = checkpoints(run)[-1].replace("manifest.json", "exp_avg_sq.safetensors")
    data = bytearray(run.store.get_bytes(key))
    info = run.store.stat(key)
    assert info is not None
    data[-1] ^= 1
    run.store._put(key, lambda: io.BytesIO(data), len(data), str(info.sha256), "x/y")


def test_rotten_bits_are_found_and_an_older_checkpoint_taken(encoded21: Run, whole: Whole) -> None:
    broken = encoded21.fork("rotten", "full")
    stop(broken, 5)
    rot(broken)
    assert steps_of(broken) == [5, 6]
    assert same(whole["full"], broken)


def test_the_only_checkpoint_rotten_starts_over_with_the_next_attempt(
    encoded21: Run, whole: Whole
) -> None:
    broken = encoded21.fork("rotten-one", "full")
    stop(broken, 1)
    rot(broken)
    with pytest.raises(InfrastructureError) as caught:
        broken.go(Step.TRAIN, **EXACT["full"])
    assert caught.value.reason is Reason.ARTIFACT_CORRUPT
    assert steps_of(broken) == [1, 2, 3, 4, 5, 6]
    assert same(whole["full"], broken)


def test_checkpoints_of_another_job_or_base_are_not_resumed(
    encoded21: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, fresh = encoded21.fork("changed"), encoded21.fork("fresh")
    stop(run, 3)
    seed = {**EXACT["lora"]["training"], "seed": 9}
    assert steps_of(run, training=seed) == [1, 2, 3, 4, 5, 6]
    fresh.go(Step.TRAIN, training=seed, lora=EXACT["lora"]["lora"])
    assert same(fresh, run)

    other = encoded21.fork("other-base")
    stop(other, 3)
    monkeypatch.setattr(trainer, "files_digest", lambda *_: "1" * 64)
    assert steps_of(other) == [1, 2, 3, 4, 5, 6]


def test_what_blocks_keep_may_change_between_attempts(encoded21: Run) -> None:
    run = encoded21.fork("kept-otherwise")
    stop(run, 3)
    all_kept = {**EXACT["lora"]["training"], "gradientCheckpointing": "None"}
    assert steps_of(run, training=all_kept) == [4, 5, 6]


def test_only_the_newest_checkpoints_are_kept(encoded21: Run) -> None:
    run = encoded21.fork("kept")
    place = f"{run.job(Step.TRAIN).output_prefix}/checkpoints"
    for step in (2, 9):  # an attempt was killed while it saved
        run.store.put_bytes(f"{place}/step-0000000{step}/weights.safetensors", b"cut off")
    run.go(Step.TRAIN, training={"steps": 6, "checkpointEvery": 1, "keepCheckpoints": 2})
    names = [key.split("/")[-2] for key in checkpoints(run)]
    assert names == ["step-00000004", "step-00000005"]
    assert {entry.key.split("/")[-2] for entry in run.store.list(f"{place}/")} == set(names)


def test_checkpoints_that_were_passed_over_do_not_crowd_out_new_ones(encoded21: Run) -> None:
    run = encoded21.fork("crowded")
    stop(run, 5)  # leaves steps 4 and 5, as many as are kept
    seed = {**EXACT["lora"]["training"], "seed": 9}
    with pytest.raises(Stopped):
        run.go(Step.TRAIN, report=Watch(3), training=seed, lora=EXACT["lora"]["lora"])
    stopping._requested.clear()
    assert steps_of(run, training=seed) == [4, 5, 6]


def test_no_room_for_a_checkpoint_is_said_before_training(
    encoded21: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**7))
    watch = Watch()
    told = r"a checkpoint beside the latents needs .* raise spec\.resources"
    with pytest.raises(InfrastructureError, match=told):
        encoded21.fork("full-disk", "full").go(Step.TRAIN, report=watch)
    monkeypatch.setattr(shutil, "disk_usage", real)
    assert watch.steps == []
