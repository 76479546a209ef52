"""The clip files: how they are written, and which of them nothing trains on."""

from __future__ import annotations

from pathlib import Path

from wan_runtime.rendering.media import Frames, write_mp4

__all__ = ["FPS", "HELD_OUT", "Frames", "write"]

FPS = 16
HELD_OUT = ("carphone_pristine", "dm_control-dog", "metaworld-window-open", "photograph-coffee")


def write(path: Path, frames: Frames) -> None:
    """H.264 at 16 frames a second."""
    write_mp4(frames, path, FPS)
