"""The VAE's decoder with channels last in memory: several latent frames at a time where pictures
are as small as latents, one where they are larger.

Ranks that share a video have a band of its rows each. They meet at the attention of the middle,
which spans the frame: each computes it of its own rows.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffsynth.models.wan_video_vae import Resample
from torch import Tensor

from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.strides import LATENT_STRIDE, TEMPORAL_STRIDE
from wan_runtime.errors import NumericalError
from wan_runtime.models.dit.parallel import Ranks
from wan_runtime.models.host_frames import HostFrames
from wan_runtime.models.vae_bands import CONVOLUTIONS, HEAD, Rows, bands_of, margin_of
from wan_runtime.models.vae_doubling import Doubling
from wan_runtime.models.vae_half import HALF, widened
from wan_runtime.models.vae_layers import Layers, Memory, Shape, attention, cut
from wan_runtime.models.vae_rows import SharedRows

log = logging.getLogger(__name__)

# Shapes: a batch of 1, T frames at work, H W rows and columns, C channels, N = T H W pixels.

NOT_FINITE = "sampling gave NaN or infinite pixels"
SMALL_AT_ONCE = 7
"""Latent frames that the layers of small pictures take at once."""
AT_ONCE = 2
"""Frames of full size that are decoded at once: four are no faster, and take more memory."""
SENT_AT_ONCE = 2
"""Parts of a band that may be on their way to rank 0 while the next is decoded."""
BEFORE_ATTENTION = HEAD + CONVOLUTIONS
"""Rows beyond their own that the layers before the attention see."""


class Decoder:
    """Decoder of one VAE."""

    def __init__(self, vae: Any, *, compiled: bool) -> None:
        """
        Args:
            vae: diffsynth's. The decoder's weights are laid out anew, with the same values.
            compiled: hand what is between convolutions to torch's compiler, which compiles each
                width once.
        """
        self._vae = vae
        self._model, self._scale = vae.model, vae.scale
        self._layers = Layers(vae.model.decoder, compiled=compiled)
        self._before, self._attention, *small = vae.model.decoder.middle
        behind = [*small, *vae.model.decoder.upsamples]
        stages = [each for each in behind if isinstance(each, Resample)]
        first, last = (behind.index(each) for each in (stages[0], stages[-1]))
        self._small, self._upper, self._lower = behind[:first], behind[first:last], behind[last:]
        self._large = [*self._upper, *self._lower]
        self._doubled = {each: Doubling(each.resample[1]) for each in stages}

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, in which pixels leave each layer."""
        dtype: torch.dtype = self._model.conv2.weight.dtype
        return dtype

    @torch.no_grad()
    def decode(
        self,
        latents_1CTHW: Tensor,
        take: Callable[[Tensor], None],
        shared: SharedRows | None = None,
    ) -> None:
        """Decode a video's latents, on the weights' device and in their dtype. Collective.

        Args:
            take: gets the pixels [T, H, W, 3] of a few frames at a time, in order.
            shared: with whom, whose own rows the pixels are of; None: all are.
        """
        cuts = {} if shared is None else shared.own.cuts(self._large)
        mean, inverse = (each.to(latents_1CTHW).view(1, -1, 1, 1, 1) for each in self._scale)
        x = self._model.conv2(latents_1CTHW / inverse + mean).permute(0, 2, 3, 4, 1)
        memory = Memory()
        for start in range(0, x.shape[1], SMALL_AT_ONCE):
            group = self._small_pictures(x[0, start : start + SMALL_AT_ONCE], memory, shared)
            for number, frame_HWC in enumerate(group, start):
                rows, shape = _flat(frame_HWC[None])
                for layer in self._upper:
                    rows, shape = cut(rows, shape, cuts.get(layer))
                    rows, shape = self._run(layer, rows, shape, memory, first=number == 0)
                frames = rows.view(*shape, -1)
                for at in range(0, len(frames), AT_ONCE):
                    take(self._full_size(*_flat(frames[at : at + AT_ONCE]), memory, cuts))

    def frames(self, latents_1CTHW: Tensor, ranks: Ranks) -> Tensor | None:
        """A video [F, H, W, 3], uint8 on the CPU, on rank 0. Each rank decodes a band of rows.
        Collective.

        Only levels leave the GPU, a quarter of the bytes, while the next frames are decoded. What
        is beyond the range of `HALF` is decoded again in bfloat16.

        Raises:
            NumericalError: on all ranks, if a pixel is not finite.
        """
        dtype = self.dtype
        made, finite = self._levels(latents_1CTHW.to(dtype), ranks)
        if not ranks.any(not finite):
            return made
        if dtype != HALF:
            raise NumericalError(Reason.NON_FINITE_LOSS, NOT_FINITE)
        log.warning("a video is beyond the range of %s: decoding it again in bfloat16", dtype)
        del made
        # To compile it takes longer than what one video gains, and a rank must not be silent.
        return Decoder(widened(self._vae), compiled=False).frames(latents_1CTHW, ranks)

    def _levels(self, latents_1CTHW: Tensor, ranks: Ranks) -> tuple[Tensor | None, bool]:
        """Levels of `frames`, and whether this rank's pixels are finite."""
        count, height, width = latents_1CTHW.shape[2:]
        bands = bands_of(height, ranks.world)
        SharedRows.meet(ranks, latents_1CTHW.device)
        if ranks.rank >= len(bands):
            return None, True
        shared = SharedRows(bands, ranks.rank, ranks.everyone) if len(bands) > 1 else None
        shape = (
            TEMPORAL_STRIDE * (count - 1) + 1,
            LATENT_STRIDE * height,
            LATENT_STRIDE * width,
            3,
        )
        host = None if ranks.rank else HostFrames(shape, latents_1CTHW.device)
        finite: list[Tensor] = []
        sent: deque[tuple[list[Tensor], list[Any]]] = deque()

        def take(pixels_THWC: Tensor) -> None:
            finite.append(pixels_THWC.isfinite().all())
            levels = ((pixels_THWC.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
            parts, moves = ([levels], []) if shared is None else shared.begin_joining(levels)
            if host is not None:
                host.put(parts, moves)
                return
            sent.append((parts, moves))
            if len(sent) > SENT_AT_ONCE:
                arrive()

        def arrive() -> None:
            for move in sent.popleft()[1]:
                move.wait()

        self.decode(latents_1CTHW, take, shared)
        while sent:
            arrive()
        return None if host is None else host.all(), bool(torch.stack(finite).all())

    def _small_pictures(
        self, latents_THWC: Tensor, memory: Memory, shared: SharedRows | None
    ) -> Tensor:
        """Pixels [T, h, W, C] before the first doubling, of latents of all rows: the shared ones,
        and those beside them that the layers to come will spoil. Collective."""
        x = latents_THWC
        if shared is not None:
            seen = shared.own.wider(BEFORE_ATTENTION)
            x = x[:, seen.first : seen.last]
        rows, shape = _flat(x)
        rows = self._layers.remembering(rows, self._model.decoder.conv1, shape, memory)
        rows = self._layers.run(self._before, rows, shape, memory)
        if shared is not None:
            rows, shape = _flat(rows.view(*shape, -1)[:, shared.own.within(seen)])
        rows = attention(rows, self._attention, shape, shared)
        if shared is not None:
            margin = CONVOLUTIONS * len(self._small)
            seen = shared.own.wider(margin)
            rows, shape = _flat(shared.wider(rows.view(*shape, -1), margin))
        for layer in self._small:
            rows = self._layers.run(layer, rows, shape, memory)
        x = rows.view(*shape, -1)
        if shared is not None:
            x = shared.wider(x[:, shared.own.within(seen)], margin_of(self._large))
        return x

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


def _flat(x_THWC: Tensor) -> tuple[Tensor, Shape]:
    """[1, N, C], and T, H and W."""
    frames, height, width, _ = x_THWC.shape
    return x_THWC.flatten(0, 2)[None].contiguous(), (frames, height, width)
