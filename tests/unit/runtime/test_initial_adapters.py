"""Training that starts from adapters of other tools: all that they hold, and what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ml_runs import Run
from unit.runtime.test_initial import Begun, close, factors, products, refused
from wan_runtime.contract.steps import Expert
from wan_runtime.models.adapters.changes import Factors
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.weights import write_safetensors

pytest_plugins = ["ml_fixtures"]


@pytest.fixture
def adapter(exported21: Run) -> Factors:
    return factors(exported21.fetch("export") / "exported21.safetensors")


def given(run: Run, folder: Path, tensors: Mapping[str, Tensor]) -> str:
    """The URI of an adapter of these tensors."""
    write_safetensors(folder / "given.safetensors", tensors, {})
    run.store.put_file(f"given/{folder.name}.safetensors", folder / "given.safetensors")
    return f"s3://{run.store.bucket}/given/{folder.name}.safetensors"


def comfy(factors: Factors) -> dict[str, Tensor]:
    return {
        f"diffusion_model.{layer}.lora_{side}.weight": tensor
        for layer, pair in factors.items()
        for side, tensor in zip("BA", pair, strict=True)
    }


def test_full_weights_grow_by_all_that_a_distilled_adapter_holds(
    full21: Run, tiny21: ModelFiles, tmp_path: Path, adapter: Factors
) -> None:
    base = {name: each.float() for name, each in load_file(tiny21.dits[Expert.ONLY][0]).items()}
    parameters = {
        "blocks.0.norm3.diff": "blocks.0.norm3.weight",
        "blocks.1.ffn.0.diff_b": "blocks.1.ffn.0.bias",
        "blocks.1.diff_m": "blocks.1.modulation",
        "head.head.diff": "head.head.weight",
    }
    others = {name: torch.randn(base[whole].shape) for name, whole in parameters.items()}
    uri = given(
        full21,
        tmp_path,
        comfy(adapter) | {f"diffusion_model.{name}": each for name, each in others.items()},
    )
    begun = Begun(full21, tiny21, tmp_path, uri)
    grown = {f"{layer}.weight": delta for layer, delta in products(adapter).items()}
    grown |= {whole: others[name] for name, whole in parameters.items()}
    for name, parameter in begun.trainable.items():
        wanted = base[name] + grown.get(name, torch.zeros_like(base[name]))
        assert torch.allclose(parameter, wanted, atol=1e-5), name


def test_an_adapter_takes_no_part_of_what_it_cannot_hold(
    exported21: Run, tiny21: ModelFiles, tmp_path: Path, adapter: Factors
) -> None:
    norm = {"diffusion_model.blocks.0.norm3.diff": torch.ones(128)}
    message = refused(
        exported21, tiny21, tmp_path, given(exported21, tmp_path, comfy(adapter) | norm)
    )
    assert "changes 1 parameters by what no LoRA holds, such as blocks.0.norm3.weight" in message


def test_image_branches_are_left_out_where_the_model_has_none(
    exported22: Run, tiny22: ModelFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = factors(exported22.fetch("export") / "exported22-high-noise.safetensors")
    image = {
        "blocks.0.cross_attn.k_img": (torch.ones(128, 4), torch.ones(4, 128)),
        "img_emb.proj.1": (torch.ones(64, 4), torch.ones(4, 64)),
    }
    uri = given(exported22, tmp_path, comfy({**wanted, **image}))
    begun = Begun(exported22, tiny22, tmp_path, uri, Expert.HIGH_NOISE)
    assert close(begun.deltas(), products(wanted))
    assert f"initFrom: {uri}: 2 of its layers are image branches" in caplog.text
    full = exported22.fork("full-from-image", "full")
    caplog.clear()
    Begun(full, tiny22, tmp_path / "full", uri, Expert.LOW_NOISE)
    assert "2 of its layers are image branches, which this model has not" in caplog.text
    alone = given(exported22, tmp_path, comfy(image))
    message = refused(exported22, tiny22, tmp_path, alone, Expert.HIGH_NOISE)
    assert "changes nothing but image branches" in message


def test_one_file_of_both_experts_begins_each(
    exported22: Run, tiny22: ModelFiles, tmp_path: Path
) -> None:
    folder = exported22.fetch("export")
    high, low = (
        load_file(folder / f"exported22-{name}.diffusers.safetensors")
        for name in ("high-noise", "low-noise")
    )
    second = {name.replace("transformer.", "transformer_2."): each for name, each in low.items()}
    uri = given(exported22, tmp_path, high | second)
    for expert, name in ((Expert.HIGH_NOISE, "high-noise"), (Expert.LOW_NOISE, "low-noise")):
        wanted = factors(folder / f"exported22-{name}.safetensors")
        begun = Begun(exported22, tiny22, tmp_path / name, uri, expert)
        assert close(begun.deltas(), products(wanted))
    uri = given(exported22, tmp_path, second)
    message = refused(exported22, tiny22, tmp_path, uri, Expert.HIGH_NOISE)
    assert message == f"initFrom: {uri} is of the low-noise expert, not of the high-noise one"


def test_what_is_no_adapter_is_named(
    exported21: Run, full21: Run, tiny21: ModelFiles, tmp_path: Path
) -> None:
    path = tmp_path / "pickle.safetensors"
    torch.save({"a": torch.ones(2)}, path)
    exported21.store.put_file("given/pickle.safetensors", path)
    uri = f"s3://{exported21.store.bucket}/given/pickle.safetensors"
    for run in (exported21, full21):
        said = f"initFrom: {uri} is a pickle of PyTorch, whatever its name"
        assert refused(run, tiny21, tmp_path, uri).startswith(said)
    lokr = {"lora_unet_blocks_0_ffn_0.lokr_w1": torch.ones(2, 2)}
    message = refused(exported21, tiny21, tmp_path, given(exported21, tmp_path, lokr))
    assert "is an adapter of the kind LoKr" in message
