"""Training that starts from existing weights: every form and dialect, and what does not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from diffsynth.utils.state_dict_converters import wan_video_dit
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ml_runs import Run
from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import FileEntry, Lineage, Manifest
from wan_runtime.artifacts.store import ArtifactCorrupt
from wan_runtime.contract.finetune import Dialect, finetune_of
from wan_runtime.contract.job import Certificate
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert, Step
from wan_runtime.errors import InputError
from wan_runtime.models.adapters.changes import Factors
from wan_runtime.models.adapters.dialects import read_adapter, write_adapter
from wan_runtime.models.dit.lora import delta_factors
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.weights import write_safetensors
from wan_runtime.training import init_files, init_from, trainer
from wan_runtime.training.method import method_of

pytest_plugins = ["ml_fixtures"]

CPU = torch.device("cpu")


class Begun:
    """The parameters of a fresh train step, after it began from `initFrom`."""

    def __init__(
        self,
        run: Run,
        files: ModelFiles,
        folder: Path,
        uri: str,
        expert: Expert = Expert.ONLY,
        **method: Any,
    ) -> None:
        spec = {run.method: {"initFrom": uri, **method}}
        job = run.job(Step.TRAIN, expert, **spec)
        transformer = Transformer.load(files, expert, CPU, torch.float32)
        self.trainable: Mapping[str, nn.Parameter] = method_of(job).prepare(transformer, 0)
        lora = finetune_of(job).lora
        self.scale = lora.alpha / lora.rank if lora else 1.0
        self.source = init_from.begin(job, run.store, folder, self.trainable)

    def deltas(self) -> dict[str, Tensor]:
        return products(delta_factors(dict(self.trainable), self.scale))


def factors(path: Path) -> Factors:
    (changes,) = read_adapter(path).parts.values()
    return changes.factors


def products(factors: Factors) -> dict[str, Tensor]:
    return {layer: (b @ a).detach() for layer, (b, a) in factors.items()}


def close(ours: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    assert ours.keys() == wanted.keys()
    return all(torch.allclose(ours[name], wanted[name], atol=1e-6) for name in wanted)


def place(run: Run, step: str) -> str:
    return run.inputs[step].uri.removesuffix("/manifest.json")


@pytest.fixture
def adapter(exported21: Run) -> Factors:
    return factors(exported21.fetch("export") / "exported21.safetensors")


@pytest.mark.parametrize(
    ("step", "ending"),
    [
        ("export", ""),
        ("export", "/"),
        ("export", "/manifest.json"),
        ("export", "/exported21.safetensors"),
        ("train", ""),
    ],
)
def test_an_adapter_goes_on_from_an_artifact_or_a_file(
    exported21: Run, tiny21: ModelFiles, tmp_path: Path, adapter: Factors, step: str, ending: str
) -> None:
    begun = Begun(exported21, tiny21, tmp_path, place(exported21, step) + ending, alpha=2)
    assert close(begun.deltas(), products(adapter)), "whatever alpha this run scales by"
    assert begun.source is not None
    assert len(begun.source["sha256"]) == 64
    assert not (tmp_path / "initial").exists(), "no scratch space is held while it trains"


@pytest.mark.parametrize("dialect", list(Dialect))
def test_an_adapter_goes_on_from_every_dialect(
    dialect: Dialect, exported21: Run, tiny21: ModelFiles, tmp_path: Path, adapter: Factors
) -> None:
    path = tmp_path / "given.safetensors"
    write_adapter(dialect, path, adapter, {})
    exported21.store.put_file(f"given/{dialect}.safetensors", path)
    uri = f"s3://{exported21.store.bucket}/given/{dialect}.safetensors"
    assert close(Begun(exported21, tiny21, tmp_path, uri).deltas(), products(adapter))


def test_a_pair_takes_each_experts_own_file(
    exported22: Run, tiny22: ModelFiles, tmp_path: Path
) -> None:
    folder = exported22.fetch("export")
    for expert, name in ((Expert.HIGH_NOISE, "high-noise"), (Expert.LOW_NOISE, "low-noise")):
        wanted = factors(folder / f"exported22-{name}.safetensors")
        for step in ("export", f"train-{name}"):
            begun = Begun(
                exported22, tiny22, tmp_path / name / step, place(exported22, step), expert
            )
            assert close(begun.deltas(), products(wanted))


def test_a_run_goes_on_where_another_ended_and_says_so(exported21: Run) -> None:
    run = exported21.fork("goes-on")
    uri = place(exported21, "export")
    run.go(Step.TRAIN, training={"steps": 1}, lora={"initFrom": uri})
    run.go(Step.EXPORT)
    before, after = (
        json.loads((each.fetch("train") / trainer.RECORD).read_text()) for each in (exported21, run)
    )
    first, last = after["probes"][0]["losses"]["mean"], before["probes"][-1]["losses"]["mean"]
    assert first == pytest.approx(last, rel=1e-4)
    assert after["initFrom"] == {
        "uri": f"{uri}/manifest.json", "sha256": exported21.inputs["export"].sha256,
    }  # fmt: skip
    lineage = manifest.load(run.store, run.inputs["train"]).lineage
    assert lineage.inputs["initFrom"] == exported21.inputs["export"]
    assert (
        f"Only started from `{uri}/manifest.json`"
        in (run.fetch("export") / "README.md").read_text()
    )


def official(run: Run) -> dict[str, Tensor]:
    return load_file(run.fetch("export") / f"{run.folder.name}.safetensors")


def comfyui(run: Run) -> dict[str, Tensor]:
    return {f"model.diffusion_model.{name}": value for name, value in official(run).items()}


def diffusers(run: Run) -> dict[str, Tensor]:
    """Through the inverse of the stock converter, found by trying it on every name it knows."""
    source = Path(wan_video_dit.__file__).read_text()
    pairs = [line.split('"')[1::2] for line in source.splitlines() if line.count('"') == 4]
    theirs = {}
    for name, value in official(run).items():
        number = name.split(".")[1] if name.startswith("blocks.") else ""
        [found] = {
            pair[0].replace(".0.", f".{number}.", 1) if number else pair[0]
            for pair in pairs
            if (pair[1].replace("blocks.0.", f"blocks.{number}.", 1)) == name
        }
        theirs[found] = value
    return theirs


@pytest.mark.parametrize("names", [official, comfyui, diffusers])
def test_full_weights_go_on_from_every_dialect(
    names: Any, full21: Run, tiny21: ModelFiles, tmp_path: Path
) -> None:
    write_safetensors(tmp_path / "given.safetensors", names(full21), {})
    key = f"given/full-{names.__name__}.safetensors"
    full21.store.put_file(key, tmp_path / "given.safetensors")
    begun = Begun(full21, tiny21, tmp_path, f"s3://{full21.store.bucket}/{key}")
    wanted = official(full21)
    assert begun.trainable.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(begun.trainable[name], value.float()), name


def test_full_weights_go_on_from_an_artifact_and_from_float32(
    full21: Run, tiny21: ModelFiles, tmp_path: Path
) -> None:
    begun = Begun(full21, tiny21, tmp_path / "a", place(full21, "export"))
    exact = Begun(full21, tiny21, tmp_path / "b", place(full21, "train"))
    for name, parameter in exact.trainable.items():
        assert parameter.dtype is torch.float32
        assert torch.equal(parameter.bfloat16().float(), begun.trainable[name])
    assert any(
        not torch.equal(parameter, begun.trainable[name])
        for name, parameter in exact.trainable.items()
    )


@pytest.mark.parametrize("formats", [list(Dialect), list(Dialect)[1:], list(Dialect)[2:]])
def test_of_an_artifact_in_several_formats_one_is_taken(
    formats: list[Dialect],
    full21: Run,
    exported22: Run,
    tiny21: ModelFiles,
    tiny22: ModelFiles,
    tmp_path: Path,
) -> None:
    run = full21.fork(f"full-{len(formats)}-formats")
    run.inputs["train"] = full21.inputs["train"]
    run.go(Step.EXPORT, formats=formats)
    begun = Begun(run, tiny21, tmp_path / "full", place(run, "export"))
    for name, value in official(full21).items():
        assert torch.equal(begun.trainable[name], value.float()), name

    pair = exported22.fork(f"pair-high-noise-{len(formats)}")
    pair.inputs |= {
        name: exported22.inputs[name] for name in ("train-high-noise", "train-low-noise")
    }
    pair.go(Step.EXPORT, formats=formats)
    wanted = factors(exported22.fetch("export") / "exported22-low-noise.safetensors")
    low = Begun(pair, tiny22, tmp_path / "pair", place(pair, "export"), Expert.LOW_NOISE)
    assert close(low.deltas(), products(wanted))


def test_shards_of_one_expert_are_all_taken() -> None:
    names = [
        f"x-high-noise-{level}-noise{tool}-0000{number}-of-00002.safetensors"
        for tool in ("", ".comfyui")
        for level in ("high", "low")
        for number in (1, 2)
    ]
    names += [f"x.diffusers/transformer{n}/d-00001-of-00001.safetensors" for n in ("", "_2")]

    def content(*formats: tuple[Dialect, str]) -> Manifest:
        return Manifest(
            kind="weights",
            created=datetime.now(UTC),
            files=tuple(FileEntry(path=name, bytes=1, sha256="0" * 64) for name in sorted(names)),
            lineage=Lineage(config_hash="0" * 64, preset="Wan2.2-I2V-Tiny"),
            certificates=tuple(
                Certificate(
                    format=form,
                    consumer="",
                    worst_difference=0,
                    files=tuple(name for name in names if mark in name),
                )
                for form, mark in formats
            ),
        )

    both = content((Dialect.DIFFUSERS, "/"), (Dialect.COMFYUI, ".comfyui-"))
    chosen = init_files.files_of("s3://a/b", both, Expert.LOW_NOISE)
    assert set(chosen) == {name for name in names if "low-noise.comfyui" in name}
    one = content((Dialect.DIFFUSERS, "/"))
    assert init_files.files_of("s3://a/b", one, Expert.HIGH_NOISE) == (names[-2],)
    assert init_files.files_of("s3://a/b", one, Expert.LOW_NOISE) == (names[-1],)
    with pytest.raises(InputError, match="has no weights of LowNoise"):
        init_files.files_of("s3://a/b", content(), Expert.LOW_NOISE)


def test_full_weights_may_start_from_an_adapter(
    full21: Run, exported21: Run, tiny21: ModelFiles, tmp_path: Path, adapter: Factors
) -> None:
    begun = Begun(full21, tiny21, tmp_path, place(exported21, "export"))
    base = load_file(tiny21.dits[Expert.ONLY][0])
    for layer, delta in products(adapter).items():
        grown = begun.trainable[f"{layer}.weight"] - base[f"{layer}.weight"].float()
        assert torch.allclose(grown, delta, atol=1e-6)


def refused(*arguments: Any, **method: Any) -> str:
    with pytest.raises(InputError) as caught:
        Begun(*arguments, **method)
    assert caught.value.reason in (Reason.MODEL_INVALID, Reason.MODEL_NOT_FOUND)
    return caught.value.message


def test_what_does_not_fit_is_refused_with_both_sides(
    exported21: Run, exported22: Run, full21: Run, tiny21: ModelFiles, tmp_path: Path
) -> None:
    mine = place(exported21, "export")
    message = refused(exported21, tiny21, tmp_path, mine, rank=8, alpha=8)
    assert "has rank 4 at" in message
    assert "method.lora.rank is 8" in message
    message = refused(exported21, tiny21, tmp_path, mine, targetModules=["q", "k"])
    assert "adapts 24 layers that method.lora.targetModules does not" in message
    message = refused(exported21, tiny21, tmp_path, place(exported22, "export"))
    assert "holds HighNoise and LowNoise of Wan2.2-I2V-Tiny; this run trains Only" in message
    message = refused(exported21, tiny21, tmp_path, place(exported21, "prepare"))
    assert "is a set of dataset, not of weights" in message
    message = refused(exported21, tiny21, tmp_path, place(full21, "export"))
    assert "holds no adapter" in message
    message = refused(exported21, tiny21, tmp_path, f"s3://{exported21.store.bucket}/nothing")
    assert "has no manifest.json" in message
    message = refused(exported21, tiny21, tmp_path, f"{mine}/other.safetensors")
    assert "does not exist" in message
    single = place(exported22, "export") + "/exported22-high-noise.safetensors"
    shape = refused(full21.fork("wide", "full"), tiny21, tmp_path, upload(full21, tmp_path, wide))
    assert "patch_embedding.weight is 128x36x1x2x2x1 there and 128x36x1x2x2 here" in shape
    lacking = refused(full21, tiny21, tmp_path, upload(full21, tmp_path, short))
    assert "1 tensors are missing and 0 are not known, such as head.modulation" in lacking
    assert Begun(exported21, tiny21, tmp_path, single), "its layers and rank are the same"


@pytest.mark.parametrize(
    ("dtype", "scales", "stored"),
    [
        (torch.float8_e4m3fn, "", "FP8 (F8_E4M3, "),
        (torch.float8_e5m2, "", "FP8 (F8_E5M2, "),
        (torch.float8_e4m3fn, "scale_weight", "ComfyUI's scaled FP8 (blocks."),
        (torch.int8, "SCB", "8 bits of bitsandbytes (blocks."),
    ],
)
def test_full_weights_of_less_precision_are_refused_by_name(
    full21: Run, tiny21: ModelFiles, tmp_path: Path, dtype: torch.dtype, scales: str, stored: str
) -> None:
    """Names and shapes of an FP8 cast are right: what was cut off would be missing in silence."""
    tensors = official(full21)
    for name in [name for name in tensors if name.endswith((".q.weight", ".k.weight"))]:
        tensors[name] = tensors[name].to(dtype)
        if scales:
            tensors[f"{name.removesuffix('weight')}{scales}"] = torch.ones(1)
    save_file(tensors, tmp_path / "fp8.safetensors")
    full21.store.put_file("given/fp8.safetensors", tmp_path / "fp8.safetensors")
    uri = f"s3://{full21.store.bucket}/given/fp8.safetensors"
    message = refused(full21, tiny21, tmp_path, uri)
    assert message.startswith(f"initFrom: {uri} is stored in {stored}")
    assert message.endswith("float16 are read: give the weights it was made of")


def wide(tensors: dict[str, Tensor]) -> None:
    tensors["patch_embedding.weight"] = tensors["patch_embedding.weight"].unsqueeze(-1)


def short(tensors: dict[str, Tensor]) -> None:
    del tensors["head.modulation"]


def upload(run: Run, folder: Path, change: Any) -> str:
    tensors = official(run)
    change(tensors)
    path = folder / f"{change.__name__}.safetensors"
    write_safetensors(path, tensors, {})
    run.store.put_file(f"given/{path.name}", path)
    return f"s3://{run.store.bucket}/given/{path.name}"


def test_a_damaged_artifact_is_not_started_from(
    exported21: Run, tiny21: ModelFiles, tmp_path: Path
) -> None:
    run = exported21.fork("to-damage")
    run.inputs["train"] = exported21.inputs["train"]
    run.go(Step.EXPORT)
    run.store.put_bytes(f"{run.job(Step.EXPORT).output_prefix}/to-damage.safetensors", b"x")
    with pytest.raises(ArtifactCorrupt):
        Begun(run, tiny21, tmp_path, place(run, "export"))
