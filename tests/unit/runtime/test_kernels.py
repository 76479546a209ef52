"""Attention kernels are compared with float32 at the lengths that they are used at."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from wan_runtime.contract.sampling import AttentionKernel, Profile
from wan_runtime.errors import InputError, NumericalError
from wan_runtime.models.dit import kernels
from wan_runtime.models.dit.kernels import Kernel, sdpa

CPU = torch.device("cpu")
HEADS, WIDTH, TOKENS = 6, 16, 300
SHAPE = (CPU, torch.bfloat16, HEADS, WIDTH, TOKENS)
TILE = 64


def forget() -> None:
    for each in (kernels.pick, kernels.try_out, kernels._error_at):
        each.cache_clear()


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Has kernels there, each faster than the one before."""

    def there(**found: Kernel) -> None:
        named = {name.replace("_", " "): kernel for name, kernel in found.items()}
        seconds = {id(kernel): 1 / 2**at for at, kernel in enumerate(named.values())}
        monkeypatch.setattr(kernels, "KERNELS", named)
        monkeypatch.setattr(kernels, "available", lambda *_: list(named))
        monkeypatch.setattr(kernels, "_timed", lambda kernel, *_: seconds[id(kernel)])
        forget()

    yield there
    forget()


def whole_tiles(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Leaves the keys out that do not fill a tile."""
    count = k.shape[1] // TILE * TILE
    return sdpa(q, k[:, :count], v[:, :count], heads)


def padded(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attends to what fills up the last tile, too, where the keys are another number than the
    queries."""
    missing = -k.shape[1] % TILE
    if q.shape[1] == k.shape[1]:
        return sdpa(q, k, v, heads)
    return sdpa(q, *(torch.nn.functional.pad(each, (0, 0, 0, missing)) for each in (k, v)), heads)


def first_heads(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Has no more heads than the check of few tokens."""
    made = sdpa(q, k, v, heads)
    made[:, :, kernels.CHECKED_HEADS * WIDTH :] = 0
    return made


def one_query(at: int) -> Kernel:
    """Wrong at one token, of a video alone."""

    def kernel(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        made = sdpa(q, k, v, heads)
        if made.shape[1] == TOKENS:
            made[:, at] = 3.0
        return made

    return kernel


def no_video(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    if q.shape[1] == TOKENS:
        raise RuntimeError("too many tokens\nand a long trace")
    return sdpa(q, k, v, heads)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (whole_tiles, "its error against float32 is"),
        (padded, "its error against float32 is"),
        (first_heads, "its error against float32 is"),
        (one_query(0), "its error against float32 is"),
        (one_query(TOKENS - 1), "its error against float32 is"),
        (no_video, "it fails: too many tokens"),
    ],
    ids=["whole tiles", "padding", "few heads", "first token", "last token", "fails"],
)
def test_a_kernel_that_is_wrong_at_a_videos_shape_is_never_used(
    wrong: Kernel,
    words: str,
    tried: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    named: AttentionKernel = kernels.FLASH
    tried(SDPA=sdpa, **{named: wrong})
    with caplog.at_level(logging.WARNING):
        assert kernels.pick(*SHAPE, "Lossless") == "SDPA"
    assert f"attention kernel {named} is left out: {words}" in caplog.text

    def use() -> None:
        kernels.require(named, *SHAPE[:2], WIDTH)
        kernels.pick(*SHAPE, "Lossless", named)

    with pytest.raises(InputError, match=f"attention: {named} cannot be used on no GPU: it"):
        use()


def test_what_computes_in_16_bits_is_not_taken_for_8(
    tried: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    profile: Profile = "Balanced"
    tried(SDPA=sdpa, **{kernels.FLOAT8: lambda *inputs: sdpa(*inputs)})
    with caplog.at_level(logging.WARNING):
        assert kernels.pick(*SHAPE, profile) == "SDPA"
    assert "below 0.005: it does not compute in 8 bits" in caplog.text
    with pytest.raises(InputError, match="FP8 cannot be used on no GPU: its error against float32"):
        kernels.require(kernels.FLOAT8, *SHAPE[:2], WIDTH)
    tried(SDPA=sdpa, **{kernels.FLOAT8: lambda *inputs: 1.03 * sdpa(*inputs)})
    assert kernels.pick(*SHAPE, profile) == kernels.FLOAT8
    kernels.require(kernels.FLOAT8, *SHAPE[:2], WIDTH)


def test_a_gpu_on_which_no_kernel_is_right_makes_no_video(tried: Callable[..., None]) -> None:
    tried(SDPA=one_query(TOKENS - 1), **{kernels.FLASH: no_video})
    with pytest.raises(NumericalError, match="no attention kernel is right on no GPU at 300 token"):
        kernels.pick(*SHAPE, "Lossless")
    tried(SDPA=one_query(TOKENS - 1), **{kernels.FLASH: sdpa})
    assert kernels.pick(*SHAPE, "Lossless") == kernels.FLASH, "SDPA is judged as the others are"


def test_a_kernel_of_8_bits_is_judged_without_sdpa(tried: Callable[..., None]) -> None:
    def never(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        raise AssertionError("run for an error that nobody reads")

    tried(SDPA=never, **{kernels.FLOAT8: lambda *inputs: 1.03 * sdpa(*inputs)})
    kernels.check(kernels.FLOAT8, *SHAPE[:2], WIDTH)
    assert kernels.check_at(kernels.FLOAT8, *SHAPE) == pytest.approx(0.03, rel=0.1)
