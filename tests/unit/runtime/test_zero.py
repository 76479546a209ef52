"""DeepSpeed's ZeRO trains as one rank does without it, and goes on from the same checkpoints."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch

from ml_runs import Run
from rank_runs import Alone, check_same, go, result
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.steps import Step
from wan_runtime.contract.training import Parallelism, TrainingSpec
from wan_runtime.errors import InputError
from wan_runtime.training.meet import check
from wan_runtime.training.update import Applied
from wan_runtime.training.zero import DeepSpeedUpdate
from wan_runtime.training.zero_config import zero_config

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


def test_diffsynth_does_not_find_deepspeed() -> None:
    """It would import it, in each process."""
    program = (
        "import importlib.util, wan_runtime.models; print(importlib.util.find_spec('deepspeed'))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert ended.stdout == "None\n"


def test_nothing_is_left_to_a_default_that_acts() -> None:
    ranks = Parallelism(gpus_per_node=2, zero_stage=3, offload="Optimizer")
    spec = TrainingSpec(
        batch_size=3, gradient_accumulation=4, max_gradient_norm=0.3, parallelism=ranks
    )
    config = zero_config(spec)
    assert config["gradient_clipping"] == 0.3
    assert (config["train_micro_batch_size_per_gpu"], config["gradient_accumulation_steps"]) == (
        3,
        2,
    )
    precisions = ("bf16", "fp16", "torch_autocast")
    assert not any(config[name]["enabled"] for name in precisions)
    assert config["data_types"]["grad_accum_dtype"] == config["communication_data_type"] == "fp32"
    assert config["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    assert "offload_param" not in config["zero_optimization"]


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"emaDecay": 0.9}, "emaDecay is 0.9: with ZeRO leave it out"),
        ({"basePrecision": "FP8"}, "basePrecision is FP8: with ZeRO leave it out"),
        ({"gradientCheckpointing": "Offload"}, "gradientCheckpointing is Offload: .*take Full"),
    ],
)
def test_what_zero_cannot_do_is_refused(training: dict[str, Any], said: str, mixed21: Run) -> None:
    parallelism = {"gpusPerNode": 2, "zeroStage": 3}
    job = mixed21.job(Step.TRAIN, training={"batchSize": 2, "parallelism": parallelism, **training})
    transformer: Any = SimpleNamespace(check_heads=lambda _: None)
    with pytest.raises(InputError, match=said):
        check(finetune_of(job), transformer)
