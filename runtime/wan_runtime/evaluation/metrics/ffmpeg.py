"""Metrics by FFmpeg's own definitions, under names of their own."""

from __future__ import annotations

from typing import Any

from av.filter import Graph

from wan_runtime.data.filters import CLOCK, buffer
from wan_runtime.evaluation.metrics.frame import Pair
from wan_runtime.evaluation.metrics.planes import planes_of, yuv_pair
from wan_runtime.evaluation.metrics.scorer import Mean, too_short
from wan_runtime.evaluation.metrics.similarity import decibels, squared_error


class FfmpegPsnr:
    """The average that the filter psnr ends with. It states the errors of frames with six decimals,
    so they are summed here."""

    def __init__(self) -> None:
        self._error = 0.0
        self._samples = 0

    def add(self, pair: Pair) -> None:
        """Count the errors of all planes, unless it is the first pair."""
        if not pair.index:
            return
        for one, other in zip(*map(planes_of, yuv_pair(pair)), strict=True):
            self._error += squared_error(one, other)
            self._samples += one.size

    def value(self) -> float:
        """Decibels, PSNR_CAP at most."""
        if not self._samples:
            raise too_short()
        return decibels(self._error / self._samples)

    def close(self) -> None:
        """Nothing is open."""


class FfmpegSsim(Mean):
    """Value `All` of the filter ssim."""

    def __init__(self) -> None:
        self._graph: Any = None
        super().__init__(self._similarity)

    def _similarity(self, pair: Pair) -> float:
        frames = yuv_pair(pair)
        if self._graph is None:
            self._build(frames[0])
        for source, frame in zip(self._sources, frames, strict=True):
            frame.pts, frame.time_base = pair.index, CLOCK
            source.push(frame)
        return float(self._sink.pull().metadata["lavfi.ssim.All"])

    def _build(self, frame: Any) -> None:
        self._graph = Graph()
        self._graph.threads = 1
        filter = self._graph.add("ssim", "")
        self._sources = []
        for number in range(2):
            source = buffer(self._graph, frame)
            source.link_to(filter, 0, number)
            self._sources.append(source)
        self._sink = self._graph.add("buffersink", "")
        filter.link_to(self._sink)
        self._graph.configure()
