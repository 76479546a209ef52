"""The clip files: how they are written, and which of them nothing trains on."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

FPS = 16
Frames = NDArray[np.uint8]
"""[F, H, W, 3]."""
HELD_OUT = ("carphone_pristine", "dm_control-dog", "metaworld-window-open", "photograph-coffee")


def write(path: Path, frames: Frames) -> None:
    """H.264 at 16 frames a second."""
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.options = {"crf": "20", "preset": "medium", "threads": "1"}
        for picture in frames:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        target.mux(stream.encode(None))
