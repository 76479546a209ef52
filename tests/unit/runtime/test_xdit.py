"""Ranks that share tokens by xDiT's libraries, on CPUs by yunchang alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from forked_ranks import on_ranks
from wan_runtime.contract.service import ParallelSpec, Profile
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError
from wan_runtime.models.dit import xdit
from wan_runtime.models.dit.forward import Conditions
from wan_runtime.models.dit.kernels import WITH_SUMS, sdpa
from wan_runtime.models.dit.parallel import Ranks, alone
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.layout import ModelFiles
from wan_runtime.rendering.sampling import Prompted, Step, denoise

pytest_plugins = ["ml_fixtures"]

CPU = torch.device("cpu")
ODD = ((3, 6, 6), (5, 10, 10))
"""Latents of 27 and 125 tokens, which no number of ranks divides."""


@pytest.mark.parametrize(("world", "ring"), [(2, 1), (4, 2)])
def test_ranks_make_what_one_makes_where_nothing_divides(
    world: int, ring: int, tiny21: ModelFiles, tmp_path: Path
) -> None:
    wanted = videos(tiny21)(alone())
    parallel = ParallelSpec(ring=ring)
    made = on_ranks(world, tmp_path, videos(tiny21), parallel)
    for each in made:
        assert not isinstance(each, str), each
        for name, latents in each.items():
            torch.testing.assert_close(latents, wanted[name], rtol=0, atol=1e-4, msg=str(name))
            assert torch.equal(latents, made[0][name]), "ranks end with the same bits"


def videos(files: ModelFiles) -> Callable[[Ranks], dict[tuple[object, ...], Tensor]]:
    """Makes latents of both sizes, with guidance and without."""
    profile: Profile = "Lossless"
    transformer = Transformer.load(files, Expert.ONLY, CPU, torch.float32, profile=profile)
    return partial(_videos, transformer)


def _videos(transformer: Transformer, ranks: Ranks) -> dict[tuple[object, ...], Tensor]:
    made = {}
    for latent in ODD:
        noisy, conditions, other = inputs(latent)
        for guidance in (5.0, 1.0):
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


def test_kernels_of_a_ring_give_their_sums() -> None:
    q, k, v = torch.randn(3, 1, 5, 8, generator=torch.Generator().manual_seed(0))
    found, sums = WITH_SUMS[sdpa](q, k, v, 2)
    heads = [each.view(1, 5, 2, 4).transpose(1, 2) for each in (q, k)]
    wanted = (heads[0] @ heads[1].transpose(2, 3) / 2).logsumexp(-1)
    torch.testing.assert_close(sums, wanted)
    torch.testing.assert_close(found, sdpa(q, k, v, 2))


def test_a_ring_that_does_not_divide_the_halves_is_refused() -> None:
    with pytest.raises(InputError, match=r"parallelism\.ring: 2 does not divide the 1 GPUs"):
        xdit.join(0, 2, 2)


def test_an_image_without_the_libraries_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xdit, "YUNCHANG", "no_such_package")
    with pytest.raises(InputError, match="xDiT needs the package no_such_package, which the CUDA"):
        xdit.join(0, 2, 1)
