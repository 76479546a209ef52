"""The VAE's encoder beside diffsynth's."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from wan_runtime.contract.sampling import Profile
from wan_runtime.models import load, vae_encoder
from wan_runtime.models.encoders import VideoEncoder
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.vae_encoder import Encoder
from wan_runtime.rendering.model import encoder_of

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


def test_grey_is_computed_until_nothing_changes_and_no_longer(
    own: Encoder, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The released VAE, with two blocks a stage in place of one, settles at the sixth."""
    assert own._settled == 4
    usual = own.photo(frames[0], 25)
    large: list[Any] = []
    real = Encoder._large

    def counted(self: Encoder, *arguments: Any) -> Any:
        large.append(real(self, *arguments))
        return large[-1]

    monkeypatch.setattr(Encoder, "_large", counted)
    monkeypatch.setattr(Encoder, "_settled", 9)
    assert torch.equal(own.photo(frames[0], 25), usual)
    same = [torch.equal(one, other) for (one, _), (other, _) in pairwise(large)]
    assert same == [False] * 4 + [True] * 2, "a frame earlier would be wrong"


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
