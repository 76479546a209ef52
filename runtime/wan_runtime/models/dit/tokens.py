"""Tokens of a video, or of a batch of one size, split over ranks (Ulysses: Jacobs et al. 2023,
DeepSpeed-Ulysses, section 3).

Each rank computes its own tokens. Only attention among all tokens needs the others': an all-to-all
gives each rank all tokens of its share of the heads, another gives it back its own tokens of all
heads. Each is the other's gradient.

All ranks compute the same loss of what was gathered. So the gradient of gathering is this rank's
part, and a parameter's gradient on one rank is that by its own tokens: their sum over the ranks is
the parameter's gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from wan_runtime.models.dit.kernels import Kernel
from wan_runtime.models.dit.parallel import Group

# Shapes: B batch, L tokens of the whole video, l of this rank, D width, N ranks of a group, d = D /
# N.


@dataclass(slots=True)
class TokenSplit:
    """Tokens split over a group: contiguous, without padding, the first ranks have one more where
    they do not divide. One for each pass that is differentiated."""

    group: Group
    lengths: list[int] = field(default_factory=list)
    """Number of tokens of each rank, in the pass at work."""

    def local(self, tokens: Tensor, dim: int) -> Tensor:
        """This rank's share of all tokens."""
        parts = tokens.tensor_split(self.group.size, dim)
        self.lengths = [part.shape[dim] for part in parts]
        return parts[self.group.index].contiguous()

    def gather(self, local: Tensor, dim: int) -> Tensor:
        """The tokens of all ranks, in order, from each rank's own. Collective; its gradient is
        not."""
        return _Gathered.apply(local, self, dim)  # type: ignore[no-any-return]

    def attend(self, tokens: Sequence[Tensor], heads: int, kernel: Kernel) -> Tensor:
        """Attention of this rank's tokens, [B, l, D]. Libraries take a batch of 1, and give no
        gradient. Collective.

        Args:
            tokens: queries, keys and values of this rank's tokens, [B, l, D].
        """
        if self.group.exchange is not None:
            return self.group.exchange.attend(tokens, heads, self.lengths, kernel)
        q, k, v = map(self.split_heads, tokens)
        return self.join_heads(kernel(q, k, v, heads // self.group.size))

    def split_heads(self, x_BlD: Tensor) -> Tensor:
        """All tokens of this rank's share of the heads, [B, L, d]. Collective, as is its
        gradient."""
        return _Exchanged.apply(x_BlD, self, True)  # type: ignore[no-any-return]

    def join_heads(self, x_BLd: Tensor) -> Tensor:
        """This rank's tokens of all heads, [B, l, D]. Collective, as is its gradient."""
        return _Exchanged.apply(x_BLd, self, False)  # type: ignore[no-any-return]


def split_over(group: Group) -> TokenSplit | None:
    """Split a video's tokens over a group; None if it is one rank, which has them all."""
    return TokenSplit(group) if group.size > 1 else None


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor, split: TokenSplit, dim: int) -> Tensor:
        ctx.lengths, ctx.index, ctx.dim = split.lengths, split.group.index, dim
        first = local.transpose(0, dim)
        padded = first.new_zeros(max(split.lengths), *first.shape[1:])
        padded[: len(first)] = first
        parts = [torch.empty_like(padded) for _ in split.lengths]
        dist.all_gather(parts, padded, group=split.group.handle)
        kept = [part[:length] for part, length in zip(parts, split.lengths, strict=True)]
        return torch.cat(kept).transpose(0, dim)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return torch.split(gradient, ctx.lengths, ctx.dim)[ctx.index], None, None


class _Exchanged(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, split: TokenSplit, to_heads: bool) -> Tensor:
        ctx.group, ctx.lengths, ctx.to_heads = split.group, split.lengths, to_heads
        return _exchange(x, split.group, split.lengths, to_heads=to_heads)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _exchange(gradient, ctx.group, ctx.lengths, to_heads=not ctx.to_heads), None, None


def _exchange(x: Tensor, group: Group, lengths: list[int], *, to_heads: bool) -> Tensor:
    """[B, L, d] from [B, l, D], or the other way."""
    size, own = group.size, lengths[group.index]
    if to_heads:
        sent_NlBd = x.reshape(*x.shape[:2], size, -1).permute(2, 1, 0, 3)
        got_LBd = x.new_empty(sum(lengths), *sent_NlBd.shape[2:])
        sent = sent_NlBd.flatten(0, 1).contiguous()
        dist.all_to_all_single(got_LBd, sent, lengths, [own] * size, group=group.handle)
        return got_LBd.transpose(0, 1).contiguous()  # no copy of a batch of one
    sent_LBd = x.transpose(0, 1).contiguous()
    got = x.new_empty(own * size, *sent_LBd.shape[1:])
    dist.all_to_all_single(got, sent_LBd, [own] * size, lengths, group=group.handle)
    return got.view(size, own, *got.shape[1:]).permute(2, 1, 0, 3).flatten(2)
