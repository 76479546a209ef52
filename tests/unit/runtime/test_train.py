"""Training on the tiny models: it learns, it resumes to the bit, and it says so when it cannot."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from diffsynth.models import wan_video_dit
from safetensors.torch import load_file
from torch import Tensor

from ml_runs import Run
from wan_runtime.artifacts import manifest
from wan_runtime.contract.job import ExitClass
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert, Step
from wan_runtime.contract.training import TrainingSpec
from wan_runtime.errors import InputError, NumericalError
from wan_runtime.models import load
from wan_runtime.models.dit import lora, transformer
from wan_runtime.training import trainer
from wan_runtime.training.curve import smooth
from wan_runtime.training.lora import WEIGHTS
from wan_runtime.training.update import rate_factor

pytest_plugins = ["ml_fixtures"]


def result(run: Run, name: str = "train") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and record of a finished train step."""
    folder = run.fetch(name)
    record: dict[str, Any] = json.loads((folder / trainer.RECORD).read_text())
    return load_file(folder / WEIGHTS), record


def test_training_lowers_the_loss_of_held_out_probes(exported21: Run) -> None:
    weights, record = result(exported21)
    first, last = (record["probes"][index]["losses"] for index in (0, -1))
    assert len(record["steps"]) == 40
    assert [probe["step"] for probe in record["probes"]] == [0, 10, 20, 30, 40]
    for sigma in first:
        assert last[sigma] < 0.85 * first[sigma], f"at {sigma}"
    losses = smooth([step["loss"] for step in record["steps"]])
    assert losses[-1] < 0.8 * losses[0]
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert "blocks.0.self_attn.q.lora_A.default.weight" in weights
    assert len(weights) == 2 * 10 * 4, "A and B of ten layers in each of four blocks"


def test_summary_and_picture(exported22: Run) -> None:
    for name in ("train-high-noise", "train-low-noise"):
        folder = exported22.fetch(name)
        assert (folder / trainer.PICTURE).read_bytes().startswith(b"\x89PNG")
        record = json.loads((folder / trainer.RECORD).read_text())
        low, high = (0.9, 1.0) if "high" in name else (0.0, 0.9)
        sigmas = [float(sigma) for sigma in record["probes"][0]["losses"] if sigma != "mean"]
        assert all(low <= sigma <= high for sigma in sigmas)


def test_only_the_transformer_is_loaded(encoded21: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    real = load._load

    def spy(*arguments: Any) -> Any:
        loaded.append(arguments[2])
        return real(*arguments)

    monkeypatch.setattr(load, "_load", spy)
    encoded21.fork("only-dit").go(Step.TRAIN, training={"steps": 1})
    assert loaded == ["wan_video_dit"]


def test_attention_without_backward_is_caught(
    encoded21: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = wan_video_dit.flash_attention
    # What SageAttention does: right numbers, no gradient, no error.
    monkeypatch.setattr(wan_video_dit, "flash_attention", lambda *a, **k: real(*a, **k).detach())
    with pytest.raises(NumericalError) as caught:
        encoded21.fork("sage").go(Step.TRAIN)
    assert caught.value.reason is Reason.DEAD_GRADIENTS
    named = caught.value.message.split(": ")[1]
    assert "24 of 40" in caught.value.message
    for layer in ("self_attn.q", "self_attn.k", "self_attn.v", "cross_attn.q", "cross_attn.v"):
        assert f"blocks.1.{layer}" in named
    assert ".o" not in named
    assert "ffn" not in named


def test_lora_a_without_gradient_is_caught_at_the_second_step(
    encoded21: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = lora.inject

    def frozen_a(*arguments: Any) -> Any:
        trainable = real(*arguments)
        trainable["blocks.1.ffn.0.lora_A.default.weight"].requires_grad_(False)
        return trainable

    monkeypatch.setattr(lora, "inject", frozen_a)
    with pytest.raises(NumericalError, match=r"after step 2, 1 of 40 .*: blocks\.1\.ffn\.0\."):
        encoded21.fork("frozen").go(Step.TRAIN)


def test_sage_attention_is_never_used(encoded21: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def sage(*_: object) -> None:
        raise AssertionError("sage was called in training")

    monkeypatch.setattr(wan_video_dit, "SAGE_ATTN_AVAILABLE", True)
    monkeypatch.setattr(wan_video_dit, "sageattn", sage, raising=False)
    encoded21.fork("no-sage").go(Step.TRAIN, training={"steps": 1})


def test_divergence_stops_the_run(encoded21: Run) -> None:
    with pytest.raises(NumericalError) as caught:
        encoded21.fork("diverges").go(Step.TRAIN, lora={"learningRate": 1e25})
    assert caught.value.reason is Reason.NON_FINITE_LOSS
    assert caught.value.exit_class is ExitClass.NUMERICAL


def test_loss_that_turns_nan_later_stops_the_run(
    encoded21: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets: list[Tensor] = []
    real = trainer.velocity

    def nan_at_the_third(*arguments: Tensor) -> Tensor:
        targets.append(real(*arguments))
        return targets[-1] * (float("nan") if len(targets) == 3 else 1)

    monkeypatch.setattr(trainer, "velocity", nan_at_the_third)
    with pytest.raises(NumericalError, match="the loss is nan at step 3") as caught:
        encoded21.fork("nan-loss").go(Step.TRAIN)
    assert caught.value.reason is Reason.NON_FINITE_LOSS


def test_nan_gradient_of_the_last_step_is_not_committed(
    encoded21: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = lora.inject, [0]

    def nan_at_the_last(gradient: Tensor) -> Tensor:
        calls[0] += 1
        return gradient * float("nan") if calls[0] == 4 else gradient

    def hooked(*arguments: Any) -> Any:
        trainable = real(*arguments)
        trainable["blocks.1.ffn.2.lora_B.default.weight"].register_hook(nan_at_the_last)
        return trainable

    monkeypatch.setattr(lora, "inject", hooked)
    run = encoded21.fork("nan-gradient")
    with pytest.raises(NumericalError, match="gradients are not finite at step 4"):
        run.go(Step.TRAIN)
    assert manifest.find(run.store, run.job(Step.TRAIN).output_prefix) is None


def test_unknown_target_is_named_with_what_there_is(encoded22: Run) -> None:
    with pytest.raises(InputError) as caught:
        encoded22.fork("typo").go(
            Step.TRAIN, Expert.HIGH_NOISE, lora={"targetModules": ["q", "to_q", "ffn.1"]}
        )
    assert caught.value.reason is Reason.LORA_TARGET_UNKNOWN
    assert "to_q, ffn.1 match no linear layer" in caught.value.message
    assert "cross_attn.k" in caught.value.message
    assert "ffn.0, ffn.2" in caught.value.message


@pytest.mark.parametrize("asked", [True, False])
def test_deterministic_kernels_are_asked_of_torch_before_anything_is_loaded(
    asked: bool, encoded21: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[bool, bool]] = []
    real = transformer.load_dit

    def load_dit(*arguments: Any) -> Any:
        only = torch.are_deterministic_algorithms_enabled()
        found.append((only, torch.is_deterministic_algorithms_warn_only_enabled()))
        return real(*arguments)

    monkeypatch.setattr(transformer, "load_dit", load_dit)
    torch.use_deterministic_algorithms(not asked)
    try:
        training = {"steps": 1, "deterministic": asked}
        encoded21.fork(f"deterministic-{asked}").go(Step.TRAIN, training=training)
    finally:
        torch.use_deterministic_algorithms(False)
    assert found == [(asked, False)]


def test_recomputing_blocks_changes_nothing(encoded21: Run) -> None:
    weights = []
    for mode in ("None", "Full"):
        run = encoded21.fork(f"recompute-{mode.lower()}")
        run.go(Step.TRAIN, training={"gradientCheckpointing": mode, "batchSize": 2})
        weights.append(result(run)[0])
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


@pytest.mark.parametrize("mode", ["KeepAttention", "Offload"])
def test_what_is_kept_changes_rounding_alone(mode: str, encoded21: Run) -> None:
    records = []
    for policy in ("Full", mode):
        run = encoded21.fork(f"kept-{mode.lower()}-{policy.lower()}")
        run.go(Step.TRAIN, training={"gradientCheckpointing": policy, "steps": 3})
        records.append(result(run)[1])
    full, kept = ([step["loss"] for step in each["steps"]] for each in records)
    assert kept == pytest.approx(full, rel=1e-5)
    probes = [each["probes"][-1]["losses"]["mean"] for each in records]
    assert probes[0] == pytest.approx(probes[1], rel=1e-5)


def test_bfloat16_base_trains_a_float32_adapter(
    encoded21: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The precision of GPUs, on the CPU."""
    monkeypatch.setattr(trainer, "compute_dtype", lambda _: torch.bfloat16)
    run = encoded21.fork("bfloat16")
    run.go(Step.TRAIN, training={"steps": 12})
    weights, record = result(run)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    # Small updates survive: rounded to bfloat16, the weights would differ.
    b = weights["blocks.0.ffn.0.lora_B.default.weight"]
    assert not torch.equal(b, b.bfloat16().float())
    assert record["probes"][-1]["losses"]["mean"] < record["probes"][0]["losses"]["mean"]


def test_rate_warms_up_then_holds_or_falls() -> None:
    warm = TrainingSpec(warmup_steps=4, schedule="Constant")
    assert [rate_factor(step, 10, warm) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    cosine = TrainingSpec(warmup_steps=2, schedule="Cosine")
    factors = [rate_factor(step, 10, cosine) for step in range(2, 11)]
    assert factors[0] == 1
    assert factors[4] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx(0)
