"""The pixels of an accepted clip, as training and sampling see them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.reasons import Reason
from wan_runtime.data.clips import read_clip, read_picture
from wan_runtime.data.dataset import Clip, StoredFile, bring
from wan_runtime.data.decode import suffix_of
from wan_runtime.data.facts import ClipRejected
from wan_runtime.errors import InputError


def frames_of(
    store: Store, clip: Clip, fps: float, folder: Path, start: int = 0
) -> NDArray[np.uint8]:
    """uint8 [F, H, W, 3] of a clip's window, which begins with frame `start` at `fps`.

    The clip is fetched into `folder` for as long as it is read. Raises InputError(CLIP_INVALID)."""
    with _accepted_before(clip):
        return window_of(store, clip, fps, folder, start)


def first_frame_of(
    store: Store, clip: Clip, frames: NDArray[np.uint8], folder: Path
) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] that the model starts from: the clip's picture, else the first of its
    `frames`. Raises InputError(CLIP_INVALID)."""
    with _accepted_before(clip.first_frame or clip):
        return start_of(store, clip, frames, folder)


def window_of(
    store: Store, clip: Clip, fps: float, folder: Path, start: int = 0
) -> NDArray[np.uint8]:
    """`frames_of` a clip that was not checked for its bucket. Raises ClipRejected."""
    with _brought(store, clip, folder) as path:
        return read_clip(
            path,
            frames=clip.size.frames,
            fps=fps,
            width=clip.size.width,
            height=clip.size.height,
            start=start,
        )


def start_of(
    store: Store, clip: Clip, frames: NDArray[np.uint8], folder: Path
) -> NDArray[np.uint8]:
    """`first_frame_of` a clip that was not checked for its bucket. Raises ClipRejected."""
    if clip.first_frame is None:
        own: NDArray[np.uint8] = frames[0]
        return own
    with _brought(store, clip.first_frame, folder) as path:
        return read_picture(path, width=clip.size.width, height=clip.size.height)


@contextmanager
def _brought(store: Store, file: Clip | StoredFile, folder: Path) -> Iterator[Path]:
    """The file, for as long as it is read."""
    path = folder / f"{file.sha256}{suffix_of(file.path)}"
    bring(store, file, path)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _accepted_before(file: Clip | StoredFile) -> Iterator[None]:
    """Raises InputError(CLIP_INVALID) for ClipRejected: the file was accepted, but by a release
    that read it otherwise."""
    try:
        yield
    except ClipRejected as rejection:
        raise InputError(
            Reason.CLIP_INVALID,
            f"{file.path} {rejection.message}; an earlier release accepted it: start the run anew",
        ) from rejection
