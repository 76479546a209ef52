"""The VAE's decoder, one latent frame at a time, with channels last in memory.

The same mathematics as diffsynth's. Between two convolutions, bias, norm, activation and the frames
that the next one remembers are computed in float32 and rounded once; convolutions read and write
what lies beside one another, channel by channel, and copy nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffsynth.models.wan_video_vae import AttentionBlock, Resample, ResidualBlock
from torch import Tensor, nn
from torch.nn import functional as F

from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import NumericalError
from wan_runtime.models.dit.compiled import for_any_tokens

# Shapes: a batch of 1, T frames at work, H W rows and columns, C channels, N = T H W pixels, M =
# 2 H W pixels of the frames before.

NOT_FINITE = "sampling gave NaN or infinite pixels"
REMEMBERED = 2
"""Frames before its own that a convolution over three sees. Zeros before the first."""
AT_ONCE = 2
"""Frames of full size that are decoded at once: four are no faster, and take more memory."""
STACKED = 128
"""Convolutions of fewer channels get their three frames as one of three times as many channels."""
SMALLEST = 1e-12
"""Least length that a norm divides by, as `torch.nn.functional.normalize` has it."""

Shape = tuple[int, int, int]
"""T, H and W."""
Activation = Callable[[Sequence[Tensor], Tensor, Tensor | None], tuple[Tensor, Tensor]]
Sum = Callable[[Sequence[Tensor], Tensor], Tensor]
Memory = dict[Any, Tensor]
"""Pixels [1, M, C] that each convolution remembers."""


class Decoder:
    """Decoder of one VAE."""

    def __init__(self, vae: Any, *, compiled: bool) -> None:
        """
        Args:
            vae: diffsynth's. The decoder's weights are laid out anew, with the same values.
            compiled: hand what is between convolutions to torch's compiler, which compiles each
                width once.
        """
        self._model, self._scale = vae.model, vae.scale
        self._activated: Activation = activated
        self._stacked: Activation = stacked
        self._added: Sum = added
        if compiled:
            self._activated = for_any_tokens(activated)
            self._stacked = for_any_tokens(stacked)
            self._added = for_any_tokens(added)
        self._upper, self._lower = _halves(vae.model.decoder)
        self._flat: dict[Any, Tensor] = {}
        """Weights of the convolutions that get stacked frames, by convolution."""
        for layer in vae.model.decoder.modules():
            if isinstance(layer, nn.Conv3d):
                layer.weight.data = layer.weight.data.contiguous(
                    memory_format=torch.channels_last_3d
                )
                if layer.kernel_size == (3, 3, 3) and layer.in_channels < STACKED:
                    frames = torch.cat(layer.weight.unbind(2), 1)
                    self._flat[layer] = frames.contiguous(memory_format=torch.channels_last)
            elif isinstance(layer, nn.Conv2d):
                layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def decode(self, latents_1CTHW: Tensor, take: Callable[[Tensor], None]) -> None:
        """Decode a video's latents, in the weights' dtype and on their device.

        Args:
            take: gets the pixels [T, H, W, 3] of a few frames at a time, in order.
        """
        mean, inverse = (each.to(latents_1CTHW).view(1, -1, 1, 1, 1) for each in self._scale)
        x = self._model.conv2(latents_1CTHW / inverse + mean).permute(0, 2, 3, 4, 1)
        decoder, memory = self._model.decoder, Memory()
        for number in range(x.shape[1]):
            shape: Shape = (1, *x.shape[2:4])
            rows = x[:, number].flatten(1, 2).contiguous()
            rows = self._remembering(rows, decoder.conv1, shape, memory)
            for layer in self._upper:
                rows, shape = self._run(layer, rows, shape, memory, first=number == 0)
            frames = rows.view(*shape, -1)
            for start in range(0, len(frames), AT_ONCE):
                part = frames[start : start + AT_ONCE]
                take(self._full_size(part.flatten(0, 2)[None], (len(part), *shape[1:]), memory))

    def frames(self, latents_1CTHW: Tensor) -> Tensor:
        """A video [F, H, W, 3], uint8 on the CPU. Raises NumericalError if a pixel is not finite.

        Only levels leave the GPU: a quarter of the bytes, which are there once.
        """
        levels, finite = [], []

        def take(pixels_THWC: Tensor) -> None:
            finite.append(pixels_THWC.isfinite().all())
            x = (pixels_THWC.float().clamp(-1, 1) + 1) * 127.5
            levels.append(x.round().to(torch.uint8))

        self.decode(latents_1CTHW, take)
        if not torch.stack(finite).all():
            raise NumericalError(Reason.NON_FINITE_LOSS, NOT_FINITE)
        return torch.cat(levels).cpu()

    def _full_size(self, x_1NC: Tensor, shape: Shape, memory: Memory) -> Tensor:
        for layer in self._lower:
            x_1NC, shape = self._run(layer, x_1NC, shape, memory, first=False)
        norm, _, conv = self._model.decoder.head
        pixels = self._convolved(x_1NC, None, norm, conv, shape, memory)
        made: Tensor = (pixels + conv.bias).view(*shape, -1)
        return made

    def _run(
        self, layer: Any, x_1NC: Tensor, shape: Shape, memory: Memory, *, first: bool
    ) -> tuple[Tensor, Shape]:
        if isinstance(layer, ResidualBlock):
            return self._residual(x_1NC, layer, shape, memory), shape
        if isinstance(layer, AttentionBlock):
            return _attention(x_1NC, layer, shape), shape
        return self._upsampled(x_1NC, layer, shape, memory, first=first)

    def _residual(self, x_1NC: Tensor, block: Any, shape: Shape, memory: Memory) -> Tensor:
        norm_in, _, conv_in, norm_out, _, _, conv_out = block.residual
        h_1NC = self._convolved(x_1NC, None, norm_in, conv_in, shape, memory)
        h_1NC = self._convolved(h_1NC, conv_in.bias, norm_out, conv_out, shape, memory)
        if block.in_dim != block.out_dim:
            x_1NC = F.linear(x_1NC, block.shortcut.weight.flatten(1), block.shortcut.bias)
        return self._added((h_1NC, x_1NC), conv_out.bias)

    def _convolved(
        self, x_1NC: Tensor, bias_C: Tensor | None, norm: Any, conv: Any, shape: Shape,
        memory: Memory,
    ) -> Tensor:  # fmt: skip
        """A convolution, without its bias, of normed, activated pixels and of those that it
        remembers. `bias_C`: of what the pixels come from."""
        weight = norm.scale * norm.gamma.flatten().float()
        tokens = (x_1NC, _remembered(memory, conv, x_1NC, shape))
        if conv not in self._flat:
            seen, memory[conv] = self._activated(tokens, weight, bias_C)
            return _conv3d(seen, conv, shape)
        seen, memory[conv] = self._stacked(tokens, weight, bias_C)
        x = seen.view(*shape, -1).permute(0, 3, 1, 2)
        y: Tensor = F.conv2d(x, self._flat[conv], padding=1)
        return y.permute(0, 2, 3, 1).flatten(0, 2)[None]

    def _remembering(self, x_1NC: Tensor, conv: Any, shape: Shape, memory: Memory) -> Tensor:
        """A convolution of pixels and of those that it remembers."""
        kept = _remembered(memory, conv, x_1NC, shape)
        seen = torch.cat([kept, x_1NC], 1)
        memory[conv] = seen[:, -kept.shape[1] :].clone()
        return self._added((_conv3d(seen, conv, shape),), conv.bias)

    def _upsampled(
        self, x_1NC: Tensor, layer: Any, shape: Shape, memory: Memory, *, first: bool
    ) -> tuple[Tensor, Shape]:
        """Pixels twice as high and wide and, but for the first latent frame, in some stages twice
        as long."""
        frames, height, width = shape
        if layer.mode == "upsample3d" and not first:
            pairs = self._remembering(x_1NC, layer.time_conv, shape, memory)
            pairs = pairs.view(frames, height * width, 2, -1).transpose(1, 2)
            frames *= 2
            x_1NC = pairs.reshape(1, frames * height * width, -1)
        x = x_1NC.view(frames, height, width, -1).permute(0, 3, 1, 2)
        conv = layer.resample[1]
        y = F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest-exact"), conv.weight,
                     padding=1)  # fmt: skip
        rows = y.permute(0, 2, 3, 1).flatten(0, 2)[None]
        return self._added((rows,), conv.bias), (frames, 2 * height, 2 * width)


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


def _halves(decoder: Any) -> tuple[list[Any], list[Any]]:
    """Layers up to the last upsampling, and those from it on."""
    layers = [*decoder.middle, *decoder.upsamples]
    last = max(number for number, each in enumerate(layers) if isinstance(each, Resample))
    return layers[:last], layers[last:]


def _remembered(memory: Memory, conv: Any, x_1NC: Tensor, shape: Shape) -> Tensor:
    if conv in memory:
        return memory[conv]
    return x_1NC.new_zeros(1, REMEMBERED * shape[1] * shape[2], x_1NC.shape[2])


def _conv3d(seen_1NC: Tensor, conv: Any, shape: Shape) -> Tensor:
    """[1, N, C], without the bias, of remembered pixels and this shape's."""
    frames, height, width = shape
    x = seen_1NC.view(1, frames + REMEMBERED, height, width, -1).permute(0, 4, 1, 2, 3)
    side = conv.kernel_size[1] // 2
    y: Tensor = F.conv3d(x, conv.weight, padding=(0, side, side))
    return y.permute(0, 2, 3, 4, 1).flatten(1, 3)


def _attention(x_1NC: Tensor, layer: Any, shape: Shape) -> Tensor:
    """Attention among the pixels of a frame, for each frame."""
    x = x_1NC.view(shape[0], 1, shape[1] * shape[2], -1)
    length = x.float().square().sum(-1, keepdim=True).sqrt().clamp(min=SMALLEST)
    gamma = layer.norm.gamma.flatten().float()
    h = (x.float() / length * (layer.norm.scale * gamma)).to(x.dtype)
    qkv = F.linear(h, layer.to_qkv.weight.flatten(1), layer.to_qkv.bias)
    q, k, v = (each.contiguous() for each in qkv.chunk(3, -1))
    found = F.scaled_dot_product_attention(q, k, v)
    return (x + F.linear(found, layer.proj.weight.flatten(1), layer.proj.bias)).view_as(x_1NC)
