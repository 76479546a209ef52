"""Full weights for ComfyUI and diffusers: stock loaders take them, and the proof refuses others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffsynth.configs import MODEL_CONFIGS
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffusers_peer import SIGMA, predict, random_inputs
from ml_runs import Run
from passes import velocity_of
from wan_runtime.artifacts import manifest
from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.steps import Expert, Step
from wan_runtime.errors import InfrastructureError
from wan_runtime.models import load
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.weights import SafetensorsFiles
from wan_runtime.training import full, full_export
from wan_runtime.training.full_export import certify, diffusers_config

pytest_plugins = ["ml_fixtures"]

FOLDER = "formats.diffusers/transformer"


@pytest.fixture(scope="module")
def formats(full21: Run) -> Run:
    """full21's weights in all formats, in shards where the tool takes them."""
    run = full21.fork("formats")
    run.inputs["train"] = full21.inputs["train"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_export, "SHARD_BYTES", 3_500_000)
        run.go(Step.EXPORT, formats=list(Dialect))
    return run


def trained(run: Run) -> dict[str, Tensor]:
    """As the stock loader would have it: rounded to bfloat16."""
    (path,) = full.trained_files(run.fetch("train"))
    return {name: value.bfloat16().float() for name, value in load_file(path).items()}


def test_stock_diffusers_predicts_what_diffsynth_does(formats: Run, tiny21: ModelFiles) -> None:
    folder = formats.fetch("export")
    assert len(list((folder / FOLDER).glob("*.safetensors"))) > 1
    theirs = WanTransformer3DModel.from_pretrained(folder / FOLDER, torch_dtype=torch.float32)
    ours = load.load_dit(tiny21, Expert.ONLY, torch.float32, torch.device("cpu"))
    noisy, conditions = random_inputs(clip=True)
    with torch.no_grad():
        base = velocity_of(ours, noisy, SIGMA, conditions, dtype=torch.float32)
        ours.load_state_dict(trained(formats))
        tuned = velocity_of(ours, noisy, SIGMA, conditions, dtype=torch.float32)
    assert float((tuned - base).norm() / base.norm()) > 1e-3
    assert torch.allclose(predict(theirs, noisy, SIGMA, conditions), tuned, atol=1e-4)


def test_comfyui_gets_one_file_with_the_official_names(formats: Run) -> None:
    found = load_file(formats.fetch("export") / "formats.comfyui.safetensors")
    wanted = trained(formats)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name].float(), wanted[name]) for name in wanted)


def test_the_card_and_the_manifest_tell_of_each(formats: Run) -> None:
    card = (formats.fetch("export") / "README.md").read_text()
    assert f'transformer=WanTransformer3DModel.from_pretrained("{FOLDER}")' in card
    assert "*Load Diffusion Model*: `formats.comfyui.safetensors`" in card
    committed = manifest.load(formats.store, formats.inputs["export"])
    for each in committed.certificates:
        assert 0 < each.worst_difference < 2**-8
    assert f"{FOLDER}/config.json" in committed.certificates[2].files
    assert f"{FOLDER}/diffusion_pytorch_model.safetensors.index.json" in (
        committed.certificates[2].files
    )


def swap(tensors: dict[str, Tensor]) -> None:
    """Names that fit in shape and lie: only another's table can tell."""
    one, two = (f"blocks.0.attn1.to_{part}.weight" for part in "qk")
    if one not in tensors:
        one, two = (f"blocks.0.self_attn.{part}.weight" for part in "qk")
    tensors[one], tensors[two] = tensors[two], tensors[one]


def drop(tensors: dict[str, Tensor]) -> None:
    del tensors[next(name for name in tensors if name.startswith("blocks.0."))]


def change(tensors: dict[str, Tensor]) -> None:
    tensors[next(name for name in tensors if name.endswith("bias"))][0] = float("nan")


@pytest.mark.parametrize("dialect", [Dialect.COMFYUI, Dialect.DIFFUSERS])
@pytest.mark.parametrize("tamper", [swap, drop, change])
def test_certificate_refuses_what_was_not_trained(
    tamper: Callable[[dict[str, Tensor]], None], dialect: Dialect, full21: Run, tmp_path: Path
) -> None:
    with SafetensorsFiles(full.trained_files(full21.fetch("train"))) as weights:
        files = full_export.export(dialect, weights, tmp_path, "folder/stem", {})
        path = tmp_path / files[0]
        assert 0 < certify(dialect, [path], weights) < 2**-8
        tensors = load_file(path)
        tamper(tensors)
        save_file(tensors, path)
        with pytest.raises(InfrastructureError, match=f"reloaded as {dialect} does, is not what"):
            certify(dialect, [path], weights)


def test_certificate_refuses_a_config_of_another_model(full21: Run, tmp_path: Path) -> None:
    with SafetensorsFiles(full.trained_files(full21.fetch("train"))) as weights:
        files = full_export.export(Dialect.DIFFUSERS, weights, tmp_path, "folder/stem", {})
        config = tmp_path / "folder/config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "num_layers": 3}))
        with pytest.raises(InfrastructureError, match="not those of WanTransformer3DModel"):
            certify(Dialect.DIFFUSERS, [tmp_path / files[0]], weights)


@pytest.mark.parametrize(("clip", "image_dim", "added"), [(True, 1280, 5120), (False, None, None)])
def test_config_of_the_14b_models(clip: bool, image_dim: int | None, added: int | None) -> None:
    """As diffusers' scripts/convert_wan_to_diffusers.py gives it to its Wan-AI repositories."""
    known = (each.get("extra_kwargs", {}) for each in MODEL_CONFIGS)
    wanted = {"in_dim": 36, "dim": 5120, "has_image_input": clip}
    arguments = next(
        each
        for each in known
        if wanted.items() <= {k: v for k, v in each.items() if k in wanted}.items()
        and "has_image_pos_emb" not in each
    )
    config = diffusers_config(arguments)
    del config["_diffusers_version"]
    assert config == {
        "_class_name": "WanTransformer3DModel",
        "added_kv_proj_dim": added,
        "attention_head_dim": 128,
        "cross_attn_norm": True,
        "eps": 1e-06,
        "ffn_dim": 13824,
        "freq_dim": 256,
        "image_dim": image_dim,
        "in_channels": 36,
        "num_attention_heads": 40,
        "num_layers": 40,
        "out_channels": 16,
        "patch_size": [1, 2, 2],
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 1024,
        "text_dim": 4096,
    }
