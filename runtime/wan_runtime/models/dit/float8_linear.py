"""Linear layers in 8-bit floating point.

A layer's weights and what enters it are rounded to E4M3 with a scale for each row: of the weights
for each feature that comes out, of the input for each token. Weights are rounded anew each time,
which takes a few thousandths of a layer's time at a video's tokens, and so need no room beside the
bfloat16 ones, whichever of them an adapter changes or another transformer's turn moves.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from wan_runtime.contract.service import Profile
from wan_runtime.models.dit import trial
from wan_runtime.models.dit.compiled import for_any_tokens
from wan_runtime.models.dit.float8 import E4M3, LARGEST, SMALLEST

log = logging.getLogger(__name__)

# Shapes: B batch, L tokens, I in and O out features, N rows.

NAME = "FP8"
PROFILES: tuple[Profile, ...] = ("Fast",)
"""Profiles that may take it."""
CHECKED = 512
"""Tokens that are compared with float32, from the first of a video to the last."""
LEAST_ERROR, MOST_ERROR = 0.01, 0.06
"""Error against float32 on numbers of the standard normal distribution. Rounding to E4M3 alone
gives 0.036; a tenth of it would mean that nothing was rounded to 8 bits."""

Rows = tuple[Tensor, Tensor]
"""Numbers [N, I] in E4M3, and the scale [N, 1] that gives each row back."""


def rounded(x: Tensor) -> Rows:
    """Rows of x [..., I] in E4M3."""
    rows = x.flatten(0, -2).float()
    scale_N1 = rows.abs().amax(-1, keepdim=True).clamp(min=SMALLEST) / LARGEST
    # Division may round past the largest number, which E4M3 has as no number.
    return (rows / scale_N1).clamp(-LARGEST, LARGEST).to(E4M3), scale_N1


def linear(x: Rows, weight_OI: Tensor, bias_O: Tensor) -> Tensor:
    """Product with a layer's rounded weights, and its bias, [N, O] in the weights' dtype."""
    (x_NI, x_scale_N1), (w_OI, w_scale_O1) = x, rounded(weight_OI)
    return torch._scaled_mm(
        x_NI,
        w_OI.t(),
        scale_a=x_scale_N1,
        scale_b=w_scale_O1.t(),
        bias=bias_O,
        out_dtype=weight_OI.dtype,
        use_fast_accum=True,
    )


def available(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device has matrix products in 8 bits: Ada, Hopper and later GPUs."""
    return (
        device.type == "cuda"
        and dtype == torch.bfloat16
        and torch.cuda.get_device_capability(device) >= (8, 9)
    )


@lru_cache
def worth_it(
    device: torch.device, dtype: torch.dtype, ins: int, outs: int, tokens: int, profile: Profile
) -> bool:
    """Whether a profile takes 8 bits for layers of this width: if they are faster than the layer
    as it is, at so many tokens, and their error is that of rounding to 8 bits, which proves that
    they are computed so. The answer is kept.

    Args:
        ins, outs: features of a layer.
        tokens: of this rank.
    """
    if profile not in PROFILES or not available(device, dtype):
        return False
    draw = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, generator=draw).to(dtype)

    many, weight, bias = normal(1, tokens, ins), normal(outs, ins), normal(outs)
    some = torch.linspace(0, tokens - 1, min(CHECKED, tokens)).round().long().to(device)
    wanted = F.linear(many[:, some].float(), weight.float(), bias.float())
    layer = for_any_tokens(_layer)
    try:
        found = layer((many,), weight, bias)[:, some].float()
    except RuntimeError as error:  # of a width or a driver that it does not know
        log.warning("8-bit linear layers are left out: %s", str(error).partition("\n")[0])
        return False
    off = float((found - wanted).norm() / wanted.norm())
    if not LEAST_ERROR <= off <= MOST_ERROR:
        why = "they are not computed in 8 bits" if off < LEAST_ERROR else "they are wrong"
        log.warning("8-bit linear layers are off by %.3g and left out: %s", off, why)
        return False
    usual = trial.seconds_of(lambda: F.linear(many, weight, bias))
    took = trial.seconds_of(lambda: layer((many,), weight, bias))
    log.info("linear layer in %s: %.3g s; in 8 bits: %.3g s, error %.3g", dtype, usual, took, off)
    return took < trial.MARGIN * usual


def _layer(tokens: Sequence[Tensor], weight_OI: Tensor, bias_O: Tensor) -> Tensor:
    [x_BLI] = tokens
    return linear(rounded(x_BLI), weight_OI, bias_O).view(*x_BLI.shape[:-1], -1)
