"""Bands of a picture's rows, a rank's each.

A convolution sees one row beyond its own. Where a video is decoded, the layers from the first
doubling on get some rows more than a rank's own, as many as they will spoil at a cut, and drop them
as soon as they are of no use: of these layers, no rank waits for another's rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from diffsynth.models.wan_video_vae import Resample

LEAST_ROWS = 8
"""Rows of latents of a band, at least: of fewer, most of the work would be beyond its own rows."""
HEAD, CONVOLUTIONS = 1, 2
"""Rows that the first and the last convolution, and a residual block, see beyond their own."""

Rows = tuple[int, int]
"""First row, and number of rows."""


@dataclass(frozen=True, slots=True)
class Band:
    """Rows of latents [first, last) of all `height`."""

    first: int
    last: int
    height: int

    def wider(self, margin: int) -> Band:
        """These rows and, as far as there are, as many as `margin` on each side."""
        return Band(max(0, self.first - margin), min(self.height, self.last + margin), self.height)

    def within(self, other: Band) -> slice:
        """Where those rows that both have are among the other's."""
        first = max(self.first, other.first)
        return slice(first - other.first, max(first, min(self.last, other.last)) - other.first)

    def cuts(self, layers: Sequence[Any]) -> dict[Any, Rows]:
        """Rows that are kept of what enters a layer, and under None of what leaves the head.

        Args:
            layers: of the decoder, from the first doubling, which gets the rows wider by
                `margin_of`, to the last before the head.
        """
        margins = _margins(layers)
        kept: dict[Any, Rows] = {}
        at, scale = self.wider(margins[0]).first, 1
        before = None
        for layer, margin in zip(layers, margins, strict=True):
            if isinstance(before, Resample):
                first = max(0, self.first * scale - margin)
                last = min(self.height * scale, self.last * scale + margin)
                kept[layer] = (first - at, last - first)
                at = first
            if isinstance(layer, Resample):
                at, scale = 2 * at, 2 * scale
            before = layer
        kept[None] = (self.first * scale - at, (self.last - self.first) * scale)
        return kept


def margin_of(layers: Sequence[Any]) -> int:
    """Rows beyond a band's own that the first of the layers up to the head is to get."""
    return _margins(layers)[0]


def bands_of(height: int, ranks: int) -> list[Band]:
    """Bands of all ranks that have one, in order.

    Args:
        height: rows of the latents.
    """
    count = max(1, min(ranks, height // LEAST_ROWS))
    ends = [number * height // count for number in range(count + 1)]
    return [Band(first, last, height) for first, last in pairwise(ends)]


def _margins(layers: Sequence[Any]) -> list[int]:
    """Margin of what enters each layer."""
    margins, margin = [], HEAD
    for layer in reversed(layers):
        margin = -(-(margin + 1) // 2) if isinstance(layer, Resample) else margin + CONVOLUTIONS
        margins.append(margin)
    return margins[::-1]
