"""The VAE's encoder with channels last in memory: a latent frame at a time where pictures are
large, several where they are small.

Ranks that share a photo have a band of its rows each, and meet at each convolution.

A photo is encoded as a video that is grey behind it. It is in the reach of the layers of large
pictures for a few latent frames; what these make of grey alone is the same each time, and computed
once.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from diffsynth.models.wan_video_vae import Resample, ResidualBlock
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from wan_runtime.contract.strides import LATENT_STRIDE, TEMPORAL_STRIDE
from wan_runtime.models.dit.parallel import Ranks
from wan_runtime.models.vae_bands import bands_of
from wan_runtime.models.vae_half import HALF, widened
from wan_runtime.models.vae_layers import REMEMBERED, Layers, Memory, Shape, conv2d
from wan_runtime.models.vae_rows import SharedRows

log = logging.getLogger(__name__)

# Shapes: a batch of 1, F frames of a video, T frames at work, H W rows and columns, C channels, N =
# T H W pixels.

AT_ONCE = 4
"""Latent frames that the layers of small pictures take at once."""
ALIGNED = 16
"""Channels that the pixels' colours, of three frames each, are padded to: GPUs multiply in groups
of eight."""

Part = tuple[Tensor, Shape]
"""Pixels [1, N, C] and how they lie."""


class Encoder:
    """Encoder of one VAE."""

    def __init__(self, vae: Any, *, compiled: bool) -> None:
        """
        Args:
            vae: diffsynth's. The encoder's weights are laid out anew, with the same values.
            compiled: hand what is between convolutions to torch's compiler, which compiles each
                width once.
        """
        self._vae = vae
        self._model, self._scale = vae.model, vae.scale
        self._layers = Layers(vae.model.encoder, compiled=compiled)
        self._upper, self._lower = _halves(vae.model.encoder)
        weight = torch.cat(vae.model.encoder.conv1.weight.unbind(2), 1)
        missing = ALIGNED - weight.shape[1]
        padded = F.pad(weight, (0, 0, 0, 0, 0, missing))
        self._first = padded.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def video(self, frames_FHWC: NDArray[np.uint8]) -> Tensor:
        """Latents [16, T, h, w] of uint8 frames [F, H, W, 3], F = 4 n + 1."""
        pixels, memory = self._pixels(frames_FHWC), Memory()
        parts = [pixels[:1]]
        parts += [
            pixels[at : at + TEMPORAL_STRIDE] for at in range(1, len(pixels), TEMPORAL_STRIDE)
        ]
        return self._small([self._large(part, memory) for part in parts])

    @torch.no_grad()
    def photo(self, image_HWC: NDArray[np.uint8], count: int, ranks: Ranks) -> Tensor | None:
        """Latents [16, T, h, w], on rank 0, of a uint8 image [H, W, 3] that all ranks have, and of
        grey frames behind it: `count` frames in all, 4 n + 1. Each rank encodes a band of rows.
        What is beyond the range of `HALF` is encoded again in bfloat16. Collective.
        """
        made = self._photo(image_HWC, count, ranks)
        finite = made is None or bool(made.isfinite().all())
        if self._first.dtype != HALF or not ranks.any(not finite):
            return None if ranks.rank else made
        log.warning("a photo is beyond the range of %s: encoding it again in bfloat16", HALF)
        encoder = Encoder(widened(self._vae), compiled=False)
        return encoder.photo(image_HWC, count, ranks)

    def _photo(self, image_HWC: NDArray[np.uint8], count: int, ranks: Ranks) -> Tensor | None:
        """Latents of `photo`, on all ranks that have a band."""
        bands = bands_of(len(image_HWC) // LATENT_STRIDE, ranks.world)
        SharedRows.meet(ranks, self._first.device)
        if ranks.rank >= len(bands):
            return None
        rows = None
        if len(bands) > 1:
            own = bands[ranks.rank]
            image_HWC = image_HWC[LATENT_STRIDE * own.first : LATENT_STRIDE * own.last]
            rows = SharedRows(bands, ranks.rank, ranks.everyone)
        pixels, memory = self._pixels(image_HWC[None]), Memory(rows)
        grey = pixels.new_zeros(TEMPORAL_STRIDE, *pixels.shape[1:])
        made = [self._large(pixels, memory)]
        for number in range(1, 1 + (count - 1) // TEMPORAL_STRIDE):
            made.append(self._large(grey, memory) if number <= self._settled else made[-1])
        return self._small(made, rows)

    @property
    def _settled(self) -> int:
        """First latent frame of which the layers of large pictures see nothing but what is behind
        the first frame: their reach before its own four frames, and one before these."""
        convolutions = 1 + 2 * sum(isinstance(each, ResidualBlock) for each in self._upper)
        return -(-(REMEMBERED * convolutions + TEMPORAL_STRIDE + 1) // TEMPORAL_STRIDE)

    def _pixels(self, frames_FHWC: NDArray[np.uint8]) -> Tensor:
        """[F, H, W, 3], -1 to 1."""
        levels = torch.from_numpy(np.ascontiguousarray(frames_FHWC))
        if self._first.device.type == "cuda":
            levels = levels.pin_memory().to(self._first.device, non_blocking=True)
        return (levels.float() * (2 / 255) - 1).to(self._first.dtype)

    def _large(self, pixels_THWC: Tensor, memory: Memory) -> Part:
        """Through the layers up to the first that makes fewer frames."""
        conv = self._model.encoder.conv1
        before = memory.get(conv, pixels_THWC.new_zeros(REMEMBERED, *pixels_THWC.shape[1:]))
        seen = torch.cat([before, pixels_THWC])
        memory[conv] = seen[-REMEMBERED:]
        count = len(pixels_THWC)
        stacked = torch.cat([seen[at : at + count] for at in range(REMEMBERED + 1)], -1)
        x = F.pad(stacked, (0, ALIGNED - stacked.shape[-1]))
        y = conv2d(x, self._first, memory.rows).flatten(0, 2)[None]
        shape: Shape = (count, *pixels_THWC.shape[1:3])
        return self._through(self._upper, self._layers.added((y,), conv.bias), shape, memory)

    def _small(self, parts: list[Part], shared: SharedRows | None = None) -> Tensor:
        """Latents [16, T, h, w] of what the layers before gave of each latent frame."""
        memory, made = Memory(shared), []
        for group in (parts[:1], *_groups(parts[1:], AT_ONCE)):
            rows, (_, height, width) = torch.cat([rows for rows, _ in group], 1), group[0][1]
            frames = sum(shape[0] for _, shape in group)
            rows, shape = self._through(self._lower, rows, (frames, height, width), memory)
            norm, _, conv = self._model.encoder.head
            rows = self._layers.convolved(rows, None, norm, conv, shape, memory) + conv.bias
            last = self._model.conv1
            both = F.linear(rows, last.weight.flatten(1), last.bias)
            made.append(both.chunk(2, -1)[0].view(*shape, -1))
        mean, inverse = (each.to(made[0]) for each in self._scale)
        latents_THWC: Tensor = (torch.cat(made) - mean) * inverse
        if shared is not None:
            latents_THWC = shared.all(latents_THWC)
        return latents_THWC.permute(3, 0, 1, 2).contiguous()

    def _through(self, layers: list[Any], x_1NC: Tensor, shape: Shape, memory: Memory) -> Part:
        for layer in layers:
            if isinstance(layer, Resample):
                x_1NC, shape = self._downsampled(x_1NC, layer, shape, memory)
            else:
                x_1NC = self._layers.run(layer, x_1NC, shape, memory)
        return x_1NC, shape

    def _downsampled(self, x_1NC: Tensor, layer: Any, shape: Shape, memory: Memory) -> Part:
        """Pixels half as high and wide and, but for the first frame, in some stages half as many
        frames."""
        conv = layer.resample[1]
        x, below = x_1NC.view(*shape, -1), 1
        if memory.rows is not None:
            x, below = memory.rows.with_neighbours(x, above=False), 0
        x = F.pad(x.permute(0, 3, 1, 2), (0, 1, 0, below))
        y = F.conv2d(x, conv.weight, stride=2).permute(0, 2, 3, 1)
        frames, height, width = y.shape[:3]
        rows = self._layers.added((y.flatten(0, 2)[None],), conv.bias)
        if layer.mode == "downsample2d":
            return rows, (frames, height, width)
        seen = rows
        if layer in memory:
            seen = torch.cat([memory[layer], rows], 1)
        memory[layer] = rows[:, -height * width :].clone()
        if seen is rows:
            return rows, (frames, height, width)
        conv = layer.time_conv
        x = seen.view(1, frames + 1, height, width, -1).permute(0, 4, 1, 2, 3)
        y = F.conv3d(x, conv.weight, stride=conv.stride).permute(0, 2, 3, 4, 1)
        rows = self._layers.added((y.flatten(1, 3),), conv.bias)
        return rows, (frames // 2, height, width)


def _halves(encoder: Any) -> tuple[list[Any], list[Any]]:
    """Layers up to the first that makes fewer frames, and those behind it."""
    layers = [*encoder.downsamples, *encoder.middle]
    first = next(
        number
        for number, each in enumerate(layers)
        if isinstance(each, Resample) and each.mode == "downsample3d"
    )
    return layers[: first + 1], layers[first + 1 :]


def _groups(parts: list[Part], size: int) -> list[list[Part]]:
    return [parts[start : start + size] for start in range(0, len(parts), size)]
