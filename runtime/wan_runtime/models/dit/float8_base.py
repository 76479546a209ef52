"""Frozen linear layers kept in 8-bit floating point, beside what is trained of them.

Their weights are rounded once, to E4M3 with a scale for each feature that comes out, and made dense
again where a layer is at work, in the forward pass and in the backward one: what is computed, and
every gradient, is that of the rounded weights. The scales are powers of two, so that the dense
numbers in bfloat16 are the rounded ones without a second error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError
from wan_runtime.models.dit.float8 import E4M3, LARGEST

log = logging.getLogger(__name__)

# Shapes: I in and O out features of a layer, N rows.

KEPT = 1
"""Blocks at either end whose layers stay as they are."""
MOST_ERROR = 0.04
"""Relative error of a transformer's rounded weights, at most. Three bits of mantissa give 0.026
for numbers of any smooth distribution; more means that rows are wider than E4M3's range."""
SLACK_BYTES = 1 << 28
"""Memory that allocations add to the bytes of the weights, at most."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a transformer's weights."""

    layers: int
    """Number of layers that were rounded."""
    before: int
    """Bytes of their weights."""
    after: int
    """Bytes of the rounded ones and their scales."""
    error: float
    """Relative error of the rounded weights, root of the sums of squares."""


class Float8Linear(nn.Linear):
    """A frozen linear layer, whose `weight` [O, I] is E4M3 and no parameter."""

    scale_O1: Tensor

    def __init__(self, weight_OI: Tensor, scale_O1: Tensor, bias_O: nn.Parameter | None) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight_OI.shape
        self.bias = bias_O  # type: ignore[assignment]
        self.register_buffer("weight", weight_OI)
        self.register_buffer("scale_O1", scale_O1)

    def forward(self, x: Tensor) -> Tensor:
        """The product with the rounded weights, in autocast's dtype or that of `x`."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        y = _Product.apply(x.to(dtype), self.weight, self.scale_O1)
        return cast(Tensor, y if bias is None else y + bias)


class _Product(torch.autograd.Function):
    """Keeps the rounded weights for the backward pass, not the dense ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_OI: Tensor, scale_O1: Tensor) -> Tensor:
        ctx.save_for_backward(weight_OI, scale_O1)
        return F.linear(x, dense(weight_OI, scale_O1, x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        weight_OI, scale_O1 = ctx.saved_tensors
        return gradient @ dense(weight_OI, scale_O1, gradient.dtype), None, None


def dense(weight_OI: Tensor, scale_O1: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers that rounded weights stand for."""
    return weight_OI.to(dtype).mul_(scale_O1.to(dtype))


def rounded(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """Weights in E4M3, and the scale [O, 1] in float32 that gives each row back: the least power of
    two with which its largest number fits."""
    rows = weight_OI.float()
    most_O1 = rows.abs().amax(-1, keepdim=True) / LARGEST
    mantissa, exponent = torch.frexp(most_O1)
    exponent = exponent - (mantissa == 0.5).int()
    scale_O1 = torch.where(most_O1 > 0, torch.ldexp(torch.ones_like(most_O1), exponent), 1.0)
    return (rows / scale_O1).to(E4M3), scale_O1


def store(module: Any, device: torch.device) -> Stored:
    """Round the linear layers of the inner blocks, and move the transformer to a device.

    A layer at a time: of the weights as they were, the device holds no more than one layer's.

    Args:
        module: diffsynth's transformer, frozen, which may be in host memory.

    Raises:
        InputError: MODEL_INVALID, for weights that 8 bits cannot hold.
        RuntimeError: if the device holds more afterwards than the rounded weights take.
    """
    held = _allocated(device) - _bytes_on(module, device)
    layers = before = after = 0
    off = total = torch.zeros((), device=device, dtype=torch.float64)
    for parent, name, layer in list(_inner_layers(module)):
        weight = layer.weight.detach().to(device)
        made, scale = rounded(weight)
        off = off + (dense(made, scale, torch.float32) - weight.float()).square().sum()
        total = total + weight.float().square().sum()
        setattr(parent, name, Float8Linear(made, scale, layer.bias))
        layers += 1
        before += weight.nbytes
        after += made.nbytes + scale.nbytes
        del weight, layer
    module.to(device)
    error = float((off / total).sqrt())
    if not error <= MOST_ERROR:
        raise InputError(
            Reason.MODEL_INVALID,
            f"training.basePrecision: rounded to FP8, the base weights are off by {error:.3f} "
            f"(relative), and at most {MOST_ERROR} is expected: use BF16",
        )
    taken, wanted = _allocated(device) - held, _bytes_on(module, device)
    if taken > wanted + SLACK_BYTES:
        raise RuntimeError(f"base weights of {wanted} bytes in FP8 take {taken} bytes of memory")
    log.info(
        "base weights in FP8: %d layers take %.2f GiB in place of %.2f, relative error %.4f",
        layers,
        after / 2**30,
        before / 2**30,
        error,
    )
    return Stored(layers, before, after, error)


def _inner_layers(module: Any) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """Linear layers of the inner blocks: their parents, their names there, and themselves."""
    for block in module.blocks[KEPT : len(module.blocks) - KEPT]:
        for parent in block.modules():
            for name, layer in parent.named_children():
                if type(layer) is nn.Linear:
                    yield parent, name, layer


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def _bytes_on(module: nn.Module, device: torch.device) -> int:
    """Bytes of the tensors that are on a GPU."""
    if device.type != "cuda":
        return 0
    tensors = chain(module.parameters(), module.buffers())
    return sum(each.nbytes for each in tensors if each.device.type == "cuda")
