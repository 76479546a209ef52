"""Loss of details on four scales of wavelets (Li, Zhang, Ma and Ngan 2011), as VMAF takes it."""

from __future__ import annotations

import math

import cv2
import numpy as np

from wan_runtime.evaluation.metrics.vif import Luma

# Shapes: H W rows and columns of a picture, h w of a band of its wavelets.

Bands = tuple[Luma, Luma, Luma]
"""[h, w] each: horizontal, vertical and diagonal details."""
Sensitivity = tuple[float, float, float]
"""Weights of horizontal, vertical and diagonal details."""
SCALES = 4
ROOT = math.sqrt(3)
LOW = tuple(each / (4 * math.sqrt(2)) for each in (1 + ROOT, 3 + ROOT, 3 - ROOT, 1 - ROOT))
"""Daubechies' low pass of four taps."""
HIGH = (LOW[3], -LOW[2], LOW[1], -LOW[0])
BORDER = 0.1
"""Share of a band at each side that is left out."""
ENHANCED = 100.0
"""Factor, at most, by which contrast in the reference's direction counts as detail."""
ALIKE = math.cos(math.pi / 180) ** 2
"""Squared cosine of the angle between details, from which on they are of one direction."""
MASK = np.full((3, 3), 1 / 30, np.float32)
MASK[1, 1] = 1 / 15
"""Weights with which impairments around a coefficient hide it."""
DEGREE = 3 * 1080 * math.pi / 180
"""Pixels a degree of vision, at three times the height of 1080 lines."""
AMPLITUDES = ((0.67234, 0.72709), (0.41317, 0.49428), (0.22727, 0.28688), (0.11792, 0.15214))
"""Amplitudes of the wavelets by scale: of horizontal and vertical details, and of diagonal ones
(Watson et al. 1997)."""


def detail(picture: Luma, reference: Luma) -> float:
    """Details of the reference that are left in the picture and are seen, over all of them.

    1: all of them; more where the picture has more contrast, or where there are none."""
    left = whole = 0.0
    for scale in range(SCALES):
        reference, ours = _wavelets(reference)
        picture, theirs = _wavelets(picture)
        found = _scale(theirs, ours, _sensitivity(scale))
        left, whole = left + found[0], whole + found[1]
    return left / whole


def _sensitivity(scale: int) -> Sensitivity:
    """Inverse of the step of each band that is just seen (Watson et al. 1997)."""

    def of(orientation: float, amplitude: float) -> float:
        off = math.log10(2 ** (scale + 1) * 0.401 * orientation / DEGREE)
        return amplitude / (2 * 0.495 * 10 ** (0.466 * off**2))

    straight, diagonal = AMPLITUDES[scale]
    return of(1, straight), of(1, straight), of(0.534, diagonal)


def _scale(picture: Bands, reference: Bands, sensitivity: Sensitivity) -> tuple[float, float]:
    """(details left, details of the reference), as they are seen."""
    height, width = reference[0].shape
    top, left = (max(0, int(side * BORDER - 0.5)) for side in (height, width))
    kept = slice(top, height - top), slice(left, width - left)
    restored = _restored(picture, reference)
    hidden = np.zeros((height, width), np.float32)
    for one, other, sees in zip(picture, restored, sensitivity, strict=True):
        hidden += np.abs(one - other) * np.float32(sees)
    hidden = cv2.filter2D(_mirrored(hidden), cv2.CV_32F, MASK)[1:-1, 1:-1][kept]
    floor = 3 * math.cbrt(hidden.size / 32)
    found = [floor, floor]
    for one, other, sees in zip(restored, reference, sensitivity, strict=True):
        seen = np.maximum(np.abs(one[kept]) * np.float32(sees) - hidden, 0)
        found[0] += _pooled(seen)
        found[1] += _pooled(np.abs(other[kept]) * np.float32(sees))
    return found[0], found[1]


def _restored(picture: Bands, reference: Bands) -> list[Luma]:
    """Details of the picture that are the reference's, made weaker at most; all of them where
    they only have more contrast."""
    (oh, ov, _), (th, tv, _) = reference, picture
    along = oh * th + ov * tv
    stronger = (along >= 0) & (along * along >= ALIKE * (oh * oh + ov * ov) * (th * th + tv * tv))
    found = []
    for one, other in zip(picture, reference, strict=True):
        part = np.clip(one, np.minimum(other, 0), np.maximum(other, 0))
        most = part * np.float32(ENHANCED)
        more = np.clip(one, np.minimum(most, 0), np.maximum(most, 0))
        found.append(np.where(stronger, more, part))
    return found


def _pooled(seen: Luma) -> float:
    """Minkowski sum with an exponent of 3."""
    return math.cbrt(float((seen * seen * seen).sum(dtype=np.float64)))


def _wavelets(picture: Luma) -> tuple[Luma, Bands]:
    """[h, w] in all four: the picture at half the size, and its details."""
    low, high = (cv2.transpose(each) for each in _halves(picture))
    small, vertical = (cv2.transpose(each) for each in _halves(low))
    horizontal, diagonal = (cv2.transpose(each) for each in _halves(high))
    return small, (horizontal, vertical, diagonal)


def _halves(picture: Luma) -> tuple[Luma, Luma]:
    """Low and high pass down the columns, at every second row."""
    count = (len(picture) + 1) // 2
    rows = _mirrored(picture, sides=0)
    if len(picture) % 2:
        rows = np.concatenate([rows, picture[-2:-1]])
    taps = [rows[first : first + 2 * count - 1 : 2] for first in range(4)]
    low, high = (
        sum(tap * np.float32(weight) for tap, weight in zip(taps, weights, strict=True))
        for weights in (LOW, HIGH)
    )
    return np.asarray(low), np.asarray(high)


def _mirrored(picture: Luma, sides: int = 1) -> Luma:
    """With one more row at top and bottom, and as many more columns as `sides` says: mirrored at
    the first pixel there, and beyond the last one here, as libvmaf does it."""
    near = cv2.copyMakeBorder(picture, 1, 0, sides, 0, cv2.BORDER_REFLECT_101)
    return np.asarray(cv2.copyMakeBorder(near, 0, 1, 0, sides, cv2.BORDER_REFLECT), np.float32)
