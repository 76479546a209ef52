"""DeepSpeed's ZeRO trains as one rank does without it, and goes on from the same checkpoints."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from ml_runs import Run
from rank_runs import Alone, Ranks, check_alike, check_same, go, result
from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import FileEntry
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Step
from wan_runtime.errors import InfrastructureError
from wan_runtime.process import launch
from wan_runtime.training import checkpoint
from wan_runtime.training.update import Applied
from wan_runtime.training.zero import DeepSpeedUpdate

pytest_plugins = ["ml_fixtures"]

CLIP = 0.1
"""Less than the norm of any step."""
TRAINING: dict[str, Any] = {"maxGradientNorm": CLIP, "weights": "Best"}
TWO: dict[str, Any] = {"zeroStage": 2, "offload": "Optimizer"}
THREE: dict[str, Any] = {"zeroStage": 3}


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """DeepSpeed is imported once, before ranks are forked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DS_ACCELERATOR", "cpu")
        if sys.modules.get("deepspeed") is None:
            sys.modules.pop("deepspeed", None)  # of wan_runtime.models, which hides it
        importlib.import_module("deepspeed")
    importlib.import_module("torch.utils.cpp_extension")  # which DeepSpeed imports later


@pytest.fixture(scope="module", autouse=True)
def watched() -> Iterator[None]:
    """Each update finds float32 parameters, and under ZeRO 3 one copy of each."""
    real = DeepSpeedUpdate.apply

    def apply(update: DeepSpeedUpdate, step: int) -> Applied:
        divided = update._divided
        assert all(each.dtype is torch.float32 for each in update._trainable.values())
        flats = getattr(divided, "fp16_partitioned_groups_flat", [])
        for piece, flat in zip(update._pieces, flats, strict=False):
            assert piece.data_ptr() == flat.data_ptr()
        return real(update, step)

    with mock.patch.object(DeepSpeedUpdate, "apply", apply):
        yield


@pytest.fixture(scope="module")
def alone(mixed21: Run) -> Alone:
    return Alone(mixed21, "zero-alone", lora=TRAINING, full=TRAINING)


@pytest.fixture(scope="module")
def divided(mixed21: Run) -> Run:
    """All weights trained by two ranks under ZeRO 3, which nothing interrupts."""
    run = mixed21.fork("zero-whole", "full")
    ends = go(run, (2, 1), zero=THREE, **TRAINING)
    assert ends == [run.inputs["train"]] * 2, ends
    return run


def test_a_run_is_that_of_one_rank(divided: Run, alone: Alone) -> None:
    check_same(divided, alone["full"])
    config = json.loads((divided.fetch("train") / "deepspeed.json").read_text())
    assert config["gradient_clipping"] == CLIP
    assert config["zero_optimization"]["stage"] == 3


def test_a_run_goes_on_to_the_bit(mixed21: Run, divided: Run) -> None:
    run = mixed21.fork("zero-parts", "full")
    ends = go(run, (2, 1), zero=THREE, stop=2, **TRAINING)
    assert all("a checkpoint at step 2" in str(end) for end in ends), ends
    go(run, (2, 1), zero=THREE, **TRAINING)
    (weights, _), (others, _) = result(run), result(divided)
    assert all(torch.equal(weights[name], other) for name, other in others.items())


SAVED = 2
"""Step of the save in which something fails; the one before is of step 1."""


def store_is_away() -> mock._patch[Any]:
    real = manifest._upload

    def upload(store: Store, prefix: str, path: str, file: Path) -> FileEntry:
        if prefix.endswith(checkpoint.name_of(SAVED)) and path.startswith("exp_avg"):
            raise InfrastructureError(Reason.STORE_UNREACHABLE, "it does not answer")
        return real(store, prefix, path, file)

    return mock.patch.object(manifest, "_upload", upload)


def rank_1_dies() -> mock._patch[Any]:
    """It holds a part of each tensor that rank 0 reads."""
    real = DeepSpeedUpdate._read

    def read(update: DeepSpeedUpdate, label: str, name: str) -> Tensor:
        if launch.place().rank == 1 and update.scheduled == SAVED and label == "exp_avg":
            os.kill(os.getpid(), signal.SIGKILL)
        return real(update, label, name)

    return mock.patch.object(DeepSpeedUpdate, "_read", read)


FAULTS: tuple[tuple[Callable[[], mock._patch[Any]], list[str | None]], ...] = (
    (rank_1_dies, ["RankLost: ", None]),
    (store_is_away, ["StoreUnreachable: it does not answer"] * 2),
)


def test_faults_in_the_middle_of_a_save_change_nothing(mixed21: Run, divided: Run) -> None:
    run = mixed21.fork("zero-faults", "full")
    prefix = f"{run.job(Step.TRAIN).output_prefix}/checkpoints/"
    for fault, ends in FAULTS:
        with fault():
            found = go(run, (2, 1), zero=THREE, checkpointEvery=1, **TRAINING)
        for end, wanted in zip(found, ends, strict=True):
            assert end is wanted is None or str(end).startswith(str(wanted)), (fault, found)
        stored = [entry.key for entry in run.store.list(prefix)]
        whole = [key.removeprefix(prefix) for key in stored if key.endswith(manifest.NAME)]
        assert whole == [f"{checkpoint.name_of(1)}/{manifest.NAME}"]
    go(run, (2, 1), zero=THREE, checkpointEvery=1, **TRAINING)
    (weights, record), (others, its) = result(run), result(divided)
    assert manifest.load(run.store, run.inputs["train"]).summary["resumedFromStep"] == 1
    assert [each["loss"] for each in record["steps"]] == [each["loss"] for each in its["steps"]]
    assert all(torch.equal(weights[name], other) for name, other in others.items())


def test_a_run_goes_on_with_another_stage_on_another_number_of_ranks(
    mixed21: Run, alone: Alone
) -> None:
    run = mixed21.fork("zero-regrouped")
    offloaded = {**THREE, "offload": "OptimizerAndParameters"}
    attempts = [(2, offloaded, 1), (1, TWO, 2), (2, TWO, 3)]
    for world, zero, stop in attempts:
        ends = go(run, (world, 1), zero=zero, stop=stop, **TRAINING)
        assert all(f"a checkpoint at step {stop}" in str(end) for end in ends), ends
    go(run, (1, 1), **TRAINING)
    check_same(run, alone["lora"])
    assert {weight.dtype for weight in result(run)[0].values()} == {torch.float32}


def test_all_weights_go_on_on_another_number_of_ranks(mixed21: Run, alone: Alone) -> None:
    """Also where ranks split the tokens of a clip, and whatever a block keeps."""
    run = mixed21.fork("zero-all-regrouped", "full")
    offloaded = {**THREE, "offload": "OptimizerAndParameters"}
    attempts: list[tuple[Ranks, dict[str, Any], str]] = [
        ((4, 2), THREE, "None"), ((2, 1), THREE, "Full"), ((1, 1), offloaded, "Full")
    ]  # fmt: skip
    for stop, (ranks, zero, policy) in enumerate(attempts, 1):
        ends = go(run, ranks, zero=zero, stop=stop, gradientCheckpointing=policy, **TRAINING)
        assert all(f"a checkpoint at step {stop}" in str(end) for end in ends), ends
    go(run, (2, 1), zero=TWO, gradientCheckpointing="KeepAttention", **TRAINING)
    check_same(run, alone["full"])


@pytest.mark.parametrize(("method", "ways"), [("full", [THREE]), ("lora", [TWO, {"zeroStage": 0}])])
def test_all_ranks_begin_with_the_weights_that_are_named(
    method: str, ways: list[dict[str, Any]], mixed21: Run, alone: Alone
) -> None:
    start = alone[method].inputs["train"].uri.removesuffix("/manifest.json")
    one = mixed21.fork(f"zero-{method}-start", method)
    go(one, (1, 1), start=start, steps=1)
    assert result(one)[1]["initFrom"]["uri"] == f"{start}/manifest.json"
    for number, zero in enumerate(ways):
        run = mixed21.fork(f"zero-{method}-start-{number}", method)
        go(run, (2, 1), zero=zero, start=start, steps=1)
        check_alike(result(run), result(one))
