"""Self-attention in 8-bit floating point.

Queries, keys and values are rounded to E4M3 (3 bits of mantissa; Micikevicius et al. 2022) with a
scale a head. What all tokens share is subtracted first, channel by channel, since 8 bits are best
spent on differences: of keys it adds the same to all logits of a query, which softmax ignores; of
values it is added to the result again, since the weights of a query sum to one. Without the latter
the kernel loses half of such a share where attention is spread over many tokens.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from wan_runtime.models.dit.compiled import for_any_tokens

# Shapes: B batch, L tokens, H heads, d width of a head, D all heads together.

E4M3 = torch.float8_e4m3fn
LARGEST = torch.finfo(E4M3).max
SMALLEST = 1e-12
"""Least scale: a head of zeros has one too."""


class Rounded(NamedTuple):
    """Queries, keys and values [B, L, H, d] in E4M3, and the scale [B, H] that gives each back."""

    q: Tensor
    k: Tensor
    v: Tensor
    q_scale: Tensor
    k_scale: Tensor
    v_scale: Tensor


Attend = Callable[[Rounded], Tensor]
"""Attention [B, L, H, d] of rounded queries, keys and values."""


def flash_attention_3(q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor, heads: int) -> Tensor:
    """FlashAttention-3 (Shah et al. 2024) in E4M3, [B, L, D]."""
    rounding, restoring = _compiled()
    rounded, shared = rounding((q_BLD, k_BLD, v_BLD), heads)
    return restoring((_flash_attention_3(rounded),), shared)


def rounded(tokens: Sequence[Tensor], heads: int) -> tuple[Rounded, Tensor]:
    """What 8-bit attention computes with, and the values' share [B, 1, H, d] for `restored`.

    Args:
        tokens: queries, keys and values [B, L, D].
    """
    q, k, v = (each.view(*each.shape[:2], heads, -1) for each in tokens)
    k_mean, v_mean = (each.float().mean(1, keepdim=True) for each in (k, v))
    (q8, q_scale), (k8, k_scale) = _round(q, None), _round(k, k_mean)
    v8, v_scale = _round(v, v_mean)
    return Rounded(q8, k8, v8, q_scale, k_scale, v_scale), v_mean


def restored(tokens: Sequence[Tensor], shared_B1Hd: Tensor) -> Tensor:
    """The result [B, L, D] with the values' share again.

    Args:
        tokens: attention [B, L, H, d].
    """
    [found] = tokens
    return (found.float() + shared_B1Hd).to(found.dtype).flatten(2)


def _round(x_BLHd: Tensor, mean_B1Hd: Tensor | None) -> tuple[Tensor, Tensor]:
    # Extremes by channel come from the same reading as the mean.
    x, high, low = x_BLHd.float(), x_BLHd.amax(1).float(), x_BLHd.amin(1).float()
    if mean_B1Hd is not None:
        x, high, low = x - mean_B1Hd, high - mean_B1Hd[:, 0], low - mean_B1Hd[:, 0]
    scale_BH = torch.maximum(high, -low).amax(-1).clamp(min=SMALLEST) / LARGEST
    # Division may round past the largest number, which E4M3 has as no number.
    return (x / scale_BH[:, None, :, None]).clamp(-LARGEST, LARGEST).to(E4M3), scale_BH


@lru_cache
def _compiled() -> tuple[
    Callable[[Sequence[Tensor], int], tuple[Rounded, Tensor]],
    Callable[[Sequence[Tensor], Tensor], Tensor],
]:
    return for_any_tokens(rounded), for_any_tokens(restored)


def _flash_attention_3(x: Rounded) -> Tensor:
    package = importlib.import_module("fa3_fwd_interface")
    made: Tensor = package.flash_attn_func(
        x.q, x.k, x.v, q_descale=x.q_scale, k_descale=x.k_scale, v_descale=x.v_scale
    )
    return made
