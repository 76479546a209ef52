"""Base models as people bring them: what is refused before any of it is fetched."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from job_files import make_job
from model_bucket import Bucket, pickle_encoders
from model_folders import DIT, LFS, refusal
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError
from wan_runtime.models import layout, load, shapes
from wan_runtime.models.examine import examine
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.places import Volume
from wan_runtime.models.source import base_model
from wan_runtime.presets import PRESETS, Preset

pytest_plugins = ["ml_fixtures"]

TINY21, TINY22 = PRESETS["Wan2.1-I2V-Tiny"], PRESETS["Wan2.2-I2V-Tiny"]
WAN21, WAN22 = PRESETS["Wan2.1-I2V-14B-720P"], PRESETS["Wan2.2-I2V-A14B"]
SHARDS = "diffusion_pytorch_model-0000{}-of-00007.safetensors"
T5, VAE, CLIP = (names[0] for names in (layout.TEXT_ENCODER, layout.VAE, layout.IMAGE_ENCODER))


def cast(path: Path, dtype: torch.dtype) -> None:
    """What scripts that make weights smaller do."""
    state = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    save_file(state, path)


# Weights


def test_a_plain_cast_to_fp8_is_refused_where_it_would_have_loaded(
    folder: Path, ml_store: Store, tmp_path: Path
) -> None:
    """Its names and shapes are right, and diffsynth would make bfloat16 of it without a word."""
    cast(folder / DIT, torch.float8_e4m3fn)
    text = refusal(TINY21, folder, Reason.MODEL_INVALID)
    assert text.startswith(f"{DIT}: these are not the released weights of Wan2.1-I2V-Tiny: it is ")
    assert "stored in FP8 (F8_E4M3, " in text
    files = layout.locate(TINY21, folder)
    for loading in (
        lambda: load.load_dit(files, Expert.ONLY, torch.float32, torch.device("cpu")),
        lambda: load.load_pipeline(files, torch.float32, torch.device("cpu")),
        lambda: base_model(
            make_job(model={"preset": TINY21.name, "path": str(folder)}), ml_store, tmp_path
        ),
    ):
        with pytest.raises(InputError, match="stored in FP8") as caught:
            loading()
        assert caught.value.reason is Reason.MODEL_INVALID


@pytest.mark.parametrize("name", [T5, VAE, CLIP])
def test_fp8_of_any_part_is_refused(folder: Path, name: str) -> None:
    cast(folder / name, torch.float8_e4m3fn)
    text = refusal(TINY21, folder, Reason.MODEL_INVALID)
    assert text.startswith(f"{name}: ")
    assert "stored in FP8 (F8_E4M3" in text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_full_precision_of_any_kind_is_taken(folder: Path, dtype: torch.dtype) -> None:
    for name in (DIT, T5, VAE):
        cast(folder / name, dtype)
    assert examine(TINY21, Volume.list(folder))["dit"] == (DIT,)
    load.load_dit(layout.locate(TINY21, folder), Expert.ONLY, torch.float32, torch.device("cpu"))


def test_all_files_that_are_wrong_are_named_at_once(folder: Path) -> None:
    cast(folder / DIT, torch.float8_e5m2)
    (folder / T5).write_bytes(LFS)
    shutil.copy(folder / VAE, folder / CLIP)
    text = refusal(TINY21, folder, Reason.MODEL_INVALID)
    assert f"{DIT}: " in text
    assert f"{T5} is a pointer of git-lfs in place of the file of 9,953,000,000 bytes" in text
    assert f"{CLIP}: these are not the released weights" in text
    assert "this is the VAE of Wan2.1" in text


def test_a_pickle_of_the_wrong_weights_is_refused_unread(
    tiny21: ModelFiles, tmp_path: Path
) -> None:
    files = pickle_encoders(tiny21, tmp_path / "released")
    state = torch.load(files.text_encoder, weights_only=True)
    low = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in state.items()}
    torch.save(low, files.text_encoder)
    text = refusal(TINY21, files.folder, Reason.MODEL_INVALID)
    assert text.startswith(f"{files.text_encoder.name}: ")
    assert "stored in FP8" in text


def test_one_expert_in_both_folders_is_refused(pair: Path) -> None:
    assert examine(TINY22, Volume.list(pair))
    shutil.copy(pair / "high_noise_model" / DIT, pair / "low_noise_model" / DIT)
    assert refusal(TINY22, pair, Reason.MODEL_INVALID) == (
        "high_noise_model and low_noise_model hold the same weights: one of two experts was "
        "copied twice. Fetch the other."
    )


def test_a_download_of_aria2_that_goes_on_is_refused(folder: Path) -> None:
    (folder / f"{VAE}.aria2").write_bytes(b"\0\1")
    assert refusal(TINY21, folder, Reason.MODEL_INVALID) == (
        f"{VAE} is not downloaded to its end: {VAE}.aria2 beside it says so. Let aria2 go on."
    )


def test_two_sets_of_shards_are_refused(folder: Path) -> None:
    shutil.copy(folder / DIT, folder / "diffusion_pytorch_model.bf16.safetensors")
    assert "both hold " in refusal(TINY21, folder, Reason.MODEL_INVALID)


# Tokenizers

BROKEN: dict[str, tuple[str, bytes | None, str]] = {
    "no settings": ("tokenizer_config.json", None, "missing google/umt5-xxl/tokenizer_config.json"),
    "no words": ("tokenizer.json", None, "missing google/umt5-xxl/tokenizer.json"),
    "lfs": ("tokenizer.json", LFS, "/tokenizer.json is a pointer of git-lfs"),
    "html": ("tokenizer.json", b"<html>", "/tokenizer.json is a web page"),
    "empty": ("tokenizer_config.json", b"", "/tokenizer_config.json is empty"),
    "cut": ("tokenizer.json", b'{"version": "1.0", "model": {"vocab"', "is no JSON: was it cut"),
    "list": ("tokenizer.json", b"[1]", "/tokenizer.json is a JSON text, such as a server's error"),
    "no tokenizer": ("tokenizer.json", b"{}", "is no tokenizer that transformers can load"),
    "an error": ("tokenizer.json", b'{"error": "gated"}', "is no tokenizer that transformers can"),
    "no padding": ("tokenizer_config.json", b"{}", "is no tokenizer that transformers can load, "),
    "deep": ("tokenizer.json", b'{"a":' + b"[" * 10**5, "/tokenizer.json is no JSON"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_tokenizer_that_cannot_be_loaded_is_named(folder: Path, case: str) -> None:
    name, content, words = BROKEN[case]
    path = folder / layout.TOKENIZER / name
    path.unlink() if content is None else path.write_bytes(content)
    gone = content is None
    text = refusal(TINY21, folder, Reason.MODEL_NOT_FOUND if gone else Reason.MODEL_INVALID)
    assert words in text
    assert "google/umt5-xxl" in text


@pytest.mark.parametrize(("change", "count"), [(-1100, "1,324"), (90, "134")])
def test_the_tokenizer_of_another_model_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: int, count: str
) -> None:
    """Its numbers mean other words to the text encoder: captions would be lost in silence."""
    wanted = shapes.expected
    rows = 259 - change if change < 0 else 224 - change

    def other(preset: Preset, part: str) -> Any:
        found = dict(wanted(preset, part))
        return found | ({"token_embedding.weight": (rows, 64)} if part == "text_encoder" else {})

    monkeypatch.setattr(shapes, "expected", other)
    state = load_file(folder / T5)
    state["token_embedding.weight"] = torch.zeros(rows, 64, dtype=torch.bfloat16)
    save_file(state, folder / T5)
    text = refusal(TINY21, folder, Reason.MODEL_INVALID)
    assert "google/umt5-xxl is the tokenizer of another model: it has 259 tokens" in text
    assert rows in (1359, 134)
    assert f"the text encoder {rows:,}" in text


# Buckets


class Counted:
    """What is read of a bucket while it is looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        ranged = Store.get_range

        def counted(store: Store, key: str, offset: int, length: int) -> bytes:
            data = ranged(store, key, offset, length)
            self.bytes += len(data)
            return data

        monkeypatch.setattr(Store, "get_range", counted)
        for whole in ("stream", "download", "get_bytes"):
            monkeypatch.setattr(Store, whole, self._refuse(whole))

    @staticmethod
    def _refuse(name: str) -> Callable[..., Any]:
        def called(store: Store, key: str, *arguments: Any, **options: Any) -> Any:
            if key.startswith("p/"):  # of the run itself
                return original(store, key, *arguments, **options)
            raise AssertionError(f"{name} of {key}: no file is read to its end")

        original = getattr(Store, name)
        return called


def test_a_refusal_costs_headers_alone(
    bucket: Bucket, tiny21: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = pickle_encoders(tiny21, tmp_path / "released")
    cast(files.folder / DIT, torch.float8_e4m3fn)
    (files.folder / "Wan2.1_VAE.pth").write_bytes(LFS)
    bucket.upload(files)
    counted = Counted(monkeypatch)
    with pytest.raises(InputError) as caught:
        bucket.go()
    assert caught.value.reason is Reason.MODEL_INVALID
    assert f"{DIT}: these are not" in caught.value.message
    assert "Wan2.1_VAE.pth is a pointer of git-lfs" in caught.value.message
    total = sum(path.stat().st_size for path in files.folder.rglob("*") if path.is_file())
    assert 0 < counted.bytes < total / 20


def test_a_folder_one_level_off_in_a_bucket(bucket: Bucket, tiny21: ModelFiles) -> None:
    name = bucket.name
    bucket.name = f"{name}/deep/er"
    bucket.upload(tiny21)
    bucket.name = name
    with pytest.raises(InputError) as caught:
        bucket.go()
    assert (
        f"It lies deeper: set model.source.s3 to s3://wan/{name}/deep/er." in caught.value.message
    )
    bucket.name = f"{name}/deep/er/{layout.TOKENIZER}"
    with pytest.raises(InputError) as caught:
        bucket.go()
    assert f"set model.source.s3 to s3://wan/{name}/deep/er/google." in caught.value.message


def test_a_file_in_a_bucket_in_place_of_a_folder(bucket: Bucket, tiny21: ModelFiles) -> None:
    bucket.put(tiny21.folder / DIT, "wan_tiny.safetensors")
    bucket.name += "/wan_tiny.safetensors"
    with pytest.raises(InputError) as caught:
        bucket.go()
    assert caught.value.reason is Reason.MODEL_NOT_FOUND
    assert "It is a file, and the folder of a whole release is wanted." in caught.value.message
    assert f"wan_tiny.safetensors holds the right weights: name it {DIT}" in caught.value.message
