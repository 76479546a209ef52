"""The VAE's decoder beside diffsynth's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from forked_ranks import on_ranks
from wan_runtime.errors import NumericalError
from wan_runtime.models import load, vae_decoder, vae_layers
from wan_runtime.models.dit.parallel import Ranks, alone
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.vae_bands import bands_of, margin_of
from wan_runtime.models.vae_decoder import Decoder
from wan_runtime.models.vae_doubling import Doubling
from wan_runtime.models.vae_half import HALF, widened
from wan_runtime.models.vae_rows import SharedRows

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


@pytest.mark.parametrize(
    ("name", "value"),
    [("AT_ONCE", 1), ("AT_ONCE", 4), ("STACKED", 0), ("SMALL_AT_ONCE", 1), ("SMALL_AT_ONCE", 3)],
)
def test_how_it_is_cut_up_changes_nothing(
    name: str, value: int, vae: Any, latents: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Decoder(vae, compiled=False).frames(latents, alone())
    monkeypatch.setattr(vae_layers if name == "STACKED" else vae_decoder, name, value)
    other = Decoder(vae, compiled=False).frames(latents, alone())
    assert int((usual.int() - other.int()).abs().max()) <= 1


@pytest.mark.parametrize(
    ("world", "height", "bands"),
    [(2, 43, [21, 22]), (4, 26, [8, 9, 9]), (4, 35, [8, 9, 9, 9]), (4, 6, [6])],
)
def test_bands_of_ranks_are_the_whole_picture(
    world: int, height: int, bands: list[int], vae: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """In float32 to rounding, with groups of latent frames of which the last is not full."""
    monkeypatch.setattr(vae_decoder, "SMALL_AT_ONCE", 2)
    tall = torch.randn(1, 16, 3, height, 2, generator=torch.Generator().manual_seed(0))
    decoder = Decoder(vae, compiled=False)
    own = bands_of(height, world)
    assert [each.last - each.first for each in own] == bands

    def both(ranks: Ranks) -> tuple[Tensor | None, Tensor | None]:
        made = decoder.frames(tall, ranks)
        if ranks.rank >= len(own) or len(own) == 1:
            return made, None
        return made, pixels(decoder, tall, SharedRows(own, ranks.rank, ranks.everyone))

    found = on_ranks(world, tmp_path, both)
    whole, joined = decoder.frames(tall, alone()), found[0][0]
    assert whole is not None
    assert [made is None for made, _ in found] == [False] + [True] * (world - 1)
    assert joined.shape == whole.shape == (9, 8 * height, 16, 3)
    assert int((joined.int() - whole.int()).abs().max()) <= 1
    entire = pixels(decoder, tall, None)
    for band, (_, made) in zip(own, found, strict=False):
        if made is not None:
            off = float((made - entire[:, 8 * band.first : 8 * band.last]).abs().max())
            assert off < 4e-6, "of a row too few it is hardly more than 1e-5"


def pixels(decoder: Decoder, latents: Tensor, shared: SharedRows | None) -> Tensor:
    parts: list[Tensor] = []
    decoder.decode(latents, parts.append, shared)
    return torch.cat(parts)


@pytest.mark.parametrize("world", [1, 2])
def test_half_precision_is_within_a_level_of_float32(
    world: int, tiny21: ModelFiles, vae: Any, tmp_path: Path
) -> None:
    """Whatever kernels a GPU takes for a size of picture, and so on any number of GPUs."""
    tall = torch.randn(1, 16, 2, 20, 4, generator=torch.Generator().manual_seed(0))
    exact = pixels(Decoder(vae, compiled=False), tall, None)
    decoder = Decoder(load.load_vae(tiny21, HALF, CPU), compiled=False)
    made = on_ranks(world, tmp_path, lambda ranks: decoder.frames(tall, ranks))[0]
    off = (made - (exact.clamp(-1, 1) + 1) * 127.5).abs()
    assert made.dtype == torch.uint8
    assert float(off.max()) < 1, "half a level is of rounding to levels; of bfloat16 it is 4"
    assert float(off.mean()) < 0.3, "of rounding to levels alone it is 0.25"


@pytest.mark.parametrize("world", [1, 2])
def test_what_is_beyond_half_precision_is_decoded_in_bfloat16(
    world: int, tiny21: ModelFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    large = torch.randn(1, 16, 2, 16, 4, generator=torch.Generator().manual_seed(0))
    large[0, :, 0, 15, 1] *= 1e6
    vae = load.load_vae(tiny21, HALF, CPU)
    decoder = Decoder(vae, compiled=False)

    def both(ranks: Ranks) -> tuple[Tensor | None, Tensor | None]:
        wanted = Decoder(widened(vae), compiled=False).frames(large, ranks)
        return decoder.frames(large, ranks), wanted

    if world == 1:
        made, wanted = both(alone())
        assert "a video is beyond the range of torch.float16" in caplog.text
    else:
        made, wanted = on_ranks(world, tmp_path, both)[0]
    assert made is not None
    assert wanted is not None
    assert float(made.float().std()) > 10
    assert torch.equal(made, wanted)
    assert decoder.dtype == HALF, "of the videos to come"


def test_what_is_beyond_half_precision_compiles_nothing(
    tiny21: ModelFiles, latents: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which would take longer than the video, in the midst of it."""
    compiled: list[Any] = []
    monkeypatch.setattr(vae_layers, "for_any_tokens", lambda part: compiled.append(part) or part)
    decoder = Decoder(load.load_vae(tiny21, HALF, CPU), compiled=True)
    count = len(compiled)
    assert count > 0
    decoder.frames(latents[:, :, :2, :2, :2] * 1e6, alone())
    assert len(compiled) == count


def test_one_rank_beyond_half_precision_takes_all_to_bfloat16(
    tiny21: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tall = torch.randn(1, 16, 2, 16, 2, generator=torch.Generator().manual_seed(0))
    vae = load.load_vae(tiny21, HALF, CPU)
    real = Decoder._full_size

    def made(ranks: Ranks) -> tuple[Tensor | None, Tensor | None]:
        def full_size(self: Decoder, *given: Any) -> Tensor:
            found = real(self, *given)
            return found * 1e6 if ranks.rank == 1 and self.dtype == HALF else found

        wanted = Decoder(widened(vae), compiled=False).frames(tall, ranks)
        monkeypatch.setattr(Decoder, "_full_size", full_size)
        return Decoder(vae, compiled=False).frames(tall, ranks), wanted

    (levels, wanted), others = on_ranks(2, tmp_path, made)
    assert others == (None, None)
    assert float(wanted.float().std()) > 10
    assert torch.equal(levels, wanted)


def test_a_rank_computes_attention_of_its_own_rows(
    vae: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tall, seen = torch.zeros(1, 16, 3, 43, 2), []
    real = torch.nn.functional.scaled_dot_product_attention

    def noted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.append((q.shape[0], q.shape[2] // 2, k.shape[2] // 2))
        return real(q, k, v)

    def lengths(ranks: Ranks) -> Any:
        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
        Decoder(vae, compiled=False).frames(tall, ranks)
        return seen

    assert on_ranks(2, tmp_path, lengths) == [[(3, 21, 43)], [(3, 22, 43)]]


def test_a_band_decodes_little_more_than_its_rows(vae: Any) -> None:
    layers = Decoder(vae, compiled=False)._large
    first, second = bands_of(90, 2)
    assert margin_of(layers) == 5
    heights = [rows[1] for rows in first.cuts(layers).values()]
    assert heights == [90 + 8, 180 + 7, 360 + 5, 360], "from the first doubling to the head"
    assert first.cuts(layers)[None] == (0, 360)
    assert second.cuts(layers)[None] == (5, 360)


@pytest.mark.parametrize(("height", "ranks", "bands"), [(90, 8, 8), (60, 8, 7), (6, 4, 1)])
def test_small_pictures_have_fewer_bands_than_ranks(height: int, ranks: int, bands: int) -> None:
    made = bands_of(height, ranks)
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
