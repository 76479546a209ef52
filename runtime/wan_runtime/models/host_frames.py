"""Frames on their way to host memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Shapes: F frames of the video, T of a part, H W rows and columns, h rows of a band.

SLOTS = 2
"""Parts on their way at once: one is copied while the next one is computed."""


class HostFrames:
    """A video in ordinary host memory, put there part by part while the next part is computed.

    A GPU copies without waiting only to page-locked memory, which takes longer to get for a whole
    video than the copy does. So parts go through a few buffers of it in turn.
    """

    def __init__(self, shape_FHW3: tuple[int, int, int, int], device: torch.device) -> None:
        self._frames = torch.empty(shape_FHW3, dtype=torch.uint8)
        self._device, self._count = device, 0
        self._ways: list[_Way | None] = [None] * SLOTS
        cuda = device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]

    def put(self, bands_ThW3: Sequence[Tensor], moves: Sequence[Any] = ()) -> None:
        """Take the next frames, uint8, in bands of rows.

        Args:
            moves: by which bands come from other ranks. What computes does not wait for them.
        """
        start, self._count = self._count, self._count + len(bands_ThW3[0])
        place = self._frames[start : self._count]
        if self._stream is None:
            for move in moves:
                move.wait()
            torch.cat(list(bands_ThW3), 1, out=place)
            return
        way = self._ways.pop(0)
        if way is not None:
            way.arrive()
        self._ways.append(_Way(bands_ThW3, moves, place, self._stream))

    def all(self) -> Tensor:
        """The video [F, H, W, 3], once all of it was taken."""
        for way in filter(None, self._ways):
            way.arrive()
        return self._frames


class _Way:
    """One part."""

    def __init__(
        self, bands: Sequence[Tensor], moves: Sequence[Any], place: Tensor, stream: Any
    ) -> None:
        self._place = place
        self._buffer = torch.empty(place.shape, dtype=place.dtype, pin_memory=True)
        stream.wait_stream(torch.cuda.current_stream(bands[0].device))
        with torch.cuda.stream(stream):
            for move in moves:
                move.wait()  # on a GPU: lets this stream wait, and nothing else
            self._buffer.copy_(torch.cat(list(bands), 1), non_blocking=True)
            self._copied = stream.record_event()
        for each in bands:
            each.record_stream(stream)

    def arrive(self) -> None:
        """Wait for the copy, and move it on."""
        self._copied.synchronize()
        self._place.copy_(self._buffer)
