"""Videos of a moving texture: `python texture_videos.py FOLDER` prints their digests, from one
core."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import numpy as np

from wan_runtime.rendering.media import write_mp4

SIZES = ((80, 48), (96, 64), (832, 480))
FRAMES = 21
"""Two segments, of which the second has more frames than an encoder has threads."""


def digests(folder: Path) -> list[str]:
    """SHA-256 of each file."""
    return [_digest(folder / "video.mp4", *size) for size in SIZES]


def _digest(path: Path, width: int, height: int) -> str:
    noise = np.random.default_rng(width).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    tile = np.kron(noise, np.ones((4, 4, 1), np.uint8))
    frames = np.stack([np.roll(tile, (2 * at, 3 * at), (0, 1)) for at in range(FRAMES)])
    write_mp4(frames, path, 16)
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(*digests(Path(sys.argv[1])))
