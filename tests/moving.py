"""Small clips that are quick to make. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FRAMES, WIDTH, HEIGHT = 9, 64, 48


def moving_picture(
    number: int, frames: int = FRAMES, width: int = WIDTH, height: int = HEIGHT
) -> NDArray[np.uint8]:
    """uint8 [frames, height, width, 3]: smooth colours that drift, different for each number."""
    time, y, x = np.mgrid[:frames, :height, :width].astype(np.float32)
    red = 128 + 100 * np.sin((x + 4 * time + 20 * number) / 12)
    green = 128 + 100 * np.cos((y + 7 * number) / 9)
    blue = 128 + 80 * np.sin((x + y - 3 * time) / 15 + number)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)
