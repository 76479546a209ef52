"""The VAE's decoder beside diffsynth's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from forked_ranks import on_ranks
from wan_runtime.errors import NumericalError
from wan_runtime.models import load, vae_bands, vae_decoder, vae_layers
from wan_runtime.models.dit.parallel import Ranks, alone
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.vae_bands import Band
from wan_runtime.models.vae_decoder import Decoder
from wan_runtime.models.vae_doubling import Doubling

pytest_plugins = ["ml_fixtures"]

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def latents() -> Tensor:
    return torch.randn(1, 16, 4, 6, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def vae(tiny21: ModelFiles) -> Any:
    return load.load_vae(tiny21, torch.float32, CPU)


def test_pixels_are_the_stock_decoders(vae: Any, latents: Tensor) -> None:
    stock = vae.decode(latents, device="cpu")[0].permute(1, 2, 3, 0)
    levels = Decoder(vae, compiled=False).frames(latents, alone())
    assert levels.shape == (13, 48, 64, 3)
    assert float(levels.float().std()) > 10, "not a grey picture"
    assert float((levels - (stock + 1) * 127.5).abs().max()) < 0.51, "rounded to levels, else equal"
    again = vae.decode(latents, device="cpu")[0].permute(1, 2, 3, 0)
    torch.testing.assert_close(again, stock, rtol=0, atol=1e-5)


def test_doubling_is_the_convolution_of_repeated_pixels() -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(6, 4, 3, padding=1).requires_grad_(False)
    x = torch.randn(2, 6, 5, 7).contiguous(memory_format=torch.channels_last)
    wanted = conv(torch.nn.functional.interpolate(x, scale_factor=2.0, mode="nearest-exact"))
    made = Doubling(conv)(x).view(2, 10, 14, 4).permute(0, 3, 1, 2)
    torch.testing.assert_close(made, wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("name", "value"), [("AT_ONCE", 1), ("AT_ONCE", 4), ("STACKED", 0)])
def test_how_it_is_cut_up_changes_nothing(
    name: str, value: int, vae: Any, latents: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Decoder(vae, compiled=False).frames(latents, alone())
    monkeypatch.setattr(vae_layers if name == "STACKED" else vae_decoder, name, value)
    other = Decoder(vae, compiled=False).frames(latents, alone())
    assert int((usual.int() - other.int()).abs().max()) <= 1


def test_bands_of_ranks_are_the_whole_picture(vae: Any, tmp_path: Path) -> None:
    tall = torch.randn(1, 16, 2, 72, 2, generator=torch.Generator().manual_seed(0))
    decoder = Decoder(vae, compiled=False)
    whole = decoder.frames(tall, alone())
    joined, other = on_ranks(2, tmp_path, lambda ranks: decoder.frames(tall, ranks))
    assert whole is not None
    assert other is None
    assert joined.shape == whole.shape == (5, 576, 16, 3)
    assert int((joined.int() - whole.int()).abs().max()) <= 1
    entire = pixels(decoder, tall, None)
    for band in vae_bands.bands_of(72, 2):
        own = entire[:, 8 * band.first : 8 * band.last]
        off = float((pixels(decoder, tall, band) - own).abs().max())
        assert off < 1e-5, "of a row too few it is hardly more than 1e-4"


def pixels(decoder: Decoder, latents: Tensor, band: Band | None) -> Tensor:
    parts: list[Tensor] = []
    decoder.decode(latents, parts.append, band)
    return torch.cat(parts)


def test_a_band_decodes_little_more_than_its_rows(vae: Any) -> None:
    decoder = Decoder(vae, compiled=False)
    first, second = vae_bands.bands_of(90, 2)
    layers = [*decoder._upper, *decoder._lower]
    heights = [rows[1] for rows in first.cuts(layers).values()]
    assert heights == [45 + 11, 90 + 8, 180 + 7, 360 + 5, 360], "from the attention to the head"
    assert first.cuts(layers)[None] == (0, 360)
    assert second.cuts(layers)[None] == (5, 360)


@pytest.mark.parametrize(("height", "ranks", "bands"), [(90, 8, 8), (60, 8, 7), (6, 4, 1)])
def test_small_pictures_have_fewer_bands_than_ranks(height: int, ranks: int, bands: int) -> None:
    made = vae_bands.bands_of(height, ranks)
    assert len(made) == bands
    assert [each.last for each in made[:-1]] == [each.first for each in made[1:]]
    assert (made[0].first, made[-1].last) == (0, height)


def test_what_is_not_finite_on_one_rank_is_an_error_there(vae: Any, tmp_path: Path) -> None:
    broken = torch.zeros(1, 16, 1, 72, 2)
    broken[0, 0, 0, 71, 0] = float("nan")
    decoder = Decoder(vae, compiled=False)

    def decode(ranks: Ranks) -> object:
        return ranks.together(lambda: decoder.frames(broken, ranks))

    found = on_ranks(2, tmp_path, decode)
    assert all("NaN or infinite pixels" in each for each in found), found


def test_what_is_not_finite_is_an_error(vae: Any, latents: Tensor) -> None:
    broken = latents.clone()
    broken[0, 3, 2, 1, 1] = float("nan")
    with pytest.raises(NumericalError, match="sampling gave NaN or infinite pixels"):
        Decoder(vae, compiled=False).frames(broken, alone())
