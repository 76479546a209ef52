"""Pictures whose colours tests look at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

import videos
from wan_runtime.data.picture import cut

Picture = NDArray[np.uint8]
"""[H, W, 3], sRGB."""

BARS = (
    (255, 255, 255), (255, 255, 0), (0, 255, 255), (0, 255, 0),
    (255, 0, 255), (255, 0, 0), (0, 0, 255), (0, 0, 0),
)  # fmt: skip
SKIN = (
    (255, 224, 189), (234, 192, 134), (255, 205, 148), (200, 140, 110),
    (198, 134, 66), (141, 85, 36), (92, 51, 23), (60, 30, 16),
)  # fmt: skip
SATURATED = ((255, 0, 128), (0, 255, 128), (128, 0, 255), (255, 128, 0))


def stripes(width: int, height: int, colours: tuple[tuple[int, int, int], ...]) -> Picture:
    """Equal parts of the longer side."""
    long = max(width, height)
    line = np.array(colours, np.uint8)[np.arange(long) * len(colours) // long]
    lines = np.broadcast_to(line, (min(width, height), long, 3))
    return np.ascontiguousarray(lines if width >= height else lines.swapaxes(0, 1))


def gradient(width: int, height: int) -> Picture:
    """Red to the right, green down, blue to the left."""
    across, down = np.linspace(0, 255, width)[None, :], np.linspace(0, 255, height)[:, None]
    channels = np.broadcast_arrays(across, down, 255 - across)
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def texture(width: int, height: int) -> Picture:
    """A frame of a film: fur, leaves and grass."""
    return np.asarray(cut(Image.fromarray(videos.pixels("bigbuckbunny", 1)[0]), width, height))


def pictures(width: int, height: int) -> dict[str, Picture]:
    """One of each kind."""
    return {
        "bars": stripes(width, height, BARS),
        "skin": stripes(width, height, SKIN),
        "saturated": stripes(width, height, SATURATED),
        "gradient": gradient(width, height),
        "texture": texture(width, height),
    }


def off(one: Picture, other: Picture) -> float:
    """The mean difference of two pictures, of the channel where it is largest."""
    return float(np.abs(one.astype(int) - other).mean(axis=(0, 1)).max())


def smooth(picture: Picture) -> NDArray[np.bool_]:
    """[H, W]: pixels with no edge two pixels around them."""
    image = Image.fromarray(picture)
    most, least = (
        np.asarray(image.filter(kind(5)), int)
        for kind in (ImageFilter.MaxFilter, ImageFilter.MinFilter)
    )
    smooth: NDArray[np.bool_] = (most - least).max(axis=-1) < 32
    return smooth
