"""Attention with its gradient, whose result can be kept instead of computed again.

Autograd would save the queries, keys and values with the result, or run the attention a second time
where blocks are recomputed. These pairs of functions leave it to the caller what to keep: the
backward one needs the result and the log-sum-exp of the forward one, and the inputs again.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from wan_runtime.models.dit import repeatable
from wan_runtime.models.dit.kernels import (
    KernelWithSums,
    by_head,
    flash_attention_3_with_sums,
    sdpa_with_sums,
)
from wan_runtime.models.dit.tokens import TokenSplit
from wan_runtime.planner.workspace import workspace_bytes

# Shapes: B batch, L tokens, H heads, d width of a head, D all heads together; where ranks split the
# tokens, l are those of this rank, and h and c its share of H and D.

aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention of q, k, v [B, L, D]."""

    name: str
    forward: KernelWithSums
    backward: Callable[..., tuple[Tensor, Tensor, Tensor]]
    """(gradient of the result, q, k, v, result, log-sum-exp, heads) -> gradients of q, k, v."""
    workspace: Callable[[int, int, int, int], int] = lambda *_: 0
    """Bytes of device memory that the gradient works in, of many tokens: (batch, heads, queries,
    keys)."""

    def __call__(self, q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor, heads: int) -> Tensor:
        """The result, for autograd, which keeps all that `backward` needs."""
        return _Attended.apply(q_BLD, k_BLD, v_BLD, heads, self)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class SplitAttention:
    """Attention among all tokens of a pass, which ranks may split: each attends with its share of
    the heads, and keeps what these found."""

    on: Attention
    heads: int
    tokens: TokenSplit | None
    """None: this rank has all tokens and all heads."""

    def forward(self, q_BlD: Tensor, k_BlD: Tensor, v_BlD: Tensor) -> tuple[Tensor, Tensor]:
        """(result [B, L, c], log-sum-exp [B, h, L] in float32) of this rank's heads. Collective."""
        q, k, v = (self._split(each) for each in (q_BlD, k_BlD, v_BlD))
        return self.on.forward(q, k, v, self._share)

    def joined(self, found_BLc: Tensor) -> Tensor:
        """The result of this rank's tokens, [B, l, D]. Collective."""
        return found_BLc if self.tokens is None else self.tokens.join_heads(found_BLc)

    def backward(
        self, gradient_BlD: Tensor, q_BlD: Tensor, k_BlD: Tensor, v_BlD: Tensor, found_BLc: Tensor,
        sums_BhL: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Gradients of q, k, v, from that of the joined result. Collective."""
        split = (self._split(each) for each in (gradient_BlD, q_BlD, k_BlD, v_BlD))
        dq, dk, dv = self.on.backward(*split, found_BLc, sums_BhL, self._share)
        return self.joined(dq), self.joined(dk), self.joined(dv)

    def _split(self, x_BlD: Tensor) -> Tensor:
        return x_BlD if self.tokens is None else self.tokens.split_heads(x_BlD)

    def workspace(self, x_BlD: Tensor) -> int:
        """Bytes that `backward` works in, for queries of that shape."""
        batch, tokens, _ = x_BlD.shape
        tokens *= 1 if self.tokens is None else self.tokens.group.size
        return self.on.workspace(batch, self._share, tokens, tokens)

    @property
    def _share(self) -> int:
        return self.heads if self.tokens is None else self.heads // self.tokens.group.size


class _Attended(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, on: Attention) -> Tensor:
        found, sums = on.forward(q, k, v, heads)
        ctx.save_for_backward(q, k, v, found, sums)
        ctx.heads, ctx.on = heads, on
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return *ctx.on.backward(gradient, *ctx.saved_tensors, ctx.heads), None, None


def choose(device: torch.device, *, own: bool = False) -> Attention:
    """The fastest pair there, for bfloat16 on a GPU: FlashAttention-3 forward and cuDNN backward on
    Hopper where it is installed, else cuDNN. Where PyTorch is to use deterministic algorithms
    alone, the fastest of those whose gradients repeat to the bit.

    Args:
        own: PyTorch's own kernels alone.
    """
    if device.type == "cpu":
        return CPU
    hopper = torch.cuda.get_device_capability(device)[0] == 9
    there = importlib.util.find_spec("fa3_fwd_interface") is not None
    fastest = FLASH_3 if hopper and there and not own else CUDNN
    if not torch.are_deterministic_algorithms_enabled():
        return fastest
    by_cudnn = not own and repeatable.cudnn_works(device)
    if not by_cudnn:
        return replace(fastest, backward=repeatable.flash_backward)
    return replace(fastest, backward=repeatable.cudnn_backward, workspace=workspace_bytes)


def _heads_first(x_BLD: Tensor, heads: int) -> Tensor:
    """[B, H, L, d]."""
    return by_head(x_BLD, heads).transpose(1, 2)


def _tokens_first(x_BHLd: Tensor) -> Tensor:
    return x_BHLd.transpose(1, 2).flatten(2)


def _cpu_backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, found: Tensor, sums: Tensor, heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    gradient, q, k, v, found = (_heads_first(each, heads) for each in (gradient, q, k, v, found))
    made = aten._scaled_dot_product_flash_attention_for_cpu_backward(
        gradient, q, k, v, found, sums, 0.0, False
    )
    dq, dk, dv = (_tokens_first(each) for each in made)
    return dq, dk, dv


def _cudnn_forward(q: Tensor, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    q, k, v = (_heads_first(each, heads) for each in (q, k, v))
    found, sums, *_ = aten._scaled_dot_product_cudnn_attention(q, k, v, None, True)
    return _tokens_first(found), sums.view(sums.shape[:3])


def _cudnn_backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, found: Tensor, sums: Tensor, heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    longest = q.shape[1], k.shape[1]
    gradient, q, k, v, found = (_heads_first(each, heads) for each in (gradient, q, k, v, found))
    drawn = torch.zeros((), dtype=torch.int64, device=q.device)  # nothing is dropped
    made = aten._scaled_dot_product_cudnn_attention_backward(
        gradient, q, k, v, found, sums[..., None], drawn, drawn, None, None, None, *longest, 0.0,
        False,
    )  # fmt: skip
    dq, dk, dv = (_tokens_first(each) for each in made)
    return dq, dk, dv


CPU = Attention("SDPA", sdpa_with_sums, _cpu_backward)
CUDNN = Attention("cuDNN", _cudnn_forward, _cudnn_backward)
FLASH_3 = Attention("FlashAttention-3", flash_attention_3_with_sums, _cudnn_backward)
"""cuDNN's gradient takes FlashAttention-3's result and log-sum-exp as they are."""
