"""Clips without loss for tests of metrics, and what their pictures hold."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

import coloured
import videos

Picture = NDArray[np.uint8]


def lossless(
    path: Path, images: Iterable[Picture], fps: int | Fraction = 16, **settings: Any
) -> Path:
    """RGB as it is, in FFV1."""
    frames = (
        av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(
            format="bgr0"
        )
        for image in images
    )
    return coloured.encode(path, frames, fps=fps, **settings)


def film(count: int = 9, height: int = 96, width: int = 128, start: int = 0) -> list[Picture]:
    """A part of a real film that moves."""
    return [each[80 : 80 + height, 200 : 200 + width] for each in videos.pixels("bikes")[start:]][
        :count
    ]


def noisy(images: Iterable[Picture], levels: int = 9, seed: int = 0) -> list[Picture]:
    """The same with noise of up to so many levels."""
    clean = np.stack([*images])
    noise = np.random.default_rng(seed).integers(-levels, levels + 1, clean.shape)
    return [*np.clip(clean.astype(int) + noise, 0, 255).astype(np.uint8)]


def panned(
    count: int, step: tuple[float, float], height: int = 144, width: int = 192
) -> list[Picture]:
    """A camera that moves by (down, right) whole pixels a frame over a still picture."""
    picture = videos.pixels("bigbuckbunny")[20]
    places = [(200 + round(step[0] * n), 400 + round(step[1] * n)) for n in range(count)]
    return [picture[top : top + height, left : left + width] for top, left in places]
