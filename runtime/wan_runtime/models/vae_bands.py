"""Bands of rows that ranks decode a video's frames in.

A convolution sees one row beyond its own. So each rank decodes some rows more than its own, as many
as the layers that follow will spoil at a cut, and drops them as soon as they are of no use: no rank
waits for another's rows. Attention spans the frame, and what is before it, a fiftieth of the work,
is computed by all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from diffsynth.models.wan_video_vae import AttentionBlock, Resample
from torch import Tensor

from wan_runtime.models.vae_layers import Shape

LEAST_ROWS = 8
"""Rows of latents of a band, at least: of fewer, most of the work would be beyond its own rows."""
HEAD, CONVOLUTIONS = 1, 2
"""Rows that the last convolution, and a residual block, see beyond their own."""

Rows = tuple[int, int]
"""First row, and number of rows."""


@dataclass(frozen=True, slots=True)
class Band:
    """Rows of latents [first, last) of all `height`."""

    first: int
    last: int
    height: int

    def cuts(self, layers: Sequence[Any]) -> dict[Any, Rows]:
        """Rows that are kept of what enters a layer, and under None of what leaves the head.

        Args:
            layers: of the decoder, from its first one to its last before the head.
        """
        spread = max(n for n, each in enumerate(layers) if isinstance(each, AttentionBlock)) + 1
        layers = layers[spread:]
        margins, margin = [], HEAD
        for layer in reversed(layers):
            margin = -(-(margin + 1) // 2) if isinstance(layer, Resample) else margin + CONVOLUTIONS
            margins.append(margin)
        margins.reverse()
        kept: dict[Any, Rows] = {}
        at, scale = 0, 1
        before = None
        for layer, margin in zip(layers, margins, strict=True):
            if before is None or isinstance(before, Resample):
                first = max(0, self.first * scale - margin)
                last = min(self.height * scale, self.last * scale + margin)
                kept[layer] = (first - at, last - first)
                at = first
            if isinstance(layer, Resample):
                at, scale = 2 * at, 2 * scale
            before = layer
        kept[None] = (self.first * scale - at, (self.last - self.first) * scale)
        return kept


def bands_of(height: int, ranks: int) -> list[Band]:
    """Bands of all ranks that have one, in order.

    Args:
        height: rows of the latents.
    """
    count = max(1, min(ranks, height // LEAST_ROWS))
    ends = [number * height // count for number in range(count + 1)]
    return [Band(first, last, height) for first, last in pairwise(ends)]


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
