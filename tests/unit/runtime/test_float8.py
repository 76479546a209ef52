"""Self-attention in 8 bits, with the kernel's place taken by float32."""

from __future__ import annotations

import torch
from torch import Tensor

from wan_runtime.models.dit import float8, kernels
from wan_runtime.models.dit.float8 import Rounded

HEADS, WIDTH, TOKENS = 2, 32, 96


def drawn(*, peaked: float = 1.0, share: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of the normal distribution. `share`: of all keys and values."""
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, TOKENS, HEADS * WIDTH, generator=draw) for _ in range(3))
    return q * peaked, k + share, v + share


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """In 8 bits, but for the products and the weights of the sums."""
    rounded, shared = float8.rounded((q, k, v), HEADS)
    found = kernels.sdpa(*given_back(rounded), HEADS)
    return float8.restored((found.view(1, TOKENS, HEADS, WIDTH),), shared)


def given_back(x: Rounded) -> list[Tensor]:
    pairs = ((x.q, x.q_scale), (x.k, x.k_scale), (x.v, x.v_scale))
    return [(each.float() * scale[:, None, :, None]).flatten(2) for each, scale in pairs]


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def test_eight_bits_round_by_a_few_percent() -> None:
    q, k, v = drawn()
    found = given_back(float8.rounded((q, k, v), HEADS)[0])
    for each, wanted in zip(found, (q, k, v), strict=True):
        centred = each - each.mean(1, keepdim=True)
        assert 0.01 < off(centred, wanted - wanted.mean(1, keepdim=True)) < 0.04
    assert 0.01 < off(attention(q, k, v), kernels.sdpa(q, k, v, HEADS)) < 0.06


def test_what_tokens_share_costs_no_bits() -> None:
    q, k, v = drawn(peaked=4.0)
    _, shared_k, shared_v = drawn(peaked=4.0, share=100.0)
    plain = off(attention(q, k, v), kernels.sdpa(q, k, v, HEADS))
    wanted = kernels.sdpa(q, shared_k, shared_v, HEADS)
    found = attention(q, shared_k, shared_v)
    assert off(found - 100, wanted - 100) < 1.1 * plain


def test_each_head_has_a_scale_of_its_own() -> None:
    q, k, v = drawn()
    wide = torch.ones(1, 1, HEADS * WIDTH)
    wide[..., :WIDTH] = 1e4
    found, _ = float8.rounded((q, k, v * wide), HEADS)
    plain, _ = float8.rounded((q, k, v), HEADS)
    assert torch.equal(found.v[:, :, 1].float(), plain.v[:, :, 1].float())
    assert float(found.v.float().abs().max()) == float8.LARGEST


def test_tokens_that_are_all_alike_are_exact() -> None:
    q, k, v = (each[:, :1].expand(-1, TOKENS, -1) for each in drawn(share=3.0))
    assert off(attention(q, k, v), v) < 1e-6
