"""Distances of two pictures, pixel by pixel: squared error and structural similarity."""

from __future__ import annotations

import math
import threading

import cv2
import numpy as np
from numpy.typing import NDArray

from wan_runtime.contract.metric_names import PSNR_CAP

# Shapes: H W rows and columns of a picture, h w of a map of it; C channels.

Picture = NDArray[np.uint8]
"""[H, W, C], or [H, W]."""
Samples = NDArray[np.uint8] | NDArray[np.float32]
PEAK = 255.0
RADIUS = 5
"""Pixels on each side of a window's centre: 3.5 standard deviations."""
SIGMA = 1.5
MARGIN = 2 * RADIUS
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
ROWS = 32
"""Rows of averages that are computed at once: what one processor's cache holds."""
BLOCK, COLUMNS = 8, 1280
"""Rows and columns of one product of matrices: below what BLAS spreads over threads."""
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents by scale, the finest first (Wang et al. 2003)."""
SMALLEST = MARGIN * 2 ** (len(SCALES) - 1) + 1
"""Pixels at the shorter side, at least, for a window on the coarsest scale."""


def _window() -> NDArray[np.float32]:
    weights = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    return np.asarray(weights / weights.sum(), np.float32)


WINDOW = _window()
DOWN = np.zeros((BLOCK, 2 * BLOCK - 1 + MARGIN), np.float32)
"""[8, 25]: the window, two pixels further in each row."""
for _row in range(BLOCK):
    DOWN[_row, 2 * _row : 2 * _row + len(WINDOW)] = WINDOW


def squared_error(one: Picture, other: Picture) -> float:
    """Sum over all samples."""
    return float(cv2.norm(one, other, cv2.NORM_L2SQR))


def decibels(mean_squared_error: float) -> float:
    """10 log10(255² / error), at most PSNR_CAP."""
    if mean_squared_error <= 0:
        return PSNR_CAP
    return min(PSNR_CAP, 10 * math.log10(PEAK**2 / mean_squared_error))


def ssim(one: Picture, other: Picture, odd: int = 0) -> float:
    """Mean structural similarity of two pictures of at least 11x11 pixels (Wang et al. 2004).

    As scikit-image with gaussian_weights, sigma 1.5, use_sample_covariance False, data_range 255,
    but of every second row of windows. Windows overlap so far that the rows between hardly say
    anything new. `odd`: 1 for the rows between, so that two frames that follow each other are
    covered by both.
    """
    return _similarity(one, other, odd)[0]


def ms_ssim(one: Picture, other: Picture, odd: int = 0) -> float:
    """Structural similarity on five scales (Wang et al. 2003), mean over the channels.

    Each scale is the mean of 2x2 pixels of the one before. Negative similarities count as 0, as
    they have no root. The shorter side has SMALLEST pixels at least.
    """
    x, y = _channels_last(one), _channels_last(other)
    product = np.ones(x.shape[2])
    for number, exponent in enumerate(SCALES):
        last = number == len(SCALES) - 1
        found = [
            _similarity(np.ascontiguousarray(x[..., c]), np.ascontiguousarray(y[..., c]), odd)
            for c in range(x.shape[2])
        ]
        product *= np.maximum([each[0 if last else 1] for each in found], 0) ** exponent
        x, y = _halved(x), _halved(y)
    return float(product.mean())


def _channels_last(picture: Picture) -> NDArray[np.float32]:
    return np.atleast_3d(picture).astype(np.float32)


def _halved(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = (side // 2 * 2 for side in picture.shape[:2])
    size = width // 2, height // 2
    halved = cv2.resize(picture[:height, :width], size, interpolation=cv2.INTER_AREA)
    return np.asarray(np.atleast_3d(halved), np.float32)


def _similarity(one: Samples, other: Samples, odd: int) -> tuple[float, float]:
    """(mean similarity, mean of its part that luminance has no share in), at every second row.

    By the sum s and the difference d of the two pictures, of which four averages are enough instead
    of five: 2 xy = (s² - d²) / 2, x² + y² = (s² + d²) / 2.
    """
    total = contrast = 0.0
    rows = one.shape[0] - MARGIN
    taken = 0
    for top, count in _segments(rows, odd if rows > 1 else 0):
        end = top + 2 * count - 1 + MARGIN
        shape = (end - top, *one.shape[1:])
        x, y, s = (_rooms.room(name, shape) for name in "xys")
        np.copyto(x, one[top:end])
        np.copyto(y, other[top:end])
        cv2.add(x, y, dst=s)
        d = cv2.subtract(x, y, dst=x)
        ms, md = _averaged(s, "ms"), _averaged(d, "md")
        vs = _averaged(cv2.multiply(s, s, dst=s), "vs")
        vd = _averaged(cv2.multiply(d, d, dst=d), "vd")
        cv2.multiply(ms, ms, dst=ms)
        cv2.multiply(md, md, dst=md)
        cv2.subtract(vs, ms, dst=vs)
        cv2.subtract(vd, md, dst=vd)
        # Twice the terms of the paper, in numerator and denominator alike.
        ms += 2 * C1
        vs += 2 * C2
        found = np.subtract(vs, vd, out=_rooms.room("found", vs.shape))
        vs += vd
        found /= vs
        contrast += _sum(found)
        np.subtract(ms, md, out=vs)
        ms += md
        found *= vs
        found /= ms
        total += _sum(found)
        taken += count
    samples = taken * (one.size // one.shape[0]) * (one.shape[1] - MARGIN) / one.shape[1]
    return total / samples, contrast / samples


class _Rooms(threading.local):
    """Memory for intermediate results, by name: new pages for each would take longer than to
    compute them."""

    def __init__(self) -> None:
        self._held: dict[str, NDArray[np.float32]] = {}

    def room(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Values that the last use left."""
        size = math.prod(shape)
        held = self._held.get(name)
        if held is None or held.size < size:
            held = self._held[name] = np.empty(size, np.float32)
        return held[:size].reshape(shape)


_rooms = _Rooms()


def _segments(rows: int, odd: int) -> list[tuple[int, int]]:
    """(first row, number of rows to take, every second one)."""
    count = (rows - odd + 1) // 2
    return [(odd + 2 * done, min(ROWS, count - done)) for done in range(0, count, ROWS)]


def _averaged(rows: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Averages by the window, of every second row at which it lies within.

    Down by small matrices, whose product is several times faster than a filter that steps; across
    by a filter."""
    count = (len(rows) - MARGIN + 1) // 2
    flat = rows.reshape(len(rows), -1)
    down = _rooms.room("down", (count, flat.shape[1]))
    for first in range(0, count, BLOCK):
        taken = min(BLOCK, count - first)
        needed = 2 * taken - 1 + MARGIN
        band = flat[2 * first : 2 * first + needed]
        for left in range(0, flat.shape[1], COLUMNS):
            part = slice(left, left + COLUMNS)
            np.matmul(DOWN[:taken, :needed], band[:, part], out=down[first : first + taken, part])
    across = down.reshape(count, *rows.shape[1:])
    averaged = _rooms.room(name, across.shape)
    cv2.filter2D(across, cv2.CV_32F, WINDOW[None], dst=averaged)
    return averaged


def _sum(values: NDArray[np.float32]) -> float:
    """Sum of the columns at which the whole window lies within."""
    return float(sum(cv2.sumElems(values[:, RADIUS:-RADIUS])))
