"""Kernels of a video are chosen for the shapes that a rank computes, and are the ones at work."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusers_peer import SIGMA, random_inputs
from wan_runtime.contract.sampling import Profile
from wan_runtime.contract.steps import Expert
from wan_runtime.models.dit import float8_linear, kernels, transformer
from wan_runtime.models.dit.parallel import Group
from wan_runtime.models.dit.tokens import split_over
from wan_runtime.models.dit.transformer import Choice, Transformer
from wan_runtime.models.layout import ModelFiles

pytest_plugins = ["ml_fixtures"]

CPU = torch.device("cpu")


def group(size: int, ring: int | None) -> Group:
    exchange: Any = None if ring is None else SimpleNamespace(ring=ring)
    return Group(tuple(range(size)), 0, exchange=exchange)


@pytest.mark.parametrize(
    ("size", "ring", "shares", "attends"),
    [
        (1, None, 1, "Fast"),
        (2, None, 2, "Fast"),
        (2, 1, 2, "Fast"),
        (4, 2, 2, "Lossless"),
        (2, 2, 1, "Lossless"),
    ],
)
def test_a_rank_tries_out_its_share(
    size: int, ring: int | None, shares: int, attends: Profile, tiny21: ModelFiles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its heads among all tokens; of linear layers, its tokens. 8 bits give no sums for a ring."""
    fast = Transformer.load(tiny21, Expert.ONLY, CPU, torch.float32, profile="Fast")
    heads, dim = fast._attention.heads, fast._module.dim
    noisy, conditions = random_inputs(clip=True)
    tokens = noisy.shape[2] * noisy.shape[3] * noisy.shape[4] // 4
    picked: list[tuple[Any, ...]] = []
    layers: list[tuple[Any, ...]] = []

    def pick(*shape: Any) -> str:
        picked.append(shape[2:6])
        return "SDPA"

    def worth_it(*shape: Any) -> bool:
        layers.append(shape[4:])
        return True

    monkeypatch.setattr(transformer, "pick", pick)
    monkeypatch.setattr(float8_linear, "worth_it", worth_it)
    choice = fast.choose(conditions, tokens=split_over(group(size, ring)))
    assert choice == Choice("SDPA", "SDPA", float8=True)
    share = (heads // shares, dim // heads, tokens)
    assert picked == [(*share, attends), (*share, "Lossless")]
    assert layers == [(tokens // size, "Fast")]


@torch.no_grad()
def test_what_was_chosen_is_at_work(tiny21: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: dict[str, list[int]] = {"Own": [], "Cross": []}

    def noted(name: str) -> kernels.Kernel:
        def kernel(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
            keys[name].append(k.shape[1])
            return kernels.sdpa(q, k, v, heads)

        return kernel

    for name in keys:
        monkeypatch.setitem(kernels.KERNELS, name, noted(name))
    lossless = Transformer.load(tiny21, Expert.ONLY, CPU, torch.float32, profile="Lossless")
    noisy, conditions = random_inputs(clip=True)
    count = len(lossless._module.blocks)
    on = lossless.begin(conditions, choice=Choice("Own", "Cross", float8=False))
    lossless.begin(conditions, choice=Choice("SDPA", "SDPA", float8=False)).velocity(noisy, SIGMA)
    assert not keys["Own"] + keys["Cross"], "each video has its own"
    last = lossless._module.blocks[-1].cross_attn
    for each in (last.k, last.v, last.k_img, last.v_img):
        each.register_forward_pre_hook(lambda *_: pytest.fail("computed again at a step"))
    on.velocity(noisy, SIGMA)
    tokens = noisy.shape[2] * noisy.shape[3] * noisy.shape[4] // 4
    assert keys == {"Own": [tokens] * count, "Cross": [512, 257] * count}
