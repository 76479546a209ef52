"""The transformer's blocks as three functions around their two attentions, for torch's compiler.

The same mathematics as diffsynth's block. What a norm, a rotation, a modulation and a residual sum
give is computed in float32 and rounded once, where diffsynth rounds after each of them; compiled,
each becomes part of one kernel. Keys and values of the texts and the photo, which no step changes,
are computed once a video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wan_runtime.models.dit import float8_base, float8_linear
from wan_runtime.models.dit.attention import SelfAttention
from wan_runtime.models.dit.branches import Branches
from wan_runtime.models.dit.compiled import for_any_tokens
from wan_runtime.models.dit.kernels import Kernel, sdpa

# Shapes: B batch, L tokens, D model width, H heads, d width of a head, R rank of all adapters at
# work on a layer, F width of the feed-forward layers.

EPS = 1e-6
"""Added to each variance, as Wan's configurations have it."""
LEAST_RANK = 32
"""Adapters are padded with zeros to this rank or a power of two times it, and to the same in all
layers: the blocks are compiled once for each such rank, not for each adapter."""
KEPT = 1
"""Blocks at either end whose linear layers never compute in 8 bits."""


class Linear(NamedTuple):
    """A linear layer, and the product of factors beside it."""

    weight: Tensor
    bias: Tensor
    a_RI: Tensor | None
    b_OR: Tensor | None
    scale_O1: Tensor | None = None
    """Scale of each row of weights in 8 bits; `dense` gives what they stand for."""

    def dense(self, dtype: torch.dtype) -> Linear:
        """The same layer, with weights of 16 or 32 bits."""
        if self.scale_O1 is None:
            return self
        weight = float8_base.dense(self.weight, self.scale_O1, dtype)
        return self._replace(weight=weight, scale_O1=None)


class Input(NamedTuple):
    """What linear layers take."""

    x: Tensor
    rows: float8_linear.Rows | None
    """The same in 8 bits, if they compute in these."""


class Weights(NamedTuple):
    """What a block computes with."""

    modulation: Tensor
    q: Linear
    k: Linear
    v: Linear
    o: Linear
    norm_q: Tensor
    norm_k: Tensor
    norm3: Tensor
    norm3_bias: Tensor
    cross_q: Linear
    cross_norm_q: Tensor
    cross_o: Linear
    ffn_in: Linear
    ffn_out: Linear


Crossed = Sequence[tuple[Tensor, Tensor]]
"""Keys and values that one block's cross-attention takes, each [B, L, D]: those of the texts, and
in Wan2.1 those of the photo."""
R_co = TypeVar("R_co", covariant=True)


class Part(Protocol[R_co]):
    """Part of a block: from tensors that have the tokens in their second dimension, the modulation
    of the time [B, 6, D] in float32, and the block's weights. `float8`: compute the linear layers
    in 8 bits."""

    def __call__(
        self, tokens: Sequence[Tensor], /, modulation_B6D: Tensor, w: Weights, *, float8: bool = ...
    ) -> R_co: ...


class Blocks:
    """All blocks of a transformer."""

    def __init__(self, module: Any, attention: SelfAttention, *, compiled: bool) -> None:
        """
        Args:
            module: diffsynth's transformer. Its weights are read at each pass, so they may move.
            compiled: hand the functions to torch's compiler, which compiles each at its first use.
        """
        self._module, self._attention = module, attention
        self.compiled = compiled
        self.cross: Kernel = sdpa
        """Kernel of the cross-attentions."""
        self.each: Callable[[], AbstractContextManager[Iterable[Any]]]
        self.each = lambda: nullcontext(module.blocks)
        """Gives the blocks in turn, each on the device until the next one is asked for."""
        self._before: Part[tuple[Tensor, Tensor, Tensor]] = attention_inputs
        self._between: Part[tuple[Tensor, Tensor]] = cross_query
        self._after: Part[Tensor] = feed_forward
        if compiled:
            self._before = for_any_tokens(self._before)
            self._between = for_any_tokens(self._between)
            self._after = for_any_tokens(self._after)

    def crossed(self, context_BLD: Tensor) -> Sequence[Crossed]:
        """What the blocks' cross-attentions take of a video's texts and photo."""
        with self.each() as blocks:
            return [
                crossed_of(block.cross_attn, context_BLD, lambda m, x: m(x)) for block in blocks
            ]

    def run(
        self,
        x_BLD: Tensor,
        crossed: Sequence[Crossed],
        modulation_B6D: Tensor,
        rotation: tuple[Tensor, Tensor],
        branches: Branches | None,
        *,
        float8: bool,
    ) -> Tensor:
        """Hidden states [B, L, D] after all blocks.

        Args:
            modulation_B6D: of the time, float32.
            rotation: of `rotation_of`, of these tokens.
            branches: the adapters at work.
            float8: compute the linear layers in 8 bits, but for those of the outer blocks.
        """
        rank = _padded_rank(self._module, branches)
        heads, count = self._attention.heads, len(self._module.blocks)
        with self.each() as blocks:
            for number, (block, pairs) in enumerate(zip(blocks, crossed, strict=True)):
                weights = _weights(block, branches, rank)
                inner = float8 and KEPT <= number < count - KEPT
                q, k, v = self._before((x_BLD, *rotation), modulation_B6D, weights, float8=inner)
                own = self._attention(q, k, v)
                x_BLD, q = self._between((x_BLD, own), modulation_B6D, weights, float8=inner)
                found = [self.cross(q, key, value, heads) for key, value in pairs]
                x_BLD = self._after((x_BLD, *found), modulation_B6D, weights, float8=inner)
        return x_BLD


def attention_inputs(
    tokens: Sequence[Tensor], modulation_B6D: Tensor, w: Weights, *, float8: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of the self-attention, [B, L, D] each.

    Args:
        tokens: hidden states [B, L, D] and their rotation.
    """
    x_BLD, cos_1Ld, sin_1Ld = tokens
    m = modulation_B6D + w.modulation.float()
    h = _input(_normed(x_BLD) * (1 + m[:, 1:2]) + m[:, 0:1], x_BLD.dtype, float8=float8)
    q = _rotated(_scaled(_linear(h, w.q), w.norm_q), cos_1Ld, sin_1Ld).to(x_BLD.dtype)
    k = _rotated(_scaled(_linear(h, w.k), w.norm_k), cos_1Ld, sin_1Ld).to(x_BLD.dtype)
    return q, k, _linear(h, w.v)


def cross_query(
    tokens: Sequence[Tensor], modulation_B6D: Tensor, w: Weights, *, float8: bool = False
) -> tuple[Tensor, Tensor]:
    """Hidden states after the self-attention, and queries of the cross-attention; [B, L, D].

    Args:
        tokens: hidden states before it, and what it found.
    """
    x_BLD, own_BLD = tokens
    own = _input(own_BLD, x_BLD.dtype, float8=float8)
    gate = modulation_B6D[:, 2:3] + w.modulation.float()[:, 2:3]
    x_BLD = (x_BLD.float() + gate * _linear(own, w.o).float()).to(x_BLD.dtype)
    h = _input(_normed(x_BLD) * w.norm3.float() + w.norm3_bias.float(), x_BLD.dtype, float8=float8)
    return x_BLD, _scaled(_linear(h, w.cross_q), w.cross_norm_q).to(x_BLD.dtype)


def feed_forward(
    tokens: Sequence[Tensor], modulation_B6D: Tensor, w: Weights, *, float8: bool = False
) -> Tensor:
    """Hidden states after the cross-attention and the feed-forward layers, [B, L, D].

    Args:
        tokens: hidden states before them, and what the cross-attentions found.
    """
    x_BLD, h_BLF = _feed_forward_inputs(tokens, modulation_B6D, w, float8=float8)
    gate = modulation_B6D[:, 5:6] + w.modulation.float()[:, 5:6]
    h = _input(h_BLF, x_BLD.dtype, float8=float8)
    return (x_BLD.float() + gate * _linear(h, w.ffn_out).float()).to(x_BLD.dtype)


def feed_forward_inputs(
    tokens: Sequence[Tensor], modulation_B6D: Tensor, w: Weights
) -> tuple[Tensor, Tensor]:
    """Hidden states after the cross-attention [B, L, D], and inputs of the last feed-forward layer
    [B, L, F]; from the same as `feed_forward`."""
    x_BLD, h_BLF = _feed_forward_inputs(tokens, modulation_B6D, w, float8=False)
    return x_BLD, h_BLF.to(x_BLD.dtype)


def _feed_forward_inputs(
    tokens: Sequence[Tensor], modulation_B6D: Tensor, w: Weights, *, float8: bool
) -> tuple[Tensor, Tensor]:
    """As `feed_forward_inputs`, the second in float32."""
    x_BLD, first, *others = tokens
    total = sum((each.float() for each in others), start=first.float())
    found = _input(total, x_BLD.dtype, float8=float8)
    m = modulation_B6D + w.modulation.float()
    x_BLD = (x_BLD.float() + _linear(found, w.cross_o).float()).to(x_BLD.dtype)
    h = _input(_normed(x_BLD) * (1 + m[:, 4:5]) + m[:, 3:4], x_BLD.dtype, float8=float8)
    return x_BLD, F.gelu(_linear(h, w.ffn_in).float(), approximate="tanh")


def rotation_of(freqs_Ld: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines, and sines with the sign that each channel's partner gets, [1, L, d] float32, of
    complex rotations [L, d / 2]: x * cos + swapped(x) * sin rotates (Su et al. 2021, RoFormer, eq.
    34)."""
    cos, sin = freqs_Ld.real, freqs_Ld.imag
    return (
        torch.stack((cos, cos), -1).flatten(1).float()[None].contiguous(),
        torch.stack((-sin, sin), -1).flatten(1).float()[None].contiguous(),
    )


def _normed(x: Tensor) -> Tensor:
    return F.layer_norm(x.float(), (x.shape[-1],), None, None, EPS)


def _scaled(x: Tensor, weight: Tensor) -> Tensor:
    """RMSNorm (Zhang and Sennrich 2019), float32."""
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * weight.float()


def _rotated(x_BLD: Tensor, cos_1Ld: Tensor, sin_1Ld: Tensor) -> Tensor:
    width = cos_1Ld.shape[-1]
    pairs = x_BLD.view(*x_BLD.shape[:2], -1, width // 2, 2)
    cos, sin = (each.view(*each.shape[:2], 1, width // 2, 2) for each in (cos_1Ld, sin_1Ld))
    return (pairs * cos + pairs.flip(-1) * sin).flatten(2)


def _input(x: Tensor, dtype: torch.dtype, *, float8: bool) -> Input:
    return Input(x.to(dtype), float8_linear.rounded(x) if float8 else None)


def _linear(given: Input, layer: Linear) -> Tensor:
    """Weights that are trained in float32 are rounded to the dtype of `x` as they are used."""
    x, rows = given
    if rows is None:
        y = F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))
    else:
        y = float8_linear.linear(rows, layer.weight, layer.bias).view(*x.shape[:-1], -1)
    if layer.a_RI is None or layer.b_OR is None:
        return y
    return y + F.linear(F.linear(x, layer.a_RI), layer.b_OR)


def crossed_of(
    attention: Any, context_BLD: Tensor, run: Callable[[nn.Module, Tensor], Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of a block's cross-attention, as diffsynth's `CrossAttention` has them: the
    photo's 257 tokens stand before the texts'.

    Args:
        run: a module on its input.
    """
    photo, text = context_BLD[:, :0], context_BLD
    if attention.has_image_input:
        photo, text = context_BLD[:, :257], context_BLD[:, 257:]
    pairs = [(run(attention.norm_k, run(attention.k, text)), run(attention.v, text))]
    if attention.has_image_input:
        key = run(attention.norm_k_img, run(attention.k_img, photo))
        pairs.append((key, run(attention.v_img, photo)))
    return pairs


def _layers(block: Any) -> Iterator[nn.Module]:
    own, cross = block.self_attn, block.cross_attn
    yield from (own.q, own.k, own.v, own.o, cross.q, cross.o, block.ffn[0], block.ffn[2])


def _padded_rank(module: Any, branches: Branches | None) -> int:
    """Rank of the factors of all layers of all blocks; 0 without any."""
    if branches is None:
        return 0
    ranks = (
        branches.products[layer][0].shape[1]
        for block in module.blocks
        for layer in _layers(block)
        if layer in branches.products
    )
    return padded_rank(max(ranks, default=0))


def padded_rank(widest: int) -> int:
    """Rank that blocks are compiled for, from the largest of factors; 0 for none."""
    padded = LEAST_RANK if widest else 0
    while padded < widest:
        padded *= 2
    return padded


def _weights(block: Any, branches: Branches | None, rank: int) -> Weights:
    own, cross = block.self_attn, block.cross_attn

    def parameter(module: Any, name: str) -> Tensor:
        value: Tensor = getattr(module, name)
        difference = branches.sums.get(module, {}).get(name) if branches is not None else None
        return value if difference is None else (value.float() + difference).to(value.dtype)

    def linear(layer: Any) -> Linear:
        weight, bias = parameter(layer, "weight"), parameter(layer, "bias")
        if not rank:
            return Linear(weight, bias, None, None)
        outs, ins = weight.shape
        a, b = weight.new_zeros(rank, ins), weight.new_zeros(outs, rank)
        if branches is not None and layer in branches.products:
            own_b, own_a = branches.products[layer]
            a[: len(own_a)], b[:, : len(own_a)] = own_a, own_b
        return Linear(weight, bias, a, b)

    return Weights(
        parameter(block, "modulation"),
        linear(own.q),
        linear(own.k),
        linear(own.v),
        linear(own.o),
        parameter(own.norm_q, "weight"),
        parameter(own.norm_k, "weight"),
        parameter(block.norm3, "weight"),
        parameter(block.norm3, "bias"),
        linear(cross.q),
        parameter(cross.norm_q, "weight"),
        linear(cross.o),
        linear(block.ffn[0]),
        linear(block.ffn[2]),
    )
