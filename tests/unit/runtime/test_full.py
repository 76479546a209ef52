"""Full fine-tuning on the tiny models: float32 masters, stock-loadable bfloat16 shards, proof."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffsynth.models import wan_video_dit
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ml_runs import Run
from passes import velocity_of
from wan_runtime.artifacts import manifest
from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert, Step
from wan_runtime.contract.training import FullSpec
from wan_runtime.errors import InfrastructureError, InputError, NumericalError
from wan_runtime.models import load
from wan_runtime.models.dit.forward import Conditions, keep_time_embedding_fp32
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.weights import Layout, SafetensorsFiles
from wan_runtime.planner import host
from wan_runtime.training import full, full_export, trainer
from wan_runtime.training.full import Full
from wan_runtime.training.full_export import certify

pytest_plugins = ["ml_fixtures"]

CPU = torch.device("cpu")


def trained(run: Run, name: str = "train") -> dict[str, Tensor]:
    """Weights that a train step committed."""
    files = full.trained_files(run.fetch(name))
    return {name: value for path in files for name, value in load_file(path).items()}


def record(run: Run, name: str = "train") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run.fetch(name) / trainer.RECORD).read_text())
    return content


def test_every_weight_learns_and_the_probes_fall(full21: Run, tiny21: ModelFiles) -> None:
    weights, base = trained(full21), load_file(tiny21.dits[Expert.ONLY][0])
    assert weights.keys() == base.keys()
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert not [name for name in base if torch.equal(weights[name], base[name].float())]
    first, last = (record(full21)["probes"][index]["losses"] for index in (0, -1))
    assert last["mean"] < 0.75 * first["mean"]
    assert record(full21)["full"] == {"learning_rate": 3e-4, "init_from": None}


def test_stock_pipeline_loads_the_export_in_place_of_the_base(
    full21: Run, tiny21: ModelFiles
) -> None:
    folder = full21.fetch("export")
    assert {path.name for path in folder.iterdir()} == {
        "full21.safetensors", "full21-loss.png", "README.md",
    }  # fmt: skip
    files = replace(tiny21, dits={Expert.ONLY: (folder / "full21.safetensors",)})
    pipe = load.load_pipeline(files, torch.float32, CPU)
    for name, wanted in trained(full21).items():
        found = pipe.dit.state_dict()[name]
        assert torch.equal(found, wanted.bfloat16().float()), name


def test_samples_show_what_full_fine_tuning_changed(full21: Run) -> None:
    outcome = full21.go(Step.SAMPLE)
    assert float(outcome.summary["meanDifference"]) > 0.1
    assert outcome.message.startswith("1 held-out first frames rendered twice; full fine-tuning")
    videos = {path.name for path in full21.fetch("sample").glob("*.mp4")}
    assert videos == {"base-0.mp4", "full-0.mp4", "reference-0.mp4"}


def test_what_is_on_its_way_is_no_more_than_the_planner_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def measured(path: Path, layout: Layout, *_: Any) -> None:
        sizes.append(sum(dtype.itemsize * shape.numel() for dtype, shape in layout.values()))

    monkeypatch.setattr("wan_runtime.models.weights.stream_safetensors", measured)
    layout = {str(number): (torch.float32, torch.Size([10**8])) for number in range(140)}
    files = Full(FullSpec()).write(layout, lambda name: torch.empty(0), tmp_path, {})
    names = [name for name, _ in files]
    assert len(names) == len(sizes)
    assert sum(sizes) == 56e9
    assert manifest.IN_FLIGHT * max(sizes) <= host.PIECES_BYTES


def test_large_weights_come_in_shards_with_an_index(
    encoded21: Run, full21: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full, "PIECE_BYTES", 3_500_000)
    monkeypatch.setattr(full_export, "SHARD_BYTES", 3_500_000)
    run = encoded21.fork("sharded", "full")
    run.go(Step.TRAIN, training={"steps": 40})
    whole, parts = trained(full21), trained(run)
    assert len(full.trained_files(run.fetch("train"))) > 1
    assert all(torch.equal(parts[name], tensor) for name, tensor in whole.items())
    run.go(Step.EXPORT)
    folder = run.fetch("export")
    index = json.loads((folder / "sharded.safetensors.index.json").read_text())
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    assert set(index["weight_map"].values()) == set(shards)
    assert shards[0] == f"sharded-00001-of-{len(shards):05d}.safetensors"
    assert index["metadata"]["total_size"] == sum(2 * tensor.numel() for tensor in whole.values())
    for name in shards:
        assert (folder / name).stat().st_size < 3_510_000
    card = (folder / "README.md").read_text()
    assert f"ModelConfig(path={shards!r})" in card
    assert float(run.go(Step.SAMPLE).summary["meanDifference"]) > 0.1


def test_both_experts_and_one_of_them(encoded22: Run) -> None:
    both = encoded22.fork("pair", "full")
    for expert in (Expert.HIGH_NOISE, Expert.LOW_NOISE):
        both.go(Step.TRAIN, expert)
    both.go(Step.EXPORT, formats=list(Dialect))
    folder = both.fetch("export")
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.safetensors")} == {
        "pair-high-noise.safetensors",
        "pair-low-noise.safetensors",
        "pair-high-noise.comfyui.safetensors",
        "pair-low-noise.comfyui.safetensors",
        "pair.diffusers/transformer/diffusion_pytorch_model.safetensors",
        "pair.diffusers/transformer_2/diffusion_pytorch_model.safetensors",
    }
    both.go(Step.SAMPLE)
    for method in ("lora", "full"):
        one = encoded22.fork(f"one-{method}", method)
        one.go(Step.TRAIN, Expert.HIGH_NOISE)
        one.go(Step.EXPORT, formats=["DiffSynth"])
        names = {path.name for path in one.fetch("export").glob("*.safetensors")}
        assert names == {f"one-{method}-high-noise.safetensors"}
        assert one.go(Step.SAMPLE).summary["videos"] == 1


def test_masters_keep_what_bfloat16_would_round_away(
    encoded21: Run, monkeypatch: pytest.MonkeyPatch, tiny21: ModelFiles
) -> None:
    """The precision of GPUs, on the CPU, at the rate of real models."""
    monkeypatch.setattr(trainer, "compute_dtype", lambda _: torch.bfloat16)
    run = encoded21.fork("masters", "full")
    run.go(Step.TRAIN, training={"steps": 5}, full={"learningRate": 1e-5})
    weights, base = trained(run), load_file(tiny21.dits[Expert.ONLY][0])
    total = sum(tensor.numel() for tensor in base.values())
    moved = sum(int((weights[name] != base[name].float()).sum()) for name in base)
    assert moved > 0.9 * total
    survive = sum(int((weights[name].bfloat16() != base[name]).sum()) for name in base)
    assert survive < 0.3 * total, "this rate would lose little in bfloat16: it proves nothing"


def test_the_exported_weights_compute_what_the_masters_did(tiny21: ModelFiles) -> None:
    masters = load.load_dit(tiny21, Expert.ONLY, torch.float32, CPU)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in masters.parameters():
            parameter.mul_(1 + 1e-3 * torch.rand(parameter.shape, generator=generator))
    exported = load.load_dit(tiny21, Expert.ONLY, torch.bfloat16, CPU)
    exported.load_state_dict(masters.state_dict())
    for dit in (masters, exported):
        keep_time_embedding_fp32(dit)
        dit.time_embedding.load_state_dict(masters.time_embedding.state_dict())
        dit.time_projection.load_state_dict(masters.time_projection.state_dict())
    noisy = torch.randn(1, 16, 2, 4, 4, generator=generator)
    conditions = Conditions(
        torch.randn(1, 512, 64, generator=generator),
        torch.randn(1, 20, 2, 4, 4, generator=generator),
        torch.randn(1, 257, 1280, generator=generator),
    ).to(CPU, torch.bfloat16)
    with torch.no_grad():
        velocities = [
            velocity_of(dit, noisy, torch.tensor([0.5]), conditions, dtype=torch.bfloat16)
            for dit in (masters, exported)
        ]
    assert torch.equal(*velocities)


def test_attention_without_backward_is_caught(
    encoded21: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = wan_video_dit.flash_attention
    monkeypatch.setattr(wan_video_dit, "flash_attention", lambda *a, **k: real(*a, **k).detach())
    with pytest.raises(NumericalError) as caught:
        encoded21.fork("sage-full", "full").go(Step.TRAIN)
    assert caught.value.reason is Reason.DEAD_GRADIENTS
    assert "blocks.0.self_attn.q, " in caught.value.message
    assert "ffn" not in caught.value.message


def test_weight_decay_is_for_matrices(tiny21: ModelFiles) -> None:
    transformer = Transformer.load(tiny21, Expert.ONLY, CPU, torch.float32)
    trainable = Full(FullSpec()).prepare(transformer, 0)
    decayed, spared = Full(FullSpec()).groups(trainable)
    names = {id(parameter): name for name, parameter in trainable.items()}
    assert len(decayed["params"]) + len(spared["params"]) == len(names)
    assert "weight_decay" not in decayed
    assert spared["weight_decay"] == 0
    assert all(names[id(one)].endswith("weight") for one in decayed["params"])
    spared_names = {names[id(one)] for one in spared["params"]}
    assert {"blocks.0.modulation", "blocks.0.self_attn.norm_q.weight", "head.head.bias"} <= (
        spared_names
    )


def test_a_transformer_of_other_names_is_refused(tiny21: ModelFiles) -> None:
    transformer = Transformer.load(tiny21, Expert.ONLY, CPU, torch.float32)
    transformer._module.head = nn.Linear(2, 2)
    with pytest.raises(InputError, match="layout of the official release") as caught:
        Full(FullSpec()).prepare(transformer, 0)
    assert caught.value.reason is Reason.MODEL_INVALID


def tamper_value(tensors: dict[str, Tensor]) -> None:
    tensors["blocks.1.ffn.2.weight"][0, 0] += 0.25


def tamper_missing(tensors: dict[str, Tensor]) -> None:
    del tensors["blocks.0.modulation"]


def tamper_nan(tensors: dict[str, Tensor]) -> None:
    tensors["head.head.bias"][0] = float("nan")


@pytest.mark.parametrize("tamper", [tamper_value, tamper_missing, tamper_nan])
def test_certificate_refuses_what_was_not_trained(tamper: Any, full21: Run) -> None:
    path = full21.fetch("export") / "full21.safetensors"
    with SafetensorsFiles(full.trained_files(full21.fetch("train"))) as weights:
        assert 0 < certify(Dialect.DIFFSYNTH, [path], weights) < 2**-8
        tensors = load_file(path)
        tamper(tensors)
        save_file(tensors, path)
        with pytest.raises(InfrastructureError, match="is not what was trained"):
            certify(Dialect.DIFFSYNTH, [path], weights)


def test_nothing_is_committed_without_the_certificate(
    full21: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = full_export.export

    def damaged(dialect: Dialect, weights: Any, folder: Path, *arguments: Any) -> list[str]:
        files = real(dialect, weights, folder, *arguments)
        path = folder / files[0]
        tensors = load_file(path)
        tamper_value(tensors)
        save_file(tensors, path)
        return files

    monkeypatch.setattr(full_export, "export", damaged)
    run = full21.fork("uncertified-full")
    run.inputs["train"] = full21.inputs["train"]
    with pytest.raises(InfrastructureError):
        run.go(Step.EXPORT)
    assert manifest.find(run.store, run.job(Step.EXPORT).output_prefix) is None
