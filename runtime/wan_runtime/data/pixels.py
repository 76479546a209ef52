"""The pixels of an accepted clip, as training and sampling see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wan_runtime.artifacts.store import Store
from wan_runtime.data.clips import read_clip, read_picture
from wan_runtime.data.dataset import Clip, bring


def frames_of(
    store: Store, clip: Clip, fps: float, folder: Path, start: int = 0
) -> NDArray[np.uint8]:
    """uint8 [F, H, W, 3] of a clip's window, which begins with frame `start` at `fps`.

    The clip is fetched into `folder` for as long as it is read."""
    path = folder / f"{clip.sha256}{Path(clip.path).suffix}"
    bring(store, clip, path)
    try:
        return read_clip(
            path,
            frames=clip.size.frames,
            fps=fps,
            width=clip.size.width,
            height=clip.size.height,
            start=start,
        )
    finally:
        path.unlink(missing_ok=True)


def first_frame_of(
    store: Store, clip: Clip, frames: NDArray[np.uint8], folder: Path
) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] that the model starts from: the clip's picture, else the first of its
    `frames`."""
    if clip.first_frame is None:
        own: NDArray[np.uint8] = frames[0]
        return own
    path = folder / clip.first_frame.sha256
    bring(store, clip.first_frame, path)
    try:
        return read_picture(path, width=clip.size.width, height=clip.size.height)
    finally:
        path.unlink(missing_ok=True)
