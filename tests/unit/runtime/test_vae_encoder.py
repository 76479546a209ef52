"""The VAE's encoder beside diffsynth's."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from forked_ranks import on_ranks
from renders import make_order
from wan_runtime.contract.sampling import Profile
from wan_runtime.contract.service import Size
from wan_runtime.models import load, vae_encoder, vae_layers
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.dit.parallel import Ranks, alone
from wan_runtime.models.encoders import VideoEncoder
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.vae_bands import bands_of
from wan_runtime.models.vae_encoder import Encoder
from wan_runtime.models.vae_half import HALF, widened
from wan_runtime.rendering import model
from wan_runtime.rendering.model import Model, encoder_of
from wan_runtime.rendering.render import Renderer

pytest_plugins = ["ml_fixtures"]

CPU = torch.device("cpu")
Frames = NDArray[np.uint8]


@pytest.fixture(scope="module")
def frames() -> Frames:
    drawn: Frames = np.random.default_rng(0).integers(0, 256, (25, 48, 64, 3), np.uint8)
    return drawn


@pytest.fixture(scope="module")
def stock(tiny22: ModelFiles) -> VideoEncoder:
    return VideoEncoder(tiny22, torch.float32, CPU, tiled=False)


@pytest.fixture
def own(tiny22: ModelFiles) -> Encoder:
    return Encoder(load.load_vae(tiny22, torch.float32, CPU), compiled=False)


@pytest.mark.parametrize("count", [5, 9, 25])
def test_latents_are_the_stock_encoders(
    count: int, own: Encoder, stock: VideoEncoder, frames: Frames
) -> None:
    wanted = stock.encode_video(frames[:count])["latents"]
    found = own.video(frames[:count])
    assert found.shape == (16, 1 + count // 4, 6, 8)
    assert found.is_contiguous()
    assert float(wanted.std()) > 0.05
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("count", [5, 25])
def test_photos_are_the_stock_encoders(
    count: int, own: Encoder, stock: VideoEncoder, frames: Frames
) -> None:
    wanted = stock.encode_first_frame(frames[0], count)["y"]
    assert stock._encoder is None
    stock._encoder = own
    try:
        found = stock.encode_first_frame(frames[0], count)["y"]
    finally:
        stock._encoder = None
    assert torch.equal(found[:4], wanted[:4]), "which frames are given"
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)


def test_half_precision_is_eight_times_as_near_to_float32(
    own: Encoder, tiny22: ModelFiles, frames: Frames
) -> None:
    exact = own.photo(frames[0], 9, alone())
    errors = {
        dtype: float((Encoder(load.load_vae(tiny22, dtype, CPU), compiled=False)
                      .photo(frames[0], 9, alone()) - exact).norm() / exact.norm())
        for dtype in (HALF, torch.bfloat16)
    }  # fmt: skip
    assert errors[HALF] < 0.002
    assert errors[HALF] < errors[torch.bfloat16] / 5


def test_a_photo_beyond_half_precision_is_encoded_in_bfloat16(
    tiny22: ModelFiles, frames: Frames, caplog: pytest.LogCaptureFixture
) -> None:
    vae: Any = load.load_vae(tiny22, HALF, CPU)
    vae.model.encoder.conv1.weight *= 1e4
    wanted = Encoder(widened(vae), compiled=False).photo(frames[0], 5, alone())
    made = Encoder(vae, compiled=False).photo(frames[0], 5, alone())
    assert "a photo is beyond the range of torch.float16" in caplog.text
    assert bool(made.isfinite().all())
    assert torch.equal(made, wanted)


def test_grey_is_computed_until_nothing_changes_and_no_longer(
    own: Encoder, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The released VAE, with two blocks a stage in place of one, settles at the sixth."""
    assert own._settled == 4
    usual = own.photo(frames[0], 25, alone())
    large: list[Any] = []
    real = Encoder._large

    def counted(self: Encoder, *arguments: Any) -> Any:
        large.append(real(self, *arguments))
        return large[-1]

    monkeypatch.setattr(Encoder, "_large", counted)
    monkeypatch.setattr(Encoder, "_settled", 9)
    assert torch.equal(own.photo(frames[0], 25, alone()), usual)
    same = [torch.equal(one, other) for (one, _), (other, _) in pairwise(large)]
    assert same == [False] * 4 + [True] * 2, "a frame earlier would be wrong"


@pytest.mark.parametrize(
    ("world", "height", "bands", "stacked"),
    [
        (2, 18, [9, 9], 128),
        (2, 19, [9, 10], 0),
        (4, 35, [8, 9, 9, 9], 128),
        (4, 26, [8, 9, 9], 0),
    ],
)
def test_ranks_that_share_a_photo_make_the_latents_of_one(
    world: int,
    height: int,
    bands: list[int],
    stacked: int,
    tiny22: ModelFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In float32 to rounding: a convolution of fewer rows may add in another order."""
    monkeypatch.setattr(vae_layers, "STACKED", stacked)
    own = Encoder(load.load_vae(tiny22, torch.float32, CPU), compiled=False)
    image = np.random.default_rng(1).integers(0, 256, (8 * height, 48, 3), np.uint8)
    assert [each.last - each.first for each in bands_of(height, world)] == bands
    whole = own.photo(image, 13, alone())
    made, *others = on_ranks(world, tmp_path, lambda ranks: own.photo(image, 13, ranks))
    assert whole is not None
    assert others == [None] * (world - 1)
    assert made.shape == whole.shape == (16, 4, height, 6)
    torch.testing.assert_close(made, whole, rtol=0, atol=2e-5)


def test_a_band_encodes_no_rows_but_its_own(
    own: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (8 * 18, 48, 3), np.uint8)
    run = own._layers.run

    def heights(ranks: Ranks) -> list[int]:
        seen: list[int] = []

        def noted(layer: Any, x: Any, shape: Any, memory: Any) -> Any:
            seen.append(shape[1])
            return run(layer, x, shape, memory)

        monkeypatch.setattr(own._layers, "run", noted)
        own.photo(image, 5, ranks)
        return sorted(set(seen))

    assert on_ranks(2, tmp_path, heights) == [[9, 18, 36, 72]] * 2


def test_ranks_of_a_service_share_a_photo(
    tiny21: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "encoder_of", lambda device, profile: "Eager")
    order = make_order(size=Size(width=32, height=144), frames=5, steps=1)
    path, real, heights = tmp_path / "first.png", Encoder._pixels, []
    drawn = np.random.default_rng(1).integers(0, 256, (144, 32, 3), np.uint8)
    Image.fromarray(drawn).save(path)

    def pixels(self: Encoder, frames_FHWC: Frames) -> Any:
        heights.append(frames_FHWC.shape[1])
        return real(self, frames_FHWC)

    def video(ranks: Ranks) -> tuple[Any, list[int]]:
        renderer = Renderer(Model(tiny21, ranks, CPU), AdapterCache(2**20, torch.float32))
        return renderer.render(order, path).latents, heights

    monkeypatch.setattr(Encoder, "_pixels", pixels)
    one, whole = video(alone())
    assert whole == [144]
    heights.clear()
    for latents, shared in on_ranks(2, tmp_path, video):
        assert shared == [72]
        torch.testing.assert_close(latents, one, rtol=0, atol=1e-4)


def test_what_is_no_picture_is_an_error_on_all_ranks(
    tiny21: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "encoder_of", lambda device, profile: "Eager")
    path = tmp_path / "first.png"
    path.write_bytes(b"torn")

    def video(ranks: Ranks) -> Any:
        renderer = Renderer(Model(tiny21, ranks, CPU), AdapterCache(2**20, torch.float32))
        return renderer.render(make_order(), path).latents

    found = on_ranks(2, tmp_path, video)
    assert all(each.startswith("ClipInvalid: the first frame") for each in found), found


def test_a_photo_beyond_half_precision_is_encoded_again_by_all_ranks(
    tiny22: ModelFiles, tmp_path: Path
) -> None:
    vae: Any = load.load_vae(tiny22, HALF, CPU)
    vae.model.encoder.conv1.weight *= 1e4
    image = np.random.default_rng(1).integers(0, 256, (8 * 18, 48, 3), np.uint8)
    wanted = Encoder(widened(vae), compiled=False).photo(image, 5, alone())
    encoder = Encoder(vae, compiled=False)
    made, other = on_ranks(2, tmp_path, lambda ranks: encoder.photo(image, 5, ranks))
    assert wanted is not None
    assert other is None
    assert made.dtype == torch.bfloat16
    assert float((made - wanted).norm() / wanted.norm()) < 0.02


@pytest.mark.parametrize("size", [1, 3])
def test_how_many_are_taken_at_once_changes_nothing(
    size: int, own: Encoder, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = own.video(frames)
    monkeypatch.setattr(vae_encoder, "AT_ONCE", size)
    torch.testing.assert_close(own.video(frames), usual, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("device", "profile", "wanted"),
    [("cuda", "Lossless", "Eager"), ("cuda", "Exact", "No"), ("cpu", "Lossless", "No")],
)
def test_services_encode_photos_by_our_own_where_bits_may_change(
    device: str, profile: Profile, wanted: str
) -> None:
    assert encoder_of(torch.device(device), profile) == wanted
