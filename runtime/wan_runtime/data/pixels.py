"""The pixels of an accepted clip, as training and sampling see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wan_runtime.artifacts.store import Store
from wan_runtime.data.clips import read_clip, read_picture
from wan_runtime.data.dataset import Clip, bring
from wan_runtime.job import DatasetSpec


def frames_of(
    store: Store, clip: Clip, size: DatasetSpec, folder: Path, start: int = 0
) -> NDArray[np.uint8]:
    """uint8 [F, H, W, 3] of a clip's window, which begins with frame `start` at the target rate.

    The clip is fetched into `folder` for as long as it is read."""
    path = folder / f"{clip.sha256}{Path(clip.path).suffix}"
    bring(store, clip, path)
    try:
        return read_clip(
            path,
            frames=size.frames,
            fps=size.fps,
            width=size.width,
            height=size.height,
            start=start,
        )
    finally:
        path.unlink(missing_ok=True)


def first_frame_of(
    store: Store, clip: Clip, frames: NDArray[np.uint8], size: DatasetSpec, folder: Path
) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] that the model starts from: the clip's picture, else the first of its
    `frames`."""
    if clip.first_frame is None:
        own: NDArray[np.uint8] = frames[0]
        return own
    path = folder / clip.first_frame.sha256
    bring(store, clip.first_frame, path)
    try:
        return read_picture(path, width=size.width, height=size.height)
    finally:
        path.unlink(missing_ok=True)
