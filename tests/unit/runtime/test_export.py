"""Export: files that each tool loads to the trained delta, and the proof of it."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ml_runs import LORA, Run
from wan_runtime.artifacts import manifest
from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.job import Result
from wan_runtime.contract.steps import SUFFIXES, Expert, Step
from wan_runtime.errors import InfrastructureError
from wan_runtime.models import load
from wan_runtime.models.adapters.dialects import read_adapter
from wan_runtime.models.dit.lora import delta_factors
from wan_runtime.models.layout import ModelFiles
from wan_runtime.process import step
from wan_runtime.process.progress import Reporter
from wan_runtime.training import export, lora, trainer
from wan_runtime.training.certificate import TOLERANCE, certify, relative_difference

pytest_plugins = ["ml_fixtures"]

SCALE = float(LORA["alpha"]) / float(LORA["rank"])


def test_stock_load_lora_adds_the_trained_delta(exported21: Run, tiny21: ModelFiles) -> None:
    path = exported21.fetch("export") / "exported21.safetensors"
    trained = load_file(exported21.fetch("train") / lora.WEIGHTS)
    pipe = load.load_pipeline(tiny21, torch.float32, torch.device("cpu"))
    before = {name: value.clone() for name, value in pipe.dit.state_dict().items()}
    pipe.load_lora(pipe.dit, str(path))
    changed = set()
    for name, value in pipe.dit.state_dict().items():
        if torch.equal(value, before[name]):
            continue
        changed.add(name)
        stem = name.removesuffix(".weight")
        a, b = (trained[f"{stem}.lora_{side}.default.weight"] for side in "AB")
        delta = SCALE * b @ a
        error = (value - before[name] - delta).norm() / delta.norm()
        assert float(error) < TOLERANCE, name
    assert len(changed) == 40


def test_artifact_lists_weights_curve_and_card(exported21: Run, exported22: Run) -> None:
    single = {path.name for path in exported21.fetch("export").iterdir()}
    weights = {f"exported21{tool}.safetensors" for tool in ("", ".comfyui", ".diffusers")}
    assert single == weights | {"exported21-loss.png", "README.md"}
    folder = exported22.fetch("export")
    pair = {path.name for path in folder.iterdir() if path.suffix == ".safetensors"}
    assert pair == {
        f"exported22-{expert}-noise{tool}.safetensors"
        for expert in ("high", "low")
        for tool in ("", ".comfyui", ".diffusers")
    }
    card = (folder / "README.md").read_text()
    assert 'pipe.load_lora(pipe.dit, "exported22-high-noise.safetensors")' in card
    assert 'pipe.load_lora(pipe.dit2, "exported22-low-noise.safetensors")' in card
    assert "switch_DiT_boundary=0.9" in card
    assert (
        "`exported22-low-noise.comfyui.safetensors`: node *Load LoRA (Model)* after the low-"
        in card
    )
    second = (
        'weight_name="exported22-low-noise.diffusers.safetensors", load_into_transformer_2=True'
    )
    assert second in card
    assert 'weight_name="exported22-high-noise.diffusers.safetensors")' in card


def test_an_adapter_says_that_its_base_was_rounded(encoded21: Run, exported21: Run) -> None:
    run = encoded21.fork("float8")
    run.go(Step.TRAIN, training={"steps": 40, "basePrecision": "FP8"})
    run.go(Step.EXPORT, formats=["DiffSynth"])
    folder = run.fetch("export")
    with safe_open(folder / "float8.safetensors", framework="pt") as file:
        assert file.metadata()["basePrecision"] == "FP8"
    assert "rounded to FP8" in (folder / "README.md").read_text()
    assert manifest.load(run.store, run.inputs["export"]).lineage.base_precision == "FP8"
    plain = exported21.fetch("export")
    with safe_open(plain / "exported21.safetensors", framework="pt") as file:
        assert "basePrecision" not in file.metadata()
    assert "FP8" not in (plain / "README.md").read_text()
    stored = exported21.store.get_bytes(exported21.store.parse(exported21.inputs["export"].uri)[1])
    assert b"basePrecision" not in stored, "manifests of other runs are as they were"
    found, wanted = (
        [probe["losses"]["mean"] for probe in json.loads(path.read_text())["probes"]]
        for path in (each.fetch("train") / "training.json" for each in (run, exported21))
    )
    assert found == pytest.approx(wanted, rel=0.02), "it learns as it does beside bfloat16"
    assert found != wanted


def test_every_format_holds_the_trained_delta(exported22: Run) -> None:
    folder = exported22.fetch("export")
    for name in ("high-noise", "low-noise"):
        trained = load_file(exported22.fetch(f"train-{name}") / lora.WEIGHTS)
        wanted = delta_factors(trained, SCALE)
        for dialect, ending in export.ENDINGS.items():
            adapter = read_adapter(folder / f"exported22-{name}{ending}")
            assert adapter.dialect is dialect
            [(expert, changes)] = adapter.parts.items()
            assert SUFFIXES[expert] == f"-{name}"
            factors = changes.factors
            assert factors.keys() == wanted.keys()
            for layer, pair in wanted.items():
                assert relative_difference(factors[layer], pair) < 1e-6


def test_the_certificate_is_in_the_manifest(exported22: Run) -> None:
    committed = manifest.load(exported22.store, exported22.inputs["export"])
    assert [each.format for each in committed.certificates] == list(Dialect)
    listed = {entry.path for entry in committed.files}
    for each in committed.certificates:
        assert 0 <= each.worst_difference < TOLERANCE
        assert len(each.files) == 2
        assert set(each.files) <= listed
    assert committed.certificates[0].consumer == f"diffsynth {version('diffsynth')}"


def test_a_repeated_step_tells_the_certificates_again(exported21: Run, tmp_path: Path) -> None:
    result = step.perform(exported21.job(Step.EXPORT), tmp_path, Reporter("export"))
    assert result.message == "already committed"
    assert [each.format for each in result.certificates] == list(Dialect)
    assert [each.files for each in result.certificates] == [()] * 3, "a full model has hundreds"
    assert Result.model_validate_json(result.dump()) == result


def test_only_the_formats_asked_for(exported21: Run) -> None:
    run = exported21.fork("two-formats")
    run.inputs["train"] = exported21.inputs["train"]
    outcome = run.go(Step.EXPORT, formats=["DiffSynth", "ComfyUI"])
    assert [each.format for each in outcome.certificates] == ["DiffSynth", "ComfyUI"]
    names = {path.name for path in run.fetch("export").iterdir()}
    assert "two-formats.comfyui.safetensors" in names
    assert "two-formats.diffusers.safetensors" not in names


def test_metadata_and_lineage(exported22: Run) -> None:
    folder = exported22.fetch("export")
    for expert, name in ((Expert.HIGH_NOISE, "high-noise"), (Expert.LOW_NOISE, "low-noise")):
        with safe_open(folder / f"exported22-{name}.safetensors", framework="pt") as file:
            metadata = file.metadata()
        assert metadata["preset"] == "Wan2.2-I2V-Tiny"
        assert metadata["expert"] == expert
        assert (metadata["rank"], metadata["alphaFolded"]) == ("4", "true")
    committed = manifest.load(exported22.store, exported22.inputs["export"])
    assert committed.kind == "weights"
    assert set(committed.lineage.inputs) >= {"train-high-noise", "train-low-noise"}
    assert committed.lineage.base_weights is not None
    assert committed.summary["highNoise.steps"] == 4


def test_export_is_repeatable(exported21: Run) -> None:
    before = exported21.inputs["export"]
    assert exported21.go(Step.EXPORT).manifest == before


def tamper_value(path: Path) -> None:
    tensors = load_file(path)
    name = next(name for name in tensors if "blocks.1." in name and "lora_B" in name)
    tensors[name] = tensors[name] * 1.002
    save_file(tensors, path)


def tamper_precision(path: Path) -> None:
    save_file({name: value.bfloat16() for name, value in load_file(path).items()}, path)


def tamper_layer(path: Path) -> None:
    tensors = load_file(path)
    save_file({name: value for name, value in tensors.items() if "0.ffn." not in name}, path)


def tamper_nan(path: Path) -> None:
    tensors = load_file(path)
    next(value for name, value in tensors.items() if "lora_A" in name)[0, 0] = float("nan")
    save_file(tensors, path)


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("tamper", [tamper_value, tamper_precision, tamper_layer, tamper_nan])
def test_certificate_refuses_what_was_not_trained(
    tamper: Any, dialect: Dialect, exported21: Run
) -> None:
    path = exported21.fetch("export") / f"exported21{export.ENDINGS[dialect]}"
    trained = load_file(exported21.fetch("train") / lora.WEIGHTS)
    factors = delta_factors(trained, SCALE)
    assert certify(dialect, path, factors) < 1e-6
    tamper(path)
    with pytest.raises(InfrastructureError, match=f"reloaded as {dialect} does, is not what was"):
        certify(dialect, path, factors)


@pytest.mark.parametrize("dialect", [Dialect.COMFYUI, Dialect.DIFFUSERS])
def test_certificate_refuses_keys_that_the_tool_would_not_load(
    dialect: Dialect, exported21: Run
) -> None:
    path = exported21.fetch("export") / f"exported21{export.ENDINGS[dialect]}"
    factors = read_adapter(path).of(Expert.ONLY).factors
    save_file({**load_file(path), "blocks.0.norm3.lora_A.weight": torch.ones(4)}, path)
    with pytest.raises(InfrastructureError, match=r"blocks.0.norm3.lora_A.weight among them"):
        certify(dialect, path, factors)


def test_nothing_is_committed_without_the_certificate(
    exported21: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = export.write_adapter

    def damaged(dialect: Dialect, path: Path, factors: Any, metadata: dict[str, str]) -> None:
        real(dialect, path, factors, metadata)
        tamper_value(path)

    monkeypatch.setattr(export, "write_adapter", damaged)
    run = exported21.fork("uncertified")
    run.inputs["train"] = exported21.inputs["train"]
    with pytest.raises(InfrastructureError):
        run.go(Step.EXPORT)
    assert manifest.find(run.store, run.job(Step.EXPORT).output_prefix) is None


def test_difference_of_factors_equals_that_of_products() -> None:
    generator = torch.Generator().manual_seed(0)

    def factors() -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(24, 4, generator=generator), torch.randn(4, 16, generator=generator)

    (b1, a1), (b2, a2) = factors(), factors()
    wanted = float((b1 @ a1 - b2 @ a2).norm() / (b2 @ a2).norm())
    assert relative_difference((b1, a1), (b2, a2)) == pytest.approx(wanted, rel=1e-5)
    zero = torch.zeros(24, 4), a2
    assert relative_difference(zero, zero) == 0
    assert relative_difference((b1, a1), zero) == float("inf")


def test_record_and_weights_agree(exported21: Run) -> None:
    folder = exported21.fetch("train")
    record = json.loads((folder / trainer.RECORD).read_text())
    assert (record["lora"]["rank"], record["lora"]["alpha"]) == (4, 8)
