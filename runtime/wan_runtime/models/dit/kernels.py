"""Kernels of attention: which there are, which is right, and which is fastest here."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wan_runtime.contract.service import Profile
from wan_runtime.models.dit import float8

log = logging.getLogger(__name__)

# Shapes: B batch, L tokens, H heads, d width of a head, D all heads together.

Kernel = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""Attention of q, k, v [B, L, D] with so many heads, as [B, L, D]. Queries may be fewer or more
than keys."""

CHECKED = 2048
"""Keys of the check against float32."""
CHECKED_HEADS = 4
TIMES = 3
"""Runs of the timing, of which the fastest counts: a processor that is late decides nothing."""
MARGIN = 0.95
"""Share of the time of the kernels before it below which one is worth it: a narrow choice could
fall otherwise at the next start, and a seed would give other bits."""
TOLERANCE = 1.25
"""Largest error against float32 that a kernel may have, as a multiple of SDPA's."""
EIGHT_BITS: tuple[Profile, ...] = ("Balanced", "Fast")
FLOAT8 = "FlashAttention-3 FP8"
FLOAT8_ERROR = 0.08
"""Largest error against float32 that 8 bits may have on numbers of the standard normal
distribution: a third more than rounding alone gives."""


def sdpa(q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor, heads: int) -> Tensor:
    """PyTorch's own, which is cuDNN's on recent GPUs."""
    q, k, v = (_by_head(each, heads).transpose(1, 2) for each in (q_BLD, k_BLD, v_BLD))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def flash_attention_3(q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor, heads: int) -> Tensor:
    """FlashAttention-3 (Shah et al. 2024), forward only, as the package fa3-fwd has it."""
    q, k, v = (_by_head(each, heads) for each in (q_BLD, k_BLD, v_BLD))
    made: Tensor = package("fa3_fwd_interface").flash_attn_func(q, k, v)
    return made.flatten(2)


@lru_cache
def pick(
    device: torch.device, dtype: torch.dtype, heads: int, width: int, tokens: int, profile: Profile
) -> str:
    """Name of the fastest kernel whose error against float32 is no larger than SDPA's, give or take
    a quarter; or that of 8 bits, where the profile is Balanced. Timed at a video's tokens; the
    answer is kept.

    Args:
        width: of a head.
    """
    names = [name for name in available(device, dtype) if profile in EIGHT_BITS or name != FLOAT8]
    if len(names) == 1:
        return names[0]
    few = _drawn(device, dtype, CHECKED, CHECKED_HEADS * width)
    q, k, v = (each.float() for each in few)
    exact = sdpa(q, k, v, CHECKED_HEADS)
    many = _drawn(device, dtype, tokens, heads * width)
    usual, best, fastest = 0.0, math.inf, names[0]
    for name in names:  # SDPA first
        try:
            found = KERNELS[name](*few, CHECKED_HEADS).float()
        except (RuntimeError, ImportError) as error:  # of a width or a driver it does not know
            log.warning("attention kernel %s is left out: %s", name, str(error).partition("\n")[0])
            continue
        off = float((found - exact).norm() / exact.norm())
        usual = usual or TOLERANCE * off
        if not off <= (FLOAT8_ERROR if name == FLOAT8 else usual):
            log.warning("attention kernel %s is off by %.3g and left out", name, off)
            continue
        took = _timed(KERNELS[name], many, heads)
        log.info("attention kernel %s: %.3g s, error %.3g", name, took, off)
        if took < MARGIN * best:
            best, fastest = took, name
    return fastest


def available(device: torch.device, dtype: torch.dtype) -> list[str]:
    """Names of the kernels that can run there, SDPA first."""
    names = ["SDPA"]
    hopper = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] == 9
    if hopper and dtype == torch.bfloat16 and importlib.util.find_spec("fa3_fwd_interface"):
        names += ["FlashAttention-3", FLOAT8]
    return names


KERNELS: dict[str, Kernel] = {
    "SDPA": sdpa,
    "FlashAttention-3": flash_attention_3,
    FLOAT8: float8.flash_attention_3,
}


def _by_head(x_BLD: Tensor, heads: int) -> Tensor:
    return x_BLD.view(*x_BLD.shape[:2], heads, -1)


def package(name: str) -> Any:
    """A module that not every machine has."""
    return importlib.import_module(name)


def _drawn(
    device: torch.device, dtype: torch.dtype, tokens: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator(device).manual_seed(0)
    q, k, v = (
        torch.randn(1, tokens, width, device=device, generator=draw).to(dtype) for _ in range(3)
    )
    return q, k, v


def _timed(kernel: Kernel, inputs: tuple[Tensor, Tensor, Tensor], heads: int) -> float:
    """Seconds of the fastest of some runs, after one that may compile."""
    best = math.inf
    for number in range(1 + TIMES):
        torch.cuda.synchronize()
        began = time.monotonic()
        kernel(*inputs, heads)
        torch.cuda.synchronize()
        if number:
            best = min(best, time.monotonic() - began)
    return best
