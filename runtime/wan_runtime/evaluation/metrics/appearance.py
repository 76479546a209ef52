"""How far the pictures stray from the one that the clip starts from, and how they waver."""

from __future__ import annotations

import math
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from wan_runtime.evaluation.metrics.frame import Frame, Pair
from wan_runtime.evaluation.metrics.scorer import Mean, start_of, too_short

BINS = (8, 16, 16)
"""Bins of lightness and of the two colour axes."""
RANGES = (0.0, 100.0, -128.0, 128.0, -128.0, 128.0)
BLOCK = 16
"""Pixels at the side of a block whose brightness is followed."""
FLAT = 1e-6
"""Variance of the Laplacian of a picture without any detail."""


class IdentityDrift:
    """Hellinger distance between colour histograms, over the last quarter of the frames."""

    def __init__(self) -> None:
        self._distances: list[float] = []
        self._start: NDArray[np.float32] | None = None

    def add(self, pair: Pair) -> None:
        """Compare a frame's colours with those of the start, unless it is the first."""
        if self._start is None:
            self._start = _histogram(start_of(pair))
        if pair.index:
            shared = float(np.sqrt(_histogram(pair.candidate) * self._start).sum())
            self._distances.append(math.sqrt(max(0.0, 1 - shared)))

    def value(self) -> float:
        """Between 0 and 1."""
        if not self._distances:
            raise too_short()
        last = self._distances[-math.ceil(len(self._distances) / 4) :]
        return sum(last) / len(last)

    def close(self) -> None:
        """Nothing is open."""


class ColourShift(Mean):
    """Distance between mean colours in CIELAB."""

    def __init__(self) -> None:
        self._start: NDArray[np.float64] | None = None
        super().__init__(self._distance)

    def _distance(self, pair: Pair) -> float:
        if self._start is None:
            self._start = _mean_colour(start_of(pair))
        return float(np.linalg.norm(_mean_colour(pair.candidate) - self._start))


class Sharpness(Mean):
    """Detail of the later frames over that of the start."""

    def __init__(self) -> None:
        self._start: float | None = None
        super().__init__(self._ratio)

    def _ratio(self, pair: Pair) -> float:
        if self._start is None:
            self._start = max(_detail(start_of(pair)), FLAT)
        return _detail(pair.candidate) / self._start


class Flicker(Mean):
    """Second difference in time of the brightness of blocks: half of it, in levels."""

    def __init__(self) -> None:
        self._before: list[NDArray[np.float32]] = []
        super().__init__(self._wavering)

    def _wavering(self, pair: Pair) -> float | None:
        self._before = [*self._before[-2:], _blocks(pair.candidate)]
        if len(self._before) < 3:
            return None
        first, middle, last = self._before
        return float(np.abs(middle - (first + last) / 2).mean())


def _histogram(frame: Frame) -> NDArray[np.float32]:
    """[8, 16, 16], of sum 1."""
    counts = cv2.calcHist([frame.lab], [0, 1, 2], None, list(BINS), list(RANGES))
    return cast(NDArray[np.float32], counts / max(1.0, float(counts.sum())))


def _mean_colour(frame: Frame) -> NDArray[np.float64]:
    return cast(NDArray[np.float64], frame.lab.mean(axis=(0, 1), dtype=np.float64))


def _detail(frame: Frame) -> float:
    _, deviation = cv2.meanStdDev(cv2.Laplacian(frame.grey, cv2.CV_32F))
    return float(deviation[0, 0]) ** 2


def _blocks(frame: Frame) -> NDArray[np.float32]:
    height, width = frame.grey.shape
    size = max(1, width // BLOCK), max(1, height // BLOCK)
    grey = frame.grey.astype(np.float32)
    return cast(NDArray[np.float32], cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
