"""What training adds to plain steps: the mean of the weights, dropped captions, lost updates."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file
from torch import Tensor, nn

from ml_runs import Run
from wan_operator.api.v1alpha1.finetune_training import LAYER
from wan_runtime.contract.steps import Expert, Step
from wan_runtime.contract.training import LoraSpec
from wan_runtime.data.latents import FILE, Latents
from wan_runtime.models.dit.lora import inject
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.load import load_dit
from wan_runtime.training import lora, rounding, trainer
from wan_runtime.training.ema import Average
from wan_runtime.training.probes import Probes
from wan_runtime.training.sampler import drops_caption

pytest_plugins = ["ml_fixtures"]

STEPS, DECAY = 6, 0.4
"""Few enough for the decay to begin below its value, (1 + 1) / (10 + 1), and to reach it."""
B = "blocks.0.ffn.0.lora_B.default.weight"
TRAINING = {"steps": STEPS, "probeEvery": 3, "checkpointEvery": 1, "keepCheckpoints": STEPS}


def record(run: Run) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run.fetch("train") / trainer.RECORD).read_text())
    return content


def weights(run: Run) -> dict[str, Tensor]:
    return load_file(run.fetch("train") / lora.WEIGHTS)


def checkpointed(run: Run, label: str, step: int) -> dict[str, Tensor]:
    prefix = f"{run.job(Step.TRAIN).output_prefix}/checkpoints/step-{step:08d}"
    return load(run.store.get_bytes(f"{prefix}/{label}.safetensors"))


def test_the_mean_of_the_weights_is_probed_and_committed(encoded21: Run) -> None:
    plain, mean = encoded21.fork("no-mean"), encoded21.fork("mean")
    plain.go(Step.TRAIN, training=TRAINING)
    mean.go(Step.TRAIN, training={**TRAINING, "emaDecay": DECAY})
    path = [checkpointed(plain, "weights", step) for step in range(1, STEPS)] + [weights(plain)]
    for step in range(1, STEPS):
        for name, value in checkpointed(mean, "weights", step).items():
            assert torch.equal(value, path[step - 1][name]), "training itself is the same"

    got = weights(mean)
    for name, value in _fresh(encoded21).items():
        average = value.clone()
        for step, after in enumerate(path, start=1):
            average += (1 - min(DECAY, (1 + step) / (10 + step))) * (after[name] - average)
        assert torch.allclose(got[name], average, atol=1e-7), name
        assert not torch.allclose(got[name], path[-1][name], atol=1e-6)

    probes = [each["losses"]["mean"] for each in record(mean)["probes"]]
    others = [each["losses"]["mean"] for each in record(plain)["probes"]]
    assert probes[0] == others[0]
    assert probes[1] != others[1]
    mean.go(Step.EXPORT)
    again = encoded21.fork("from-mean")
    uri = mean.inputs["export"].uri
    training = {"steps": 1, "emaDecay": DECAY}
    again.go(Step.TRAIN, training=training, lora={"initFrom": uri})
    assert record(again)["probes"][0]["losses"]["mean"] == pytest.approx(probes[-1], rel=1e-5)


def _fresh(encoded: Run) -> dict[str, Tensor]:
    """The adapter before the first step: one committed after a step that moves nothing."""
    run = encoded.fork("unmoved")
    run.go(Step.TRAIN, training={"steps": 1}, lora={"learningRate": 1e-30})
    return weights(run)


def test_the_best_weights_of_a_mean_are_the_mean_at_its_best(
    encoded21: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([5.0, 4.0, 2.0, 3.0, 4.0, 4.0, 4.0])  # of the base model, then after each step
    monkeypatch.setattr(Probes, "evaluate", lambda *_: {"mean": next(losses)})
    run = encoded21.fork("best-mean")
    run.go(
        Step.TRAIN,
        training={**TRAINING, "probeEvery": 1, "emaDecay": DECAY, "weights": "Best"},
    )
    best, committed = checkpointed(run, "average", 2), weights(run)
    assert all(torch.equal(committed[name], best[name]) for name in best)
    assert not torch.equal(*(checkpointed(run, label, 2)[B] for label in ("average", "weights")))


def test_the_mean_takes_the_parameters_place_and_gives_it_back() -> None:
    layer = nn.Linear(3, 2)
    trainable = dict(layer.named_parameters())
    average = Average(trainable, 0.9)
    start = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(1)
    average.update(1)
    moved = layer.weight.detach().clone()
    with average.in_place():
        assert torch.allclose(layer.weight, start + 9 / 11)
    assert torch.equal(layer.weight, moved)
    with pytest.raises(ValueError, match="anything"), average.in_place():
        raise ValueError("anything")
    assert torch.equal(layer.weight, moved)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_captions_are_dropped_for_the_empty_one(
    share: float, encoded21: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = encoded21.fork(f"dropped-{share}")
    latents = Latents.model_validate_json((run.fetch("encode") / FILE).read_bytes())
    seen = []
    real = trainer.load_batch

    def spy(cache: Any, clips: Any, *rest: Any) -> Any:
        seen.extend(clip.text for clip in clips)
        return real(cache, clips, *rest)

    monkeypatch.setattr(trainer, "load_batch", spy)
    run.go(Step.TRAIN, training={"steps": 8, "batchSize": 2, "captionDropout": share})
    dropped = [drops_caption(0, place, share) for place in range(16)]
    assert [text == latents.empty_text for text in seen] == dropped
    assert any(dropped) == (share > 0)
    assert all(dropped) == (share == 1)


def test_dropping_captions_follows_share_seed_and_place() -> None:
    drawn = [drops_caption(1, place, 0.1) for place in range(10_000)]
    assert 0.09 < sum(drawn) / len(drawn) < 0.11
    assert drawn != [drops_caption(2, place, 0.1) for place in range(10_000)]


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [(torch.float32, 0, 0.01), (torch.bfloat16, 0.5, 1)]
)
def test_updates_that_rounding_swallows_are_counted(
    dtype: torch.dtype, low: float, high: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(64, 100, generator=generator).to(dtype))
    frozen = nn.Parameter(torch.ones(5, dtype=dtype))
    optimizer = torch.optim.AdamW([weight, frozen], lr=1e-5, weight_decay=0)
    weight.grad = torch.randn(64, 100, generator=generator).to(dtype)
    frozen.grad = torch.zeros(5, dtype=dtype)
    before = rounding.sample([weight, frozen])
    whole = weight.detach().clone()
    optimizer.step()
    lost = rounding.lost_share(before, [weight, frozen], optimizer)
    assert low <= lost <= high
    assert lost == pytest.approx(float((weight == whole).float().mean()), abs=0.05)


def test_training_loses_no_updates_and_says_so(exported21: Run, full21: Run) -> None:
    for run in (exported21, full21):
        assert all(step["updatesLost"] < 0.01 for step in record(run)["steps"])


def test_long_gradients_are_scaled_down(encoded21: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    real = torch.optim.AdamW.step

    def spy(optimizer: torch.optim.AdamW, *rest: Any) -> Any:
        gradients = [one.grad for group in optimizer.param_groups for one in group["params"]]
        norms.append(float(torch.cat([one.flatten() for one in gradients]).norm()))
        return real(optimizer, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    run = encoded21.fork("clipped")
    run.go(Step.TRAIN, training={"steps": 2, "maxGradientNorm": 1e-3})
    assert norms == pytest.approx([1e-3, 1e-3], rel=1e-3)
    assert all(step["gradientNorm"] > 1e-2 for step in record(run)["steps"])


def test_steps_are_optimizer_steps_of_whole_batches(
    encoded21: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = trainer.load_batch

    def spy(cache: Any, clips: Any, *rest: Any) -> Any:
        sizes.append(len(clips))
        return real(cache, clips, *rest)

    monkeypatch.setattr(trainer, "load_batch", spy)
    run = encoded21.fork("batches")
    run.go(Step.TRAIN, training={"steps": 3, "batchSize": 2, "gradientAccumulation": 4})
    assert sizes == [2] * 12
    assert [step["step"] for step in record(run)["steps"]] == [1, 2, 3]


def test_equal_seeds_train_alike_and_others_do_not(encoded21: Run) -> None:
    runs = [encoded21.fork(f"seed-{name}") for name in ("one", "same", "other")]
    for run, seed in zip(runs, (3, 3, 4), strict=True):
        run.go(Step.TRAIN, training={"steps": 2, "seed": seed}, lora={"dropout": 0.1})
    one, same, other = (weights(run) for run in runs)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_a_level_of_weight_zero_is_no_dead_gradient(
    encoded21: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, drawn = trainer.NoiseLevels.draw, [0]

    def first_weightless(levels: Any, *rest: Any) -> tuple[Tensor, Tensor]:
        drawn[0] += 1
        sigmas, level_weights = real(levels, *rest)
        return sigmas, level_weights * (drawn[0] > 1)

    monkeypatch.setattr(trainer.NoiseLevels, "draw", first_weightless)
    run = encoded21.fork("weightless")
    run.go(Step.TRAIN, training={"lossWeighting": "Bell"})
    assert record(run)["steps"][0]["loss"] == 0


@pytest.mark.parametrize("preset", ["tiny21", "tiny22"])
def test_the_api_takes_the_name_of_each_linear_layer(
    preset: str, request: pytest.FixtureRequest
) -> None:
    files: ModelFiles = request.getfixturevalue(preset)
    expert = Expert.ONLY if preset == "tiny21" else Expert.HIGH_NOISE
    dit = load_dit(files, expert, torch.float32, torch.device("cpu"))
    linear = [name for name, each in dit.named_modules() if isinstance(each, nn.Linear)]
    assert len(linear) > 20
    for name in linear:
        assert re.match(LAYER, name), name
        assert re.match(LAYER, name.removeprefix("blocks.0.")), name


def test_adapters_do_not_widen_their_input_and_compute_the_same(
    tiny21: ModelFiles,
) -> None:
    """In the precision of GPUs, where peft would copy every input to float32 for autocast to
    narrow it again.
    """
    outcomes = []
    for widen in (False, True):
        dit = load_dit(tiny21, Expert.ONLY, torch.bfloat16, torch.device("cpu"))
        trainable = inject(dit, LoraSpec(rank=4), 0)
        generator = torch.Generator().manual_seed(1)
        for name, parameter in trainable.items():
            if ".lora_B." in name:
                parameter.data = torch.randn(parameter.shape, generator=generator) / 50
        layer = dit.blocks[0].self_attn.q
        assert layer.cast_input_dtype_enabled is False
        layer.cast_input_dtype_enabled = widen
        x = torch.randn(1, 7, 128, generator=generator).bfloat16().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(x)
        out.float().pow(2).sum().backward()
        outcomes.append([out, x.grad, *(one.grad for one in layer.parameters())])
    for ours, peft in zip(*outcomes, strict=True):
        assert (ours is None and peft is None) or torch.equal(ours, peft)
