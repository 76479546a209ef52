"""Every layout of up to eight ranks makes the video that one rank makes, where no number of ranks
divides its tokens."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from diffsynth.models.wan_video_dit import WanModel
from torch import Tensor

from forked_ranks import on_ranks
from wan_runtime.contract.service import ParallelSpec
from wan_runtime.contract.steps import Expert
from wan_runtime.models.dit.forward import Conditions
from wan_runtime.models.dit.parallel import Ranks, alone
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.rendering.sampling import Prompted, Step, denoise

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import yunchang  # noqa: F401  once, before ranks are forked

CPU = torch.device("cpu")
ODD = ((3, 6, 6), (5, 10, 10))
"""Latents of 27 and 125 tokens."""
GUIDANCES = (5.0, 1.0)
Videos = dict[tuple[object, ...], Tensor]


@pytest.fixture(scope="module")
def transformer() -> Transformer:
    """Two blocks of eight heads."""
    torch.manual_seed(0)
    module = WanModel(
        dim=256, in_dim=36, ffn_dim=128, out_dim=16, text_dim=64, freq_dim=64, eps=1e-6,
        patch_size=(1, 2, 2), num_heads=8, num_layers=2, has_image_input=True,
    )  # fmt: skip
    return Transformer(module.eval().requires_grad_(False), CPU, torch.float32, profile="Lossless")


@pytest.fixture(scope="module")
def wanted(transformer: Transformer) -> Videos:
    return videos(transformer)(alone())


@pytest.mark.parametrize(
    ("world", "parallel"),
    [
        (2, None),
        (2, ParallelSpec()),
        (4, None),
        (4, ParallelSpec(ring=2)),
        (8, None),
        (8, ParallelSpec(ring=2)),
        (8, ParallelSpec(ring=4)),
    ],
    ids=str,
)
def test_ranks_make_what_one_makes_where_nothing_divides(
    world: int,
    parallel: ParallelSpec | None,
    transformer: Transformer,
    wanted: Videos,
    tmp_path: Path,
) -> None:
    made = on_ranks(world, tmp_path, videos(transformer), parallel)
    for each in made:
        assert not isinstance(each, str), each
        for name, latents in each.items():
            torch.testing.assert_close(latents, wanted[name], rtol=0, atol=1e-4, msg=str(name))
            assert torch.equal(latents, made[0][name]), "ranks end with the same bits"


def videos(transformer: Transformer) -> Callable[[Ranks], Videos]:
    """Makes latents of both sizes, with guidance and without."""
    return partial(_videos, transformer)


def _videos(transformer: Transformer, ranks: Ranks) -> Videos:
    made = {}
    for latent in ODD:
        noisy, conditions, other = inputs(latent)
        for guidance in GUIDANCES:
            steps = [Step(sigma, Expert.ONLY, guidance) for sigma in (0.9, 0.6)]
            prompted = Prompted(conditions, other)
            made[latent, guidance] = denoise(lambda _: transformer, steps, noisy, prompted, ranks)
    return made


def inputs(latent: tuple[int, int, int]) -> tuple[Tensor, Conditions, Conditions]:
    draw = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(1, *shape, generator=draw)

    noisy, y, clip = normal(16, *latent), normal(20, *latent), normal(257, 1280)
    positive, negative = (Conditions(normal(512, 64), y, clip) for _ in range(2))
    return noisy, positive, negative
