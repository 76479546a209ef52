"""Frames on their way to host memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Shapes: F frames of the video, T of a part, H W rows and columns.

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

    def put(self, levels_THW3: Tensor) -> None:
        """Take the next frames, uint8."""
        start, self._count = self._count, self._count + len(levels_THW3)
        place = self._frames[start : self._count]
        if self._stream is None:
            place.copy_(levels_THW3)
            return
        way = self._ways.pop(0)
        if way is not None:
            way.arrive()
        self._ways.append(_Way(levels_THW3, place, self._stream))

    def all(self) -> Tensor:
        """The video [F, H, W, 3], once all of it was taken."""
        for way in filter(None, self._ways):
            way.arrive()
        return self._frames


class _Way:
    """One part."""

    def __init__(self, levels: Tensor, place: Tensor, stream: Any) -> None:
        self._place = place
        self._buffer = torch.empty(levels.shape, dtype=levels.dtype, pin_memory=True)
        stream.wait_stream(torch.cuda.current_stream(levels.device))
        with torch.cuda.stream(stream):
            self._buffer.copy_(levels, non_blocking=True)
            self._copied = stream.record_event()
        levels.record_stream(stream)

    def arrive(self) -> None:
        """Wait for the copy, and move it on."""
        self._copied.synchronize()
        self._place.copy_(self._buffer)
