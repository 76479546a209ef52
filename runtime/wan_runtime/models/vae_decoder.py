"""The VAE's decoder, one latent frame at a time, with channels last in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from diffsynth.models.wan_video_vae import Resample
from torch import Tensor

from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.strides import LATENT_STRIDE, TEMPORAL_STRIDE
from wan_runtime.errors import NumericalError
from wan_runtime.models.dit.parallel import Ranks
from wan_runtime.models.host_frames import HostFrames
from wan_runtime.models.vae_bands import Band, Rows, bands_of, cut
from wan_runtime.models.vae_doubling import Doubling
from wan_runtime.models.vae_layers import Layers, Memory, Shape

# Shapes: a batch of 1, T frames at work, H W rows and columns, C channels, N = T H W pixels.

NOT_FINITE = "sampling gave NaN or infinite pixels"
AT_ONCE = 2
"""Frames of full size that are decoded at once: four are no faster, and take more memory."""


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
        self._layers = Layers(vae.model.decoder, compiled=compiled)
        self._upper, self._lower = _halves(vae.model.decoder)
        stages = [each for each in (*self._upper, *self._lower) if isinstance(each, Resample)]
        self._doubled = {each: Doubling(each.resample[1]) for each in stages}

    @torch.no_grad()
    def decode(
        self, latents_1CTHW: Tensor, take: Callable[[Tensor], None], band: Band | None = None
    ) -> None:
        """Decode a video's latents, in the weights' dtype and on their device.

        Args:
            take: gets the pixels [T, H, W, 3] of a few frames at a time, in order.
            band: the rows that they are of; None: all.
        """
        cuts = {} if band is None else band.cuts([*self._upper, *self._lower])
        mean, inverse = (each.to(latents_1CTHW).view(1, -1, 1, 1, 1) for each in self._scale)
        x = self._model.conv2(latents_1CTHW / inverse + mean).permute(0, 2, 3, 4, 1)
        decoder, memory = self._model.decoder, Memory()
        for number in range(x.shape[1]):
            shape: Shape = (1, *x.shape[2:4])
            rows = x[:, number].flatten(1, 2).contiguous()
            rows = self._layers.remembering(rows, decoder.conv1, shape, memory)
            for layer in self._upper:
                rows, shape = cut(rows, shape, cuts.get(layer))
                rows, shape = self._run(layer, rows, shape, memory, first=number == 0)
            frames = rows.view(*shape, -1)
            for start in range(0, len(frames), AT_ONCE):
                part = frames[start : start + AT_ONCE]
                rows, own = part.flatten(0, 2)[None], (len(part), *shape[1:])
                take(self._full_size(rows, own, memory, cuts))

    def frames(self, latents_1CTHW: Tensor, ranks: Ranks) -> Tensor | None:
        """A video [F, H, W, 3], uint8 on the CPU, on rank 0. Each rank decodes a band of rows.
        Collective.

        Only levels leave the GPU, a quarter of the bytes, while the next frames are decoded.

        Raises:
            NumericalError: on a rank of whose pixels one is not finite.
        """
        count, height, width = latents_1CTHW.shape[2:]
        bands = bands_of(height, ranks.world)
        if ranks.rank >= len(bands):
            return None
        own, finite = bands[ranks.rank], []
        shape = (
            TEMPORAL_STRIDE * (count - 1) + 1,
            LATENT_STRIDE * height,
            LATENT_STRIDE * width,
            3,
        )
        host = None if ranks.rank else HostFrames(shape, latents_1CTHW.device)

        def take(pixels_THWC: Tensor) -> None:
            finite.append(pixels_THWC.isfinite().all())
            levels = ((pixels_THWC.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
            if host is None:
                dist.send(levels.contiguous(), 0, group=ranks.everyone.handle)
            else:
                host.put(_joined(levels, bands, ranks))

        self.decode(latents_1CTHW, take, own if len(bands) > 1 else None)
        if not torch.stack(finite).all():
            raise NumericalError(Reason.NON_FINITE_LOSS, NOT_FINITE)
        return None if host is None else host.all()

    def _full_size(
        self, x_1NC: Tensor, shape: Shape, memory: Memory, cuts: Mapping[Any, Rows]
    ) -> Tensor:
        for layer in self._lower:
            x_1NC, shape = cut(x_1NC, shape, cuts.get(layer))
            x_1NC, shape = self._run(layer, x_1NC, shape, memory, first=False)
        norm, _, conv = self._model.decoder.head
        pixels = self._layers.convolved(x_1NC, None, norm, conv, shape, memory)
        pixels, shape = cut(pixels + conv.bias, shape, cuts.get(None))
        return pixels.view(*shape, -1)

    def _run(
        self, layer: Any, x_1NC: Tensor, shape: Shape, memory: Memory, *, first: bool
    ) -> tuple[Tensor, Shape]:
        if not isinstance(layer, Resample):
            return self._layers.run(layer, x_1NC, shape, memory), shape
        return self._upsampled(x_1NC, layer, shape, memory, first=first)

    def _upsampled(
        self, x_1NC: Tensor, layer: Any, shape: Shape, memory: Memory, *, first: bool
    ) -> tuple[Tensor, Shape]:
        """Pixels twice as high and wide and, but for the first latent frame, in some stages twice
        as long."""
        frames, height, width = shape
        if layer.mode == "upsample3d" and not first:
            pairs = self._layers.remembering(x_1NC, layer.time_conv, shape, memory)
            pairs = pairs.view(frames, height * width, 2, -1).transpose(1, 2)
            frames *= 2
            x_1NC = pairs.reshape(1, frames * height * width, -1)
        x = x_1NC.view(frames, height, width, -1).permute(0, 3, 1, 2)
        return self._doubled[layer](x)[None], (frames, 2 * height, 2 * width)


def _joined(first_THW3: Tensor, bands: Sequence[Band], ranks: Ranks) -> Tensor:
    """Levels of all bands, of which the first is here. Collective."""
    frames, _, *others = first_THW3.shape
    parts = [first_THW3]
    for number, band in enumerate(bands[1:], start=1):
        part = first_THW3.new_empty(frames, LATENT_STRIDE * (band.last - band.first), *others)
        dist.recv(part, number, group=ranks.everyone.handle)
        parts.append(part)
    return torch.cat(parts, 1) if len(parts) > 1 else first_THW3


def _halves(decoder: Any) -> tuple[list[Any], list[Any]]:
    """Layers up to the last upsampling, and those from it on."""
    layers = [*decoder.middle, *decoder.upsamples]
    last = max(number for number, each in enumerate(layers) if isinstance(each, Resample))
    return layers[:last], layers[last:]
