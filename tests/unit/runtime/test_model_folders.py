"""Folders in which a base model is looked for: what else lies there, and what to do about it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_folders import DIT, LFS, refusal
from wan_runtime.models import layout, shapes
from wan_runtime.models.examine import examine
from wan_runtime.models.places import Volume
from wan_runtime.presets import PRESETS
from weight_files import header, sparse

pytest_plugins = ["ml_fixtures"]

TINY21, TINY22 = PRESETS["Wan2.1-I2V-Tiny"], PRESETS["Wan2.2-I2V-Tiny"]
WAN21, WAN22 = PRESETS["Wan2.1-I2V-14B-720P"], PRESETS["Wan2.2-I2V-A14B"]
SHARDS = "diffusion_pytorch_model-0000{}-of-00007.safetensors"
T5, VAE = layout.TEXT_ENCODER[0], layout.VAE[0]


def test_a_folder_above_the_model_is_told_from_its_own(folder: Path) -> None:
    text = refusal(TINY21, folder.parent)
    assert f"{folder.parent} does not hold Wan2.1-I2V-Tiny: missing {DIT[:-12]}*" in text
    assert "It lies deeper: add /tiny to model.source.persistentVolumeClaim.path." in text
    shutil.copytree(folder, folder.parent / "other" / "copy")
    text = refusal(TINY21, folder.parent)
    assert "add /other/copy to model.source" in text
    assert " or add /tiny to model.source" in text


def test_the_hubs_cache_is_a_folder_above(folder: Path, tmp_path: Path) -> None:
    """Its snapshots are links to blobs."""
    cache = tmp_path / "models--Wan-AI--Tiny"
    snapshot = cache / "snapshots" / "0123abcd"
    (cache / "blobs").mkdir(parents=True)
    for number, path in enumerate(sorted(each for each in folder.rglob("*") if each.is_file())):
        shutil.copy(path, cache / "blobs" / f"{number:064x}")
        link = snapshot / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(cache / "blobs" / f"{number:064x}")
    assert "add /snapshots/0123abcd to model.source" in refusal(TINY21, cache)
    assert examine(TINY21, Volume.list(snapshot))["vae"] == (VAE,)
    shutil.rmtree(cache / "blobs")
    text = refusal(TINY21, cache)
    assert "links in it lead nowhere, such as snapshots/0123abcd/" in text
    shutil.rmtree(cache / "snapshots")
    (cache / "blobs").mkdir()
    (cache / "blobs" / "0123").write_bytes(b"x")
    assert "It is a cache of the hub, whose snapshots are links to blobs" in refusal(TINY21, cache)


def test_a_linked_folder_belongs_to_the_model(pair: Path, tmp_path: Path) -> None:
    (pair / "high_noise_model").rename(tmp_path / "elsewhere")
    (pair / "high_noise_model").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(pair)  # must not be followed for ever
    assert examine(TINY22, Volume.list(pair))["dit-HighNoise"] == (f"high_noise_model/{DIT}",)


@pytest.mark.parametrize("inner", ["high_noise_model", "low_noise_model"])
def test_a_folder_within_the_model_is_told_from_it(pair: Path, inner: str) -> None:
    text = refusal(TINY22, pair / inner)
    assert f"{inner} is a folder within a model: leave the last folder off model.source." in text


def test_a_file_in_place_of_a_folder(folder: Path) -> None:
    text = refusal(WAN21, folder / VAE)
    assert f"{folder / VAE} does not hold Wan2.1-I2V-14B-720P" in text
    assert "It is a file, and the folder of a whole release is wanted." in text
    assert f"{VAE} is the VAE of Wan2.1." in text
    assert f"{DIT} holds the right weights" not in refusal(TINY21, folder / DIT)


def test_the_other_presets_folder_is_named(folder: Path, pair: Path) -> None:
    assert "It looks like Wan2.1-I2V-Tiny: set model.preset to that" in refusal(TINY22, folder)
    assert "It looks like Wan2.2-I2V-Tiny: set model.preset to that" in refusal(TINY21, pair)


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("Wan2.2_VAE.pth", "Wan2.2-TI2V-5B"),
        ("wav2vec2-large-xlsr-53-english/config.json", "Wan2.2-S2V-14B"),
        ("process_checkpoint/det/yolov10m.onnx", "Wan2.2-Animate-14B"),
    ],
)
def test_other_releases_are_known_by_a_file(folder: Path, name: str, release: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"x")
    text = refusal(WAN22, folder)
    assert (
        f"It looks like {release}, which has no preset here: fetch Wan-AI/Wan2.2-I2V-A14B" in text
    )


def test_a_release_for_text_alone_is_known_by_its_transformer(tmp_path: Path) -> None:
    """Its folder lacks CLIP alone."""
    held = {**shapes.expected(WAN22, "dit"), "patch_embedding.weight": (5120, 16, 1, 2, 2)}
    names = sorted(held)
    for number in range(7):
        part = {name: held[name] for name in names[number::7]}
        sparse(tmp_path / SHARDS.format(number + 1), header(part, "F32"))
    for part, name in (("text_encoder", T5), ("vae", VAE)):
        sparse(tmp_path / name, header(shapes.expected(WAN21, part)))
    text = refusal(WAN21, tmp_path)
    assert "missing models_clip_open-clip-xlm-roberta-large-vit-huge-14.safetensors or" in text
    assert "this is the transformer of Wan2.1-T2V-14B or Wan2.2-T2V-A14B" in text
    (tmp_path / SHARDS.format(3)).unlink()
    (tmp_path / SHARDS.format(6)).unlink()
    gone = f"missing {SHARDS.format(3)}, {SHARDS.format(6)};"
    assert gone in refusal(WAN21, tmp_path)


def test_a_pipeline_of_diffusers_is_known_by_its_folders(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    held = {
        "patch_embedding.weight": (5120, 36, 1, 2, 2),
        "condition_embedder.image_embedder.ff.net.2.weight": (5120, 1280),
    }
    sparse(tmp_path / "transformer" / SHARDS.format(1), header(held))
    sparse(tmp_path / "vae" / DIT, header({"decoder.up_blocks.0.x": (1,)}))
    text = refusal(WAN21, tmp_path)
    assert "It is a pipeline of diffusers, whose weights bear other names." in text
    assert (
        f"transformer/{SHARDS.format(1)} is the transformer of Wan2.1-I2V-14B, with diffusers' "
        "names (condition_embedder.…)."
    ) in text
    assert f"vae/{DIT} is a VAE, with diffusers' names" in text


COMFY: dict[str, Callable[[], Any]] = {
    "wan2.1_i2v_720p_14B_fp16.safetensors": lambda: header(
        {
            f"model.diffusion_model.{name}": shape
            for name, shape in shapes.expected(WAN21, "dit").items()
        },
        "F16",
    ),
    "Wan2_1-I2V-14B-720P_fp8_e4m3fn.safetensors": lambda: header(
        shapes.expected(WAN21, "dit"), "F8_E4M3", {"patch_embedding.weight": "F32"}
    ),
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors": lambda: header(
        {
            "scaled_fp8": (2,),
            "shared.weight": (256384, 4096),
            "encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096),
            "encoder.block.0.layer.0.SelfAttention.q.scale_weight": (),
        },
        "F8_E4M3",
    ),
    "clip_vision_h.safetensors": lambda: header({"vision_model.post_layernorm.bias": (1280,)}),
    "wan_2.1_vae.safetensors": lambda: header(shapes.expected(WAN21, "vae")),
}


def test_a_folder_of_comfyui_is_gone_through(tmp_path: Path) -> None:
    for name, made in COMFY.items():
        sparse(tmp_path / "models" / name, made())
    (tmp_path / "models" / "wan2.1-i2v-14b-720p-Q4_K_M.gguf").write_bytes(b"GGUF" + bytes(99))
    text = refusal(WAN21, tmp_path)
    for sentence in (
        "models/wan2.1_i2v_720p_14B_fp16.safetensors is the transformer of Wan2.1-I2V-14B, with "
        "ComfyUI's names (model.diffusion_model.…).",
        "models/Wan2_1-I2V-14B-720P_fp8_e4m3fn.safetensors is the transformer of Wan2.1-I2V-14B, "
        "in FP8 (F8_E4M3, 1,302 of its 1,303 tensors).",
        "models/umt5_xxl_fp8_e4m3fn_scaled.safetensors is the text encoder umT5, with "
        "transformers' names (encoder.block.…), in ComfyUI's scaled FP8 (scaled_fp8).",
        "models/clip_vision_h.safetensors is an image encoder of CLIP, with transformers' names",
        f"models/wan_2.1_vae.safetensors holds the right weights: name it {VAE}.",
        "models/wan2.1-i2v-14b-720p-Q4_K_M.gguf is GGUF, quantised for",
    ):
        assert sentence in text


def test_a_single_file_that_is_right_is_told_its_name(tmp_path: Path) -> None:
    """Of an expert its own name must tell which: their tensors are alike."""
    held = header(shapes.expected(WAN22, "dit"), "F16")
    sparse(tmp_path / "wan2.2_i2v_high_noise_14B_fp16.safetensors", held)
    sparse(tmp_path / "Wan2_2-I2V-A14B-LOW_bf16.safetensors", held)
    sparse(tmp_path / "finetune.safetensors", held)
    sparse(tmp_path / "lora.safetensors", header({"blocks.0.self_attn.q.lora_A.weight": (32, 9)}))
    text = refusal(WAN22, tmp_path)
    for sentence in (
        f"fp16.safetensors holds the right weights: name it high_noise_model/{DIT}.",
        f"LOW_bf16.safetensors holds the right weights: name it low_noise_model/{DIT}.",
        "finetune.safetensors holds the right weights: name it high_noise_model/"
        f"{DIT} or low_noise_model/{DIT}.",
        "lora.safetensors is an adapter (LoRA), not a base model.",
    ):
        assert sentence in text


def test_many_files_are_not_all_looked_at(tmp_path: Path) -> None:
    for number in range(11):
        (tmp_path / f"{number:02}.safetensors").write_bytes(LFS)
    text = refusal(WAN21, tmp_path)
    assert "07.safetensors is a pointer of git-lfs" in text
    assert "08.safetensors" not in text
    assert "3 more files of weights were not read." in text


def test_downloads_that_did_not_end_are_named(folder: Path) -> None:
    (folder / VAE).rename(folder / f"{VAE}.crdownload")
    hidden = folder / ".cache" / "huggingface" / "download"
    hidden.mkdir(parents=True)
    (hidden / "Fx9.0123.incomplete").write_bytes(b"x")
    text = refusal(TINY21, folder)
    assert f"missing {VAE} or Wan2.1_VAE.pth" in text
    assert (
        f"Downloads did not end: .cache/huggingface/download/Fx9.0123.incomplete, {VAE}.crdownload"
    ) in text


def test_nothing_that_is_known_is_told_the_layout(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("x")
    assert refusal(WAN21, tmp_path).endswith(
        "google/umt5-xxl/. Expected the layout of the official release: fetch "
        "Wan-AI/Wan2.1-I2V-14B-720P, as it is released."
    )
    (tmp_path / "x.safetensors").write_bytes(b"")
    sparse(tmp_path / "bert.safetensors", header({"embeddings.weight": (9,)}))
    text = refusal(WAN21, tmp_path)
    assert "x.safetensors is empty" in text
    assert "bert.safetensors is nothing that is known here." in text
