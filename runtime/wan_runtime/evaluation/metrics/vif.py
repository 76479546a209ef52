"""Visual information fidelity on four scales (Sheikh and Bovik 2006), as VMAF takes it."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

# Shapes: H W rows and columns of a picture, h w of a scale of it.

Luma = NDArray[np.float32]
"""[H, W], levels of 255."""
NOISE = 2.0
"""Variance of the noise that the eye adds. Windows that vary less count as flat."""
PEAK = 255.0
MIDDLE = 128.0
"""Taken off first: squares of small numbers lose less in 32 bits."""


def window(size: int, sigma: float) -> NDArray[np.float32]:
    """[size]: Gaussian weights with a sum of 1."""
    return np.asarray(cv2.getGaussianKernel(size, sigma)[:, 0], np.float32)


def averaged(picture: Luma, weights: NDArray[np.float32]) -> Luma:
    """Averages by a window at each pixel. Beyond the border the picture is mirrored."""
    found = cv2.sepFilter2D(
        picture, cv2.CV_32F, weights, weights, borderType=cv2.BORDER_REFLECT_101
    )
    return np.asarray(found, np.float32)


WINDOWS = tuple(window(size, size / 5) for size in (17, 9, 5, 3))
"""Weights by scale, the finest first."""


def fidelity(picture: Luma, reference: Luma) -> list[float]:
    """Share of the reference's information that the picture has, by scale, the finest first.

    1: all of it; more where the picture has more contrast."""
    x, y = reference - MIDDLE, picture - MIDDLE
    found = [_share(x, y, WINDOWS[0])]
    for weights in WINDOWS[1:]:
        x, y = _halved(x, weights), _halved(y, weights)
        found.append(_share(x, y, weights))
    return found


def _halved(picture: Luma, weights: NDArray[np.float32]) -> Luma:
    height, width = (side // 2 * 2 for side in picture.shape)
    return np.ascontiguousarray(averaged(picture, weights)[:height:2, :width:2])


def _share(x: Luma, y: Luma, weights: NDArray[np.float32]) -> float:
    """Information of y about the scene, over that of x, in bits."""
    mx, my = averaged(x, weights), averaged(y, weights)
    vx = np.maximum(averaged(x * x, weights) - mx * mx, 0)
    vy = np.maximum(averaged(y * y, weights) - my * my, 0)
    both = np.maximum(averaged(x * y, weights) - mx * my, 0)
    flat = vx < NOISE
    kept = both * both / np.maximum(vx, NOISE)  # variance of y that x explains
    lost = np.maximum(vy - kept, 0) + NOISE
    kept[flat] = 0  # of a logarithm of 1
    bits = _sum(np.log1p(kept / lost)) / math.log(2)
    whole = _sum(np.log1p(np.where(flat, 0, vx) / NOISE)) / math.log(2)
    # Flat windows have no structure to keep: each has a bit, less what y puts there.
    count = int(np.count_nonzero(flat))
    put = float(vy.sum(dtype=np.float64, where=flat)) * (NOISE / PEAK) ** 2
    return (bits + count - put) / (whole + count)


def _sum(values: Luma) -> float:
    return float(values.sum(dtype=np.float64))
