"""The VAE's decoder beside diffsynth's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from wan_runtime.errors import NumericalError
from wan_runtime.models import load, vae_decoder, vae_layers
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.vae_decoder import Decoder

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
    levels = Decoder(vae, compiled=False).frames(latents)
    assert levels.shape == (13, 48, 64, 3)
    assert float(levels.float().std()) > 10, "not a grey picture"
    assert float((levels - (stock + 1) * 127.5).abs().max()) < 0.51, "rounded to levels, else equal"
    again = vae.decode(latents, device="cpu")[0].permute(1, 2, 3, 0)
    torch.testing.assert_close(again, stock, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "value"), [("AT_ONCE", 1), ("AT_ONCE", 4), ("STACKED", 0)])
def test_how_it_is_cut_up_changes_nothing(
    name: str, value: int, vae: Any, latents: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Decoder(vae, compiled=False).frames(latents)
    monkeypatch.setattr(vae_layers if name == "STACKED" else vae_decoder, name, value)
    other = Decoder(vae, compiled=False).frames(latents)
    assert int((usual.int() - other.int()).abs().max()) <= 1


def test_what_is_not_finite_is_an_error(vae: Any, latents: Tensor) -> None:
    broken = latents.clone()
    broken[0, 3, 2, 1, 1] = float("nan")
    with pytest.raises(NumericalError, match="sampling gave NaN or infinite pixels"):
        Decoder(vae, compiled=False).frames(broken)
