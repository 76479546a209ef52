"""Layers of the VAE with channels last in memory, for our own forwards of its two halves.

The same mathematics as diffsynth's. Between two convolutions, bias, norm, activation and the frames
that the next one remembers are computed in float32 and rounded once; convolutions read and write
what lies beside one another, channel by channel, and copy nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffsynth.models.wan_video_vae import AttentionBlock, ResidualBlock
from torch import Tensor, nn
from torch.nn import functional as F

from wan_runtime.models.dit.compiled import for_any_tokens
from wan_runtime.models.vae_bands import Rows
from wan_runtime.models.vae_rows import SharedRows

# Shapes: a batch of 1, T frames at work, H W rows and columns, C channels, N = T H W pixels, M =
# 2 H W pixels of the frames before.

REMEMBERED = 2
"""Frames before its own that a convolution over three sees. Zeros before the first."""
STACKED = 128
"""Convolutions of fewer channels get their three frames as one of three times as many channels."""
SMALLEST = 1e-12
"""Least length that a norm divides by, as `torch.nn.functional.normalize` has it."""

Shape = tuple[int, int, int]
"""T, H and W."""
Activation = Callable[[Sequence[Tensor], Tensor, Tensor | None], tuple[Tensor, Tensor]]
Sum = Callable[[Sequence[Tensor], Tensor], Tensor]


class Memory(dict[Any, Tensor]):
    """Pixels [1, M, C] of one video that each convolution remembers, and who has its other rows."""

    def __init__(self, rows: SharedRows | None = None) -> None:
        """`rows`: None: all are here."""
        super().__init__()
        self.rows = rows


class Layers:
    """Layers of one half of a VAE."""

    def __init__(self, half: nn.Module, *, compiled: bool) -> None:
        """
        Args:
            half: diffsynth's encoder or decoder. Its weights are laid out anew, with the same
                values.
            compiled: hand what is between convolutions to torch's compiler, which compiles each
                width once.
        """
        self._activated: Activation = activated
        self._stacked: Activation = stacked
        self.added: Sum = added
        if compiled:
            self._activated = for_any_tokens(activated)
            self._stacked = for_any_tokens(stacked)
            self.added = for_any_tokens(added)
        self._flat: dict[Any, Tensor] = {}
        """Weights of the convolutions that get stacked frames, by convolution."""
        for layer in half.modules():
            if isinstance(layer, nn.Conv3d):
                layer.weight.data = layer.weight.data.contiguous(
                    memory_format=torch.channels_last_3d
                )
                if layer.kernel_size == (3, 3, 3) and layer.in_channels < STACKED:
                    frames = torch.cat(layer.weight.unbind(2), 1)
                    self._flat[layer] = frames.contiguous(memory_format=torch.channels_last)
            elif isinstance(layer, nn.Conv2d):
                layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)

    def run(self, layer: Any, x_1NC: Tensor, shape: Shape, memory: Memory) -> Tensor:
        """A residual block, or attention."""
        if isinstance(layer, AttentionBlock):
            return attention(x_1NC, layer, shape, memory.rows)
        assert isinstance(layer, ResidualBlock)
        return self._residual(x_1NC, layer, shape, memory)

    def _residual(self, x_1NC: Tensor, block: Any, shape: Shape, memory: Memory) -> Tensor:
        norm_in, _, conv_in, norm_out, _, _, conv_out = block.residual
        h_1NC = self.convolved(x_1NC, None, norm_in, conv_in, shape, memory)
        h_1NC = self.convolved(h_1NC, conv_in.bias, norm_out, conv_out, shape, memory)
        if block.in_dim != block.out_dim:
            x_1NC = F.linear(x_1NC, block.shortcut.weight.flatten(1), block.shortcut.bias)
        return self.added((h_1NC, x_1NC), conv_out.bias)

    def convolved(
        self, x_1NC: Tensor, bias_C: Tensor | None, norm: Any, conv: Any, shape: Shape,
        memory: Memory,
    ) -> Tensor:  # fmt: skip
        """A convolution, without its bias, of normed, activated pixels and of those that it
        remembers. `bias_C`: of what the pixels come from."""
        weight = norm.scale * norm.gamma.flatten().float()
        tokens = (x_1NC, _remembered(memory, conv, x_1NC, shape))
        if conv not in self._flat:
            seen, memory[conv] = self._activated(tokens, weight, bias_C)
            return _conv3d(seen, conv, shape, memory.rows)
        seen, memory[conv] = self._stacked(tokens, weight, bias_C)
        y = conv2d(seen.view(*shape, -1), self._flat[conv], memory.rows)
        return y.flatten(0, 2)[None]

    def remembering(self, x_1NC: Tensor, conv: Any, shape: Shape, memory: Memory) -> Tensor:
        """A convolution of pixels and of those that it remembers."""
        kept = _remembered(memory, conv, x_1NC, shape)
        seen = torch.cat([kept, x_1NC], 1)
        memory[conv] = seen[:, -kept.shape[1] :].clone()
        return self.added((_conv3d(seen, conv, shape, memory.rows),), conv.bias)


def activated(
    tokens: Sequence[Tensor], weight_C: Tensor, bias_C: Tensor | None
) -> tuple[Tensor, Tensor]:
    """SiLU of RMSNorm (Zhang and Sennrich 2019), [1, M + N, C], behind the pixels that were
    remembered; and the pixels to remember, [1, M, C].

    Args:
        tokens: pixels [1, N, C], and those remembered, [1, M, C].
        weight_C: of the norm, float32.
        bias_C: added to the pixels first.
    """
    x_1NC, kept_1MC = tokens
    x = x_1NC.float() if bias_C is None else x_1NC.float() + bias_C.float()
    length = x.square().sum(-1, keepdim=True).sqrt().clamp(min=SMALLEST)
    made = F.silu(x / length * weight_C).to(x_1NC.dtype)
    seen = torch.cat([kept_1MC, made], 1)
    return seen, seen[:, -kept_1MC.shape[1] :].clone()


def stacked(
    tokens: Sequence[Tensor], weight_C: Tensor, bias_C: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `activated`, with each pixel behind those at its place in the two frames before, [1, N, 3
    C]."""
    count = tokens[0].shape[1]
    seen, kept_1MC = activated(tokens, weight_C, bias_C)
    frame = kept_1MC.shape[1] // REMEMBERED
    before, last, own = (seen[:, number * frame :][:, :count] for number in range(3))
    return torch.cat([before, last, own], -1), kept_1MC


def added(tokens: Sequence[Tensor], bias_C: Tensor) -> Tensor:
    """Sum of pixels [1, N, C] and a bias."""
    first, *others = tokens
    x = sum((each.float() for each in others), start=first.float() + bias_C.float())
    return x.to(first.dtype)


def _remembered(memory: Memory, conv: Any, x_1NC: Tensor, shape: Shape) -> Tensor:
    if conv in memory:
        return memory[conv]
    return x_1NC.new_zeros(1, REMEMBERED * shape[1] * shape[2], x_1NC.shape[2])


def conv2d(x_THWC: Tensor, weight: Tensor, rows: SharedRows | None) -> Tensor:
    """A convolution of 3 x 3, [T, H, W, O], without a bias."""
    x, padding = _seen(x_THWC, rows)
    y = F.conv2d(x.permute(0, 3, 1, 2), weight, padding=(padding, 1))
    return y.permute(0, 2, 3, 1)


def _conv3d(seen_1NC: Tensor, conv: Any, shape: Shape, rows: SharedRows | None) -> Tensor:
    """[1, N, C], without the bias, of remembered pixels and this shape's."""
    frames, height, width = shape
    x = seen_1NC.view(frames + REMEMBERED, height, width, -1)
    side = padding = conv.kernel_size[1] // 2
    if side:
        x, padding = _seen(x, rows)
    x = x[None].permute(0, 4, 1, 2, 3)
    y: Tensor = F.conv3d(x, conv.weight, padding=(0, padding, side))
    return y.permute(0, 2, 3, 4, 1).flatten(1, 3)


def _seen(x_THWC: Tensor, rows: SharedRows | None) -> tuple[Tensor, int]:
    """What a convolution three rows high sees, and the number of rows of zeros to put around it."""
    if rows is None:
        return x_THWC, 1
    return rows.with_neighbours(x_THWC, above=True), 0


def cut(x_1NC: Tensor, shape: Shape, rows: Rows | None) -> tuple[Tensor, Shape]:
    """Pixels of some rows of each frame, [1, N, C], and their shape.

    Args:
        rows: None: all.
    """
    if rows is None or rows[1] == shape[1]:
        return x_1NC, shape
    first, count = rows
    frames, height, width = shape
    kept = x_1NC.view(frames, height, width, -1)[:, first : first + count]
    return kept.flatten(0, 2)[None], (frames, count, width)


def attention(x_1NC: Tensor, layer: Any, shape: Shape, rows: SharedRows | None) -> Tensor:
    """Attention of pixels to all of their frame, for each frame.

    Args:
        rows: who has the other pixels of the frame; None: all are here.
    """
    frames = shape[0]
    x = x_1NC.view(frames, 1, shape[1] * shape[2], -1)
    length = x.float().square().sum(-1, keepdim=True).sqrt().clamp(min=SMALLEST)
    gamma = layer.norm.gamma.flatten().float()
    h = (x.float() / length * (layer.norm.scale * gamma)).to(x.dtype)
    qkv = F.linear(h, layer.to_qkv.weight.flatten(1), layer.to_qkv.bias)
    q, k, v = (each.contiguous() for each in qkv.chunk(3, -1))
    if rows is not None:
        both = torch.cat([k, v]).view(2 * frames, *shape[1:], -1)
        k, v = rows.all(both).flatten(1, 2)[:, None].chunk(2)
    found = F.scaled_dot_product_attention(q, k, v)
    return (x + F.linear(found, layer.proj.weight.flatten(1), layer.proj.bias)).view_as(x_1NC)
