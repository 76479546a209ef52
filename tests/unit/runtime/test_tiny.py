"""The tiny models: bytes, codec, and loading through the unmodified diffsynth pipeline."""

from __future__ import annotations

import hashlib
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import videos
from job_files import make_job
from ml_runs import moving_picture
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InfrastructureError, InputError
from wan_runtime.models import digest, encoders, layout, load, tiny
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.source import base_model
from wan_runtime.presets import PRESETS

pytest_plugins = ["ml_fixtures"]

CPU = torch.device("cpu")
PINNED = {
    "Wan2.1-I2V-Tiny": "4013a2a282e7ff2a9f938285ef8c99472aa5ea49f0decca57620e6663682b2bf",
    "Wan2.2-I2V-Tiny": "f4ffe0ff1ebf7973f8a45649a2a651377e2b5f842bc53ccffff3f877218c824e",
}
"""Digest of all weights: another processor or library version must not change them."""


def tree_digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest.files_digest(files)


@pytest.mark.parametrize("name", list(PINNED))
def test_weights_are_the_same_bytes_everywhere(name: str, tmp_path: Path) -> None:
    tiny.write(PRESETS[name], tmp_path)
    assert digest.files_digest(sorted(tmp_path.rglob("*.safetensors"))) == PINNED[name]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 12e6


def test_vae_lets_go_of_the_frames_that_it_saw(tiny21: ModelFiles) -> None:
    pipe = load.load_pipeline(tiny21, torch.float32, CPU)
    for vae in (load.load_vae(tiny21, torch.float32, CPU), pipe.vae):
        with torch.no_grad():
            latents = vae.encode([torch.zeros(3, 5, 32, 32)], CPU)
            assert vae.decode(latents, CPU).shape == (1, 3, 5, 32, 32)
        held = [*vae.model._feat_map, *vae.model._enc_feat_map]
        assert held
        assert all(each is None for each in held)


def test_vae_keeps_the_picture_of_a_clip_that_it_was_not_trained_on(tiny21: ModelFiles) -> None:
    vae = load.load_vae(tiny21, torch.float32, CPU)
    frames = torch.from_numpy(videos.pixels("carphone_pristine", 5)).movedim(-1, 1)
    video = F.interpolate(frames / 127.5 - 1, (96, 128), mode="area").transpose(0, 1)
    latents = vae.encode([video], device="cpu")
    decoded = vae.decode(latents, device="cpu")[0]
    assert latents.shape == (1, 16, 2, 12, 16)
    assert 0.7 < float(latents.std()) < 1.3
    error = float((decoded.clamp(-1, 1) - video).square().mean())
    assert 10 * np.log10(4 / error) > 26, "dB; mean colours over 8x8 pixels reach 19.7"


@pytest.mark.parametrize("name", ["tiny21", "tiny22"])
def test_stock_pipeline_loads_and_renders(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("loading a model must not open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    files: ModelFiles = request.getfixturevalue(name)
    pipe = load.load_pipeline(files, torch.float32, CPU)
    assert (pipe.dit2 is not None) == (name == "tiny22")
    picture = moving_picture(1)

    def render(seed: int) -> torch.Tensor:
        video: torch.Tensor = pipe(
            prompt="a picture", negative_prompt="", input_image=Image.fromarray(picture[0]),
            seed=seed, height=48, width=64, num_frames=9, num_inference_steps=3, tiled=False,
            switch_DiT_boundary=0.9, output_type="floatpoint", progress_bar_cmd=lambda x: x,
        )  # fmt: skip
        return video

    first, again, other = render(0), render(0), render(1)
    assert first.shape == (1, 3, 9, 48, 64)
    assert bool(torch.isfinite(first).all())
    assert float(first.std()) > 0.02
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # The given first frame is recognisable in the first frame of the video.
    wanted = torch.from_numpy(picture[0] / np.float32(127.5) - 1).permute(2, 0, 1)
    pair = torch.stack([first[0, :, 0].flatten(), wanted.flatten()])
    assert float(torch.corrcoef(pair)[0, 1]) > 0.6


def test_experts_of_a_pair_differ(tiny22: ModelFiles) -> None:
    high, low = (
        load.load_dit(tiny22, expert, torch.float32, CPU) for expert in tiny22.preset.experts
    )
    assert not torch.equal(high.blocks[0].ffn[0].weight, low.blocks[0].ffn[0].weight)


def test_tokenizer_pads_and_keeps_any_script(tiny21: ModelFiles) -> None:
    ids, mask = load.load_tokenizer(tiny21)(["龙 é"], return_mask=True, add_special_tokens=True)
    assert ids.shape == (1, 512)
    assert int(mask.sum()) == len("龙 é".encode()) + 1
    assert 2 not in ids[0].tolist(), "unknown token"


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("tiny21", "diffusion_pytorch_model*.safetensors"),
        ("tiny21", "Wan2.1_VAE.safetensors or Wan2.1_VAE.pth"),
        ("tiny21", "google/umt5-xxl/"),
        ("tiny22", "low_noise_model/diffusion_pytorch_model*.safetensors"),
    ],
)
def test_missing_files_are_named(
    name: str, gone: str, request: pytest.FixtureRequest, tmp_path: Path, ml_store: Store
) -> None:
    files: ModelFiles = request.getfixturevalue(name)
    folder = tmp_path / "model"
    shutil.copytree(files.folder, folder)
    for path in folder.glob(gone.split(" or ")[0].rstrip("/")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    job = make_job(model={"preset": files.preset.name, "path": str(folder)})
    with pytest.raises(InputError) as caught:
        base_model(job, ml_store, tmp_path)
    assert caught.value.reason is Reason.MODEL_NOT_FOUND
    assert f"missing {gone}. " in caught.value.message


def test_wrong_and_broken_weights_are_invalid(
    tiny21: ModelFiles, tiny22: ModelFiles, tmp_path: Path
) -> None:
    shutil.copytree(tiny21.folder, tmp_path, dirs_exist_ok=True)
    files = layout.locate(tiny21.preset, tmp_path)
    dit = files.dits[Expert.ONLY][0]
    # The VAE in the transformer's place is recognised, but as something else.
    shutil.copy(files.vae, dit)
    with pytest.raises(InputError) as caught:
        load.load_dit(files, Expert.ONLY, torch.float32, CPU)
    assert caught.value.reason is Reason.MODEL_INVALID
    dit.write_bytes(b"not safetensors")
    with pytest.raises(InputError) as caught:
        load.load_dit(files, Expert.ONLY, torch.float32, CPU)
    assert caught.value.reason is Reason.MODEL_INVALID
    assert dit.name in caught.value.message


def test_sources_that_hold_nothing_are_refused(ml_store: Store, tmp_path: Path) -> None:
    for model in (
        {"preset": "Wan2.1-I2V-14B-720P"},
        {"preset": "Wan2.1-I2V-Tiny", "path": str(tmp_path / "absent")},
    ):
        with pytest.raises(InputError) as caught:
            base_model(make_job(model=model), ml_store, tmp_path)
        assert caught.value.reason is Reason.MODEL_NOT_FOUND
    with pytest.raises(InputError) as caught:
        base_model(make_job(model={"preset": "Wan9"}), ml_store, tmp_path)
    assert caught.value.reason is Reason.MODEL_INVALID


def test_digest_of_a_large_file_is_noted_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "SMALL", 4)
    path = tmp_path / "weights"
    path.write_bytes(b"12345678")
    truth = hashlib.sha256(b"12345678").hexdigest()
    assert digest.file_digest(path) == truth
    note = tmp_path / "weights.sha256.json"
    note.write_text(note.read_text().replace(truth, "f" * 64))
    assert digest.file_digest(path) == "f" * 64, "the note is used"
    path.write_bytes(b"123456789")
    assert digest.file_digest(path) == hashlib.sha256(b"123456789").hexdigest(), (
        "but not when stale"
    )


@pytest.mark.parametrize(
    "made",
    [
        lambda files: Transformer.load(files, Expert.ONLY, CPU, torch.float32),
        lambda files: encoders.TextEncoder(files, torch.float32, CPU),
        lambda files: encoders.VideoDecoder(files, torch.float32, CPU, tiled=False),
    ],
    ids=["transformer", "text", "pixels"],
)
def test_a_large_model_is_computed_on_gpus_alone(
    made: Callable[[ModelFiles], object], tiny21: ModelFiles
) -> None:
    """A CPU image, or a driver that has lost its GPU: it would take all memory of the node."""
    large = replace(tiny21, preset=PRESETS["Wan2.1-I2V-14B-720P"])
    with pytest.raises(InfrastructureError, match="14B-720P is computed on a GPU, and torch finds"):
        made(large)
    load.check_device(large.preset, torch.device("cuda"))


def test_cpus_use_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", counts.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load.compute_device() == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert load.compute_device() == torch.device("cuda", 1)
    assert counts == [1]
