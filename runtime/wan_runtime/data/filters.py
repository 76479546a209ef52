"""FFmpeg's video filters in a row."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.filter import Graph

CLOCK = Fraction(1, 1000)
"""Frames are numbered, not timed: filters in between want times that grow."""

Filter = tuple[str, str]
"""Name and options."""


class Chain:
    """Filters that give one frame for each that they get, of one size and one form of pixels."""

    def __init__(
        self, frame: av.VideoFrame, *filters: Filter, table: av.VideoFrame | None = None
    ) -> None:
        """`frame`: says what the frames are like. `table`: second input of a `haldclut`."""
        self._graph: Any = Graph()
        self._graph.threads = 1  # clips are decoded side by side instead
        self._source = last = buffer(self._graph, frame)
        second = None if table is None else buffer(self._graph, table)
        for name, options in (*filters, ("buffersink", "")):
            node = self._graph.add(name, options)
            last.link_to(node)
            if name == "haldclut":
                assert second is not None
                second.link_to(node, 0, 1)
            last = node
        self._sink = last
        self._graph.configure()
        self._number = 0
        if second is not None:
            second.push(table)
            second.push(None)

    def push(self, frame: av.VideoFrame | None) -> None:
        """Hand over a frame, or None after the last."""
        if frame is not None:
            frame.pts, frame.time_base = self._number, CLOCK
            self._number += 1
        self._source.push(frame)

    def ready(self) -> Iterator[av.VideoFrame]:
        """What has come out so far."""
        while True:
            try:
                yield self._sink.pull()
            except (av.BlockingIOError, av.EOFError):
                return


def form_of(frame: Any) -> tuple[object, ...]:
    """What frames of one `Chain` have in common."""
    return frame.format.name, frame.width, frame.height, frame.colorspace, frame.color_range


def buffer(graph: Any, frame: Any) -> Any:
    """A source in `graph` of frames like this one, numbered by CLOCK."""
    return graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base=str(CLOCK),
        colorspace=str(int(frame.colorspace)),
        range=str(int(frame.color_range)),
    )
