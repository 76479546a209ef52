"""The clip files: how they are written, and which of them nothing trains on."""

from __future__ import annotations

from pathlib import Path

from wan_runtime.rendering.media import Frames, write_mp4

__all__ = ["FPS", "HELD_OUT", "Frames", "write"]

FPS = 16
HELD_OUT = ("bikes", "carphone_pristine", "dm_control-quadruped", "photograph-coffee")
"""Nothing trains on these. The package that ships the first two states no licence for them: they
are measured with, no more."""


def write(path: Path, frames: Frames) -> None:
    """Write H.264 at 16 frames a second."""
    write_mp4(frames, path, FPS)
