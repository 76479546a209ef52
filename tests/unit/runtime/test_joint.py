"""One run of both experts trains each as a run of its own does."""

from __future__ import annotations

import os
import signal
import weakref
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch

from ml_runs import Run
from rank_runs import check_alike, go, result
from wan_runtime.artifacts import manifest
from wan_runtime.contract.finetune import Dialect, finetune_of
from wan_runtime.contract.steps import Expert, Step, step_id
from wan_runtime.errors import InputError, Stopped
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.planner.steps import joint_order, joint_steps
from wan_runtime.presets import PRESETS
from wan_runtime.process import stopping
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter
from wan_runtime.training import leftovers
from wan_runtime.training.experts import job_of
from wan_runtime.training.trainer import Trainer

pytest_plugins = ["ml_fixtures"]
pytestmark = pytest.mark.usefixtures("sigterm")

PAIR = PRESETS["Wan2.2-I2V-Tiny"]
IDS = {expert: step_id(Step.TRAIN, expert) for expert in PAIR.experts}
STEPS = 6
TRAINING: dict[str, Any] = {
    "steps": STEPS, "batchSize": 2, "gradientAccumulation": 1, "captionDropout": 0.5,
    "schedule": "Cosine", "probeEvery": 2, "checkpointEvery": 2, "weights": "Best",
}  # fmt: skip
OWN = joint_steps(PAIR, STEPS)


class Ends(Reporter):
    """Notes the steps; while it reports `at`, the process is stopped or the attempt dies."""

    def __init__(self, at: int | None = None, *, kill: bool = False) -> None:
        super().__init__("train")
        self._at, self._kill = at, kill
        self.steps: list[tuple[int, int]] = []

    def update(self, **change: Any) -> None:
        super().update(**change)
        if change.get("unit") != "steps":
            return
        self.steps.append((change["current"], change["total"]))
        if change["current"] == self._at and self._kill:
            raise KeyboardInterrupt
        if change["current"] == self._at:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def apart(encoded22: Run) -> Run:
    """Two runs, of as many steps as fall to each expert."""
    run = encoded22.fork("apart")
    for expert, steps in OWN.items():
        run.go(Step.TRAIN, expert, training={**TRAINING, "steps": steps})
    return run


@pytest.fixture(scope="module")
def joint(encoded22: Run) -> Run:
    """One run of both. The expert that is done first is out of memory when the other is."""
    run = encoded22.fork("joint")
    report, done, finish = Ends(), list[Callable[[], Transformer | None]](), Trainer.finish

    def watched(trainer: Trainer) -> Outcome:
        assert not any(each() for each in done)
        done.append(weakref.ref(trainer.transformer))
        return finish(trainer)

    with mock.patch.object(Trainer, "finish", watched):
        run.go(Step.TRAIN, report=report, training=TRAINING)
    assert len(done) == 2
    assert report.steps == [(step, STEPS) for step in range(1, STEPS + 1)]
    return split(run)


def split(run: Run) -> Run:
    """With the results of both experts as inputs of their own."""
    whole = manifest.load(run.store, run.inputs["train"])
    run.inputs |= {id: whole.lineage.inputs[id] for id in IDS.values()}
    return run


def check_equal(run: Run, other: Run) -> None:
    for id in IDS.values():
        (weights, record), (others, its) = result(run, id), result(other, id)
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[name], one) for name, one in others.items())
        for step in (*record["steps"], *its["steps"]):
            del step["seconds"]
        assert record == its


def check_both_alike(run: Run, other: Run) -> None:
    for id in IDS.values():
        check_alike(result(split(run), id), result(other, id))


def test_each_expert_is_that_of_a_run_of_its_own(joint: Run, apart: Run) -> None:
    assert OWN == {Expert.HIGH_NOISE: 2, Expert.LOW_NOISE: 4}
    check_equal(joint, apart)
    for id in IDS.values():
        one, other = (manifest.load(run.store, run.inputs[id]) for run in (joint, apart))
        assert one.lineage.config_hash == other.lineage.config_hash
        assert one.summary["steps"] == other.summary["steps"]


def test_a_stop_and_a_kill_change_nothing(encoded22: Run, joint: Run) -> None:
    run = encoded22.fork("joint-parts")
    report = Ends(3)
    with pytest.raises(Stopped, match="a checkpoint at step 3 of both experts"):
        run.go(Step.TRAIN, report=report, training=TRAINING)
    stopping._requested.clear()
    assert report.progress.checkpoint is not None
    assert report.progress.checkpoint.step == 3
    with pytest.raises(KeyboardInterrupt):
        run.go(Step.TRAIN, report=Ends(5, kill=True), training=TRAINING)
    report = Ends()
    run.go(Step.TRAIN, report=report, training=TRAINING)
    assert report.steps == [(5, STEPS), (6, STEPS)]
    check_equal(split(run), joint)


def test_an_expert_that_is_done_is_not_trained_again(encoded22: Run, joint: Run) -> None:
    run = encoded22.fork("joint-half")
    run.go(Step.TRAIN, Expert.HIGH_NOISE, training={**TRAINING, "steps": 2})
    report = Ends()
    run.go(Step.TRAIN, report=report, training=TRAINING)
    assert report.steps == [(step, STEPS) for step in (3, 4, 5, 6)]
    check_equal(split(run), joint)


def test_both_are_exported_and_nothing_is_left(joint: Run, apart: Run) -> None:
    job = joint.job(Step.TRAIN, training=TRAINING)
    kept = f"{job.run_prefix}/{IDS[Expert.LOW_NOISE]}/checkpoints/"
    assert list(joint.store.list(kept))
    leftovers.remove(job, joint.store, joint.inputs["train"])
    assert not list(joint.store.list(kept))
    later = joint.fork("joint")
    later.inputs["train"] = joint.inputs["train"]
    made = later.go(Step.EXPORT, formats=[Dialect.DIFFSYNTH])
    assert made.manifest is not None
    names = {entry.path for entry in manifest.load(later.store, made.manifest).files}
    assert {"joint-high-noise.safetensors", "joint-low-noise.safetensors"} <= names
    assert made.summary["lowNoise.steps"] == 4
    later.go(Step.SAMPLE, sample={"count": 1, "inferenceSteps": 2})


def test_several_ranks_train_both(encoded22: Run, joint: Run) -> None:
    run = encoded22.fork("joint-ranks")
    assert go(run, (2, 1), **TRAINING) == [run.inputs["train"]] * 2
    check_both_alike(run, joint)


def test_ranks_that_divide_both_go_on_after_the_death_of_one(encoded22: Run, joint: Run) -> None:
    run = encoded22.fork("joint-divided")
    first, second = go(run, (2, 2), kill=3, zero={"zeroStage": 3}, **TRAINING)
    assert first.startswith("RankLost: another rank is lost"), first
    assert second is None
    ends = go(run, (2, 1), stop=4, zero={"zeroStage": 2}, **TRAINING)
    assert all("a checkpoint at step 4" in str(end) for end in ends), ends
    go(run, (1, 1), **TRAINING)
    check_both_alike(run, joint)


def test_each_starts_from_weights_of_its_own(encoded22: Run) -> None:
    job = encoded22.job(Step.TRAIN)
    starts = {Expert.LOW_NOISE: "s3://a/low.safetensors"}
    both = job.model_copy(update={"work": job.work.model_copy(update={"starts": starts})})
    assert both.identity != job.identity
    found = [finetune_of(job_of(both, expert)).lora for expert in PAIR.experts]
    assert [lora and lora.init_from for lora in found] == [None, starts[Expert.LOW_NOISE]]


def test_the_levels_say_how_many_steps_fall_to_each() -> None:
    assert PAIR.high_noise_share == 0.358
    assert joint_steps(PAIR, 1000) == {Expert.HIGH_NOISE: 358, Expert.LOW_NOISE: 642}
    assert joint_steps(PAIR, 2) == {Expert.HIGH_NOISE: 1, Expert.LOW_NOISE: 1}
    one, two = (joint_order(PAIR, 1000, seed) for seed in (1, 2))
    assert one != two
    assert one.count(Expert.HIGH_NOISE) == two.count(Expert.HIGH_NOISE) == 358
    assert 140 < one[:500].count(Expert.HIGH_NOISE) < 220, "mixed over the run"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lora": {"dropout": 0.5}}, "lora.dropout is 0.5, but what is dropped of one expert"),
        ({"training": {"steps": 1}}, "training has 1 step: a run of both experts has one for each"),
    ],
)
def test_what_one_run_of_both_cannot_do_is_refused(
    change: dict[str, Any], said: str, encoded22: Run
) -> None:
    with pytest.raises(InputError, match=said):
        encoded22.fork(f"joint-no-{next(iter(change))}").go(Step.TRAIN, **change)
