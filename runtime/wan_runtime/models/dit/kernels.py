"""Kernels of attention: which there are, which is right, and which is fastest here."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.sampling import EIGHT_BITS, LOSSY_KERNELS, AttentionKernel, Profile
from wan_runtime.errors import InputError, NumericalError
from wan_runtime.models.dit import float8, trial

log = logging.getLogger(__name__)

# Shapes: B batch, L tokens, H heads, d width of a head, D all heads together.

Kernel = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""Attention of q, k, v [B, L, D] with so many heads, as [B, L, D]. Queries may be fewer or more
than keys."""

KernelWithSums = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""A kernel that also gives the logarithm of the sum of each query's weights, [B, H, L] float32."""

CHECKED = (2048, 2029)
"""Queries and keys of the checks against float32. The second is no multiple of what kernels take at
a time, so that the last ones are a part of that."""
CROSSED = (512, 257)
"""Keys of texts and of a photo, to which the queries of a video attend as well."""
CHECKED_HEADS = 4
SAMPLED = 64
"""Queries that are compared at a video's length, from the first token to the last."""
TOLERANCE = 1.25
"""Largest error against float32 that a kernel may have, as a multiple of SDPA's."""
EXACT_ERROR = 0.01
"""Largest error that any kernel of 16 bits may have, SDPA too: five times that of bfloat16."""
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
LEAST_LOSSY_ERROR, LOSSY_ERROR = 0.005, 0.08
"""Error against float32 that 8 bits may have on numbers of the standard normal distribution. E4M3
gives 0.054 among few tokens and 0.068 at 75,600, integers of 8 bits, as SageAttention has them,
0.013, and bfloat16 0.0022: less than the least means that nothing was rounded to 8 bits."""


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
    a quarter; or that of 8 bits, where the profile is Balanced. Timed and compared at a video's
    tokens; the answer is kept.

    Args:
        width: of a head.
        named: a kernel that `require` found right, taken whatever its time; but not one of 8 bits
            by a profile that loses none.

    Raises:
        InputError: JOB_INVALID, if the named one is wrong at these tokens.
        NumericalError: if none is right.
    """
    shape = (device, dtype, heads, width, tokens)
    if named is not None and (profile in EIGHT_BITS or named not in LOSSY_KERNELS):
        try:
            check_at(named, *shape)
        except Unfit as unfit:
            raise _refused(named, device, unfit) from unfit
        return named
    names = [
        name
        for name in available(device, dtype)
        if profile in EIGHT_BITS or name not in LOSSY_KERNELS
    ]
    if len(names) == 1 and device.type == "cpu":  # float32, in which the others are judged
        return names[0]
    best, fastest = math.inf, None
    for name in names:
        tried = try_out(name, *shape)
        if tried is not None and tried.seconds < trial.MARGIN * best:
            best, fastest = tried.seconds, name
    if fastest is None:
        raise NumericalError(
            Reason.NON_FINITE_LOSS,
            f"no attention kernel is right on {_name_of(device)} at {tokens} tokens, as the "
            "worker's log has it: the GPU or its driver fails",
        )
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
        check(name, device, dtype, width)
        off = check_at(name, device, dtype, heads, width, tokens)
    except Unfit as unfit:
        log.warning("attention kernel %s is left out: %s", name, unfit)
        return None
    took = _timed(KERNELS[name], _drawn(device, dtype, tokens, heads * width), heads)
    log.info("attention kernel %s: %.3g s, error %.3g", name, took, off)
    return Tried(took, off)


class Unfit(Exception):
    """A kernel is not used, for what it raised or how wrong it is."""


def check(name: str, device: torch.device, dtype: torch.dtype, width: int) -> None:
    """Compare a kernel with float32 among few tokens, at heads of this width; and from them to the
    keys of texts and photo, if it may lose no bits.

    Raises:
        Unfit: if it does not run here, or the error is too large, or is not that of 8 bits.
    """
    crossed = () if name in LOSSY_KERNELS else CROSSED
    for tokens, keys in (*zip(CHECKED, CHECKED, strict=True), *product(CHECKED[1:], crossed)):
        q, k, v = _drawn(device, dtype, tokens, CHECKED_HEADS * width)
        few = (q, k[:, :keys].contiguous(), v[:, :keys].contiguous())
        exact = sdpa(few[0].float(), few[1].float(), few[2].float(), CHECKED_HEADS)
        off = _error(_ran(name, few, CHECKED_HEADS), exact)
        usual = math.inf
        if _beside_sdpa(name):
            usual = _error(_ran("SDPA", few, CHECKED_HEADS), exact)
        _judge(name, off, usual)


def check_at(
    name: str, device: torch.device, dtype: torch.dtype, heads: int, width: int, tokens: int
) -> float:
    """Relative error of a kernel against float32 at a video's length.

    Raises:
        Unfit: as `check`.
    """
    off = _error_at(name, device, dtype, heads, width, tokens)
    usual = math.inf
    if _beside_sdpa(name):
        with suppress(Unfit):
            usual = _error_at("SDPA", device, dtype, heads, width, tokens)
    _judge(name, off, usual)
    return off


@lru_cache
def _error_at(
    name: str, device: torch.device, dtype: torch.dtype, heads: int, width: int, tokens: int
) -> float:
    """Error of some of the queries, spread over all tokens, in the last heads. Raises Unfit if the
    kernel does not run."""
    inputs = _drawn(device, dtype, tokens, heads * width)
    some = torch.linspace(0, tokens - 1, min(SAMPLED, tokens)).round().long().to(device)
    count = min(heads, CHECKED_HEADS)
    q, k, v = (each[:, :, -count * width :] for each in inputs)
    exact = sdpa(q[:, some].float(), k.float(), v.float(), count)
    return _error(_ran(name, inputs, heads)[:, some, -count * width :], exact)


def _ran(name: str, inputs: tuple[Tensor, Tensor, Tensor], heads: int) -> Tensor:
    try:
        return KERNELS[name](*inputs, heads)
    except Exception as error:  # of a width or a driver it does not know: each raises its own
        raise Unfit(f"it fails: {str(error).partition(chr(10))[0]}") from error


def _error(found: Tensor, exact: Tensor) -> float:
    return float((found.float() - exact).norm() / exact.norm())


def _beside_sdpa(name: str) -> bool:
    """Whether a kernel is judged by SDPA's error as well."""
    return name != "SDPA" and name not in LOSSY_KERNELS


def _judge(name: str, off: float, usual: float) -> None:
    """`usual`: SDPA's error, infinite for one that is not judged by it. Raises Unfit."""
    least, most = 0.0, min(TOLERANCE * usual, EXACT_ERROR)
    if name in LOSSY_KERNELS:
        least, most = LEAST_LOSSY_ERROR, LOSSY_ERROR
    if not off <= most:
        raise Unfit(f"its error against float32 is {off:.3g}, above {most:.3g}")
    if off < least:
        raise Unfit(
            f"its error against float32 is {off:.3g}, below {least:.3g}: it does not compute in "
            "8 bits"
        )


def require(named: AttentionKernel, device: torch.device, dtype: torch.dtype, width: int) -> None:
    """Check a kernel that must be used.

    Args:
        width: of a head.

    Raises:
        InputError: JOB_INVALID, if it cannot run on this device or is wrong.
    """
    if named not in available(device, dtype):
        module = SAGE_PACKAGE if named == SAGE else FLASH_PACKAGE
        there = "" if importlib.util.find_spec(module) else ", and not the package"
        raise _of_field(f"{named} needs {NEEDS[named]}; this worker has {_name_of(device)}{there}")
    try:
        check(named, device, dtype, width)
    except Unfit as unfit:
        raise _refused(named, device, unfit) from unfit


def _refused(named: str, device: torch.device, unfit: Unfit) -> InputError:
    log.warning("attention kernel %s: %s", named, unfit)
    why = unfit if unfit.__cause__ is None else "it fails, as the worker's log has it"
    return _of_field(f"{named} cannot be used on {_name_of(device)}: {why}")


def _of_field(fault: str) -> InputError:
    return InputError(
        Reason.JOB_INVALID,
        f"acceleration.attention: {fault}. Write Auto or SDPA, or choose other GPUs by the "
        "nodeSelector of podTemplate",
    )


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"


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
