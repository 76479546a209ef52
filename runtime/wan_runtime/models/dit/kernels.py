"""Kernels of attention: which there are, which is right, and which is fastest here."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.sampling import EIGHT_BITS, LOSSY_KERNELS, AttentionKernel, Profile
from wan_runtime.errors import InputError
from wan_runtime.models.dit import float8, trial

log = logging.getLogger(__name__)

# Shapes: B batch, L tokens, H heads, d width of a head, D all heads together.

Kernel = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""Attention of q, k, v [B, L, D] with so many heads, as [B, L, D]. Queries may be fewer or more
than keys."""

KernelWithSums = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""A kernel that also gives the logarithm of the sum of each query's weights, [B, H, L] float32."""

CHECKED = 2048
"""Keys of the check against float32."""
CHECKED_HEADS = 4
TOLERANCE = 1.25
"""Largest error against float32 that a kernel may have, as a multiple of SDPA's."""
FLASH: AttentionKernel = "FlashAttention-3"
FLOAT8: AttentionKernel = "FlashAttention-3 FP8"
SAGE: AttentionKernel = "SageAttention"
SAGE_PACKAGE, FLASH_PACKAGE = "sageattention", "fa3_fwd_interface"
_HOPPER = (
    "a Hopper GPU (H100, H200) and the package fa3-fwd, which the CUDA flavour of the runtime "
    "image has"
)
NEEDS: dict[str, str] = {
    SAGE: "a GPU and the package sageattention, which has to be added to the runtime image",
    FLASH: _HOPPER,
    FLOAT8: _HOPPER,
}
"""What a kernel runs on. Those that are not here run everywhere."""
LOSSY_ERROR = 0.08
"""Largest error against float32 that 8 bits may have on numbers of the standard normal
distribution: a third more than rounding to E4M3 alone gives."""


def sdpa(q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor, heads: int) -> Tensor:
    """PyTorch's own, which is cuDNN's on recent GPUs."""
    q, k, v = (by_head(each, heads).transpose(1, 2) for each in (q_BLD, k_BLD, v_BLD))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def flash_attention_3(q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor, heads: int) -> Tensor:
    """FlashAttention-3 (Shah et al. 2024), forward only, as the package fa3-fwd has it."""
    q, k, v = (by_head(each, heads) for each in (q_BLD, k_BLD, v_BLD))
    made: Tensor = package(FLASH_PACKAGE).flash_attn_func(q, k, v)
    return made.flatten(2)


def sdpa_with_sums(
    q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor, heads: int
) -> tuple[Tensor, Tensor]:
    """PyTorch's flash attention."""
    q, k, v = (by_head(each, heads).transpose(1, 2) for each in (q_BLD, k_BLD, v_BLD))
    aten = torch.ops.aten
    if q.device.type == "cuda":
        found, sums = aten._scaled_dot_product_flash_attention(q, k, v)[:2]
    else:
        found, sums = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
    return found.transpose(1, 2).flatten(2), sums


def flash_attention_3_with_sums(
    q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor, heads: int
) -> tuple[Tensor, Tensor]:
    """FlashAttention-3."""
    q, k, v = (by_head(each, heads) for each in (q_BLD, k_BLD, v_BLD))
    attend = package(FLASH_PACKAGE).flash_attn_func
    found, sums = attend(q, k, v, return_attn_probs=True)
    return found.flatten(2), sums


def sage(q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor, heads: int) -> Tensor:
    """SageAttention (Zhang et al. 2024): queries and keys in 8-bit integers."""
    # It subtracts the keys' mean in place, and keys of the texts are used again.
    q, k, v = (by_head(each, heads) for each in (q_BLD, k_BLD.clone(), v_BLD))
    made: Tensor = package(SAGE_PACKAGE).sageattn(q, k, v, tensor_layout="NHD")
    return made.flatten(2)


@lru_cache
def pick(
    device: torch.device,
    dtype: torch.dtype,
    heads: int,
    width: int,
    tokens: int,
    profile: Profile,
    named: AttentionKernel | None = None,
) -> str:
    """Name of the fastest kernel whose error against float32 is no larger than SDPA's, give or take
    a quarter; or that of 8 bits, where the profile is Balanced. Timed at a video's tokens; the
    answer is kept.

    Args:
        width: of a head.
        named: a kernel that `require` found right, taken whatever its time; but not one of 8 bits
            by a profile that loses none.
    """
    if named is not None and (profile in EIGHT_BITS or named not in LOSSY_KERNELS):
        return named
    names = [
        name
        for name in available(device, dtype)
        if profile in EIGHT_BITS or name not in LOSSY_KERNELS
    ]
    if len(names) == 1:
        return names[0]
    best, fastest = math.inf, names[0]
    for name in names:
        tried = try_out(name, device, dtype, heads, width, tokens)
        if tried is not None and tried.seconds < trial.MARGIN * best:
            best, fastest = tried.seconds, name
    return fastest


class Tried(NamedTuple):
    """What a trial of a kernel found."""

    seconds: float
    error: float
    """Against float32, relative."""


@lru_cache
def try_out(
    name: str, device: torch.device, dtype: torch.dtype, heads: int, width: int, tokens: int
) -> Tried | None:
    """Time a kernel, and compare it with float32; None if it does not run here or is wrong. The
    answer is kept."""
    try:
        off = check(name, device, dtype, width)
    except Unfit as unfit:
        log.warning("attention kernel %s is left out: %s", name, unfit)
        return None
    took = _timed(KERNELS[name], _drawn(device, dtype, tokens, heads * width), heads)
    log.info("attention kernel %s: %.3g s, error %.3g", name, took, off)
    return Tried(took, off)


class Unfit(Exception):
    """A kernel is not used, for what it raised or how wrong it is."""


def check(name: str, device: torch.device, dtype: torch.dtype, width: int) -> float:
    """Relative error of a kernel against float32, at heads of this width.

    Raises:
        Unfit: if it does not run here, or the error is too large.
    """
    few = _drawn(device, dtype, CHECKED, CHECKED_HEADS * width)
    q, k, v = (each.float() for each in few)
    exact = sdpa(q, k, v, CHECKED_HEADS)

    def error_of(kernel: Kernel) -> float:
        found = kernel(*few, CHECKED_HEADS).float()
        return float((found - exact).norm() / exact.norm())

    try:
        off = error_of(KERNELS[name])
    except Exception as error:  # of a width or a driver it does not know: each raises its own
        raise Unfit(f"it fails: {str(error).partition(chr(10))[0]}") from error
    most = LOSSY_ERROR if name in LOSSY_KERNELS else TOLERANCE * error_of(KERNELS["SDPA"])
    if not off <= most:
        raise Unfit(f"its error against float32 is {off:.3g}, above {most:.3g}")
    return off


def require(named: AttentionKernel, device: torch.device, dtype: torch.dtype, width: int) -> None:
    """Check a kernel that must be used.

    Args:
        width: of a head.

    Raises:
        InputError: JOB_INVALID, if it cannot run on this device or is wrong.
    """
    here = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    if named not in available(device, dtype):
        module = SAGE_PACKAGE if named == SAGE else FLASH_PACKAGE
        there = "" if importlib.util.find_spec(module) else ", and not the package"
        fault = f"needs {NEEDS[named]}; this worker has {here}{there}"
    else:
        try:
            check(named, device, dtype, width)
            return
        except Unfit as unfit:
            log.warning("attention kernel %s: %s", named, unfit)
            why = unfit if unfit.__cause__ is None else "it fails, as the worker's log has it"
            fault = f"cannot be used on {here}: {why}"
    raise InputError(
        Reason.JOB_INVALID,
        f"acceleration.attention: {named} {fault}. Write Auto or SDPA, or choose other GPUs by "
        "workers.podTemplate.nodeSelector",
    )


def available(device: torch.device, dtype: torch.dtype) -> list[str]:
    """Names of the kernels that may run there, SDPA first."""
    names = ["SDPA"]
    if device.type != "cuda" or dtype != torch.bfloat16:
        return names
    if importlib.util.find_spec(SAGE_PACKAGE):
        names.append(SAGE)
    if torch.cuda.get_device_capability(device)[0] == 9 and importlib.util.find_spec(FLASH_PACKAGE):
        names += [FLASH, FLOAT8]
    return names


KERNELS: dict[str, Kernel] = {
    "SDPA": sdpa,
    SAGE: sage,
    FLASH: flash_attention_3,
    FLOAT8: float8.flash_attention_3,
}

WITH_SUMS: dict[Kernel, KernelWithSums] = {
    sdpa: sdpa_with_sums,
    flash_attention_3: flash_attention_3_with_sums,
}
"""Kernels of all profiles, as a ring needs them."""


def by_head(x_BLD: Tensor, heads: int) -> Tensor:
    """[B, L, H, d]."""
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
    return trial.seconds_of(lambda: kernel(*inputs, heads))
