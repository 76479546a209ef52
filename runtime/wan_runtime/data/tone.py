"""Colours of other displays as one of BT.709 shows them: HDR, and wide gamuts.

A table of colours for FFmpeg's `haldclut`. swscale knows these conversions too, and tone-maps for
the brightest that PQ can say: without metadata, white comes out at 156 of 255 levels. Its own
tables take seconds for every clip.

Sources: SMPTE ST 2084 (PQ), ITU-R BT.2100 (HLG), BT.2408 (203 cd/m2 for white), BT.2390 section
5.4 (the curve), BT.1886 (what a display of BT.709 makes of its levels), SMPTE EG 432-1 (P3).
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Transfer = Literal["PQ", "HLG", "SDR"]
Primaries = Literal["BT.709", "BT.2020", "P3"]
Array = NDArray[np.float64]

NODES = 64
"""A side of the table: `haldclut` wants the square of a whole number."""
PEAK = 1000.0
"""cd/m2: what phones master for, and what HLG is defined by. What is brighter becomes white."""
WHITE = 203.0
"""cd/m2 of a white sheet in HDR; of the brightest in SDR."""
DISPLAY_GAMMA = 2.4
_CHROMATICITIES: dict[Primaries, tuple[tuple[float, float], ...]] = {
    "BT.709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    "BT.2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "P3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_D65 = (0.3127, 0.3290)


@cache
def table(transfer: Transfer, primaries: Primaries) -> NDArray[np.uint16]:
    """[512, 512, 3]: BT.709 of every colour of a grid, red fastest, then green, then blue."""
    axis = np.linspace(0, 1, NODES)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    side = round(NODES**1.5)
    converted = convert(np.stack([red, green, blue], axis=-1), transfer, primaries)
    return np.round(converted * 65535).astype(np.uint16).reshape(side, side, 3)


def convert(rgb: Array, transfer: Transfer, primaries: Primaries) -> Array:
    """BT.709 levels [..., 3] of the levels of another display, all from 0 to 1."""
    if transfer == "SDR":
        light = rgb**DISPLAY_GAMMA
    else:
        nits = _from_pq(rgb) if transfer == "PQ" else _from_hlg(rgb, primaries)
        light = _from_pq(_dimmed(_to_pq(nits))) / WHITE
    to_709 = np.linalg.inv(_to_xyz("BT.709")) @ _to_xyz(primaries)
    return np.clip(light @ to_709.T, 0, 1) ** (1 / DISPLAY_GAMMA)


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _from_pq(level: Array) -> Array:
    """cd/m2."""
    root = level ** (1 / _M2)
    light: Array = 10000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)
    return light


def _to_pq(nits: Array) -> Array:
    root = (nits / 10000) ** _M1
    level: Array = ((_C1 + _C2 * root) / (1 + _C3 * root)) ** _M2
    return level


def _from_hlg(level: Array, primaries: Primaries) -> Array:
    """cd/m2 on the display of PEAK that it is defined by: the scene's light, and its contrast
    raised by 1.2."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(level <= 0.5, level**2 / 3, (np.exp((level - c) / a) + b) / 12)
    luminance = scene @ _to_xyz(primaries)[1]
    nits: Array = PEAK * luminance[..., None] ** 0.2 * scene
    return nits


def _dimmed(level: Array) -> Array:
    """PQ levels up to PEAK, drawn below WHITE: dark and middle tones stay."""
    peak = float(_to_pq(np.array(PEAK)))
    top = float(_to_pq(np.array(WHITE))) / peak
    knee = 1.5 * top - 0.5
    x = np.minimum(level / peak, 1)
    t = (x - knee) / (1 - knee)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * top
    )
    dimmed: Array = np.where(x < knee, x, spline) * peak
    return dimmed


def _to_xyz(primaries: Primaries) -> Array:
    """[3, 3]: XYZ of linear RGB, D65 at Y = 1."""
    columns = [[x / y, 1, (1 - x - y) / y] for x, y in _CHROMATICITIES[primaries]]
    x, y = _D65
    base = np.array(columns).T
    matrix: Array = base * np.linalg.solve(base, np.array([x / y, 1, (1 - x - y) / y]))
    return matrix
