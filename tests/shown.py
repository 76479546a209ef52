"""What a clip shows, by our readers and by FFmpeg's program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import coloured
from coloured import PATCHES
from wan_runtime.data.clips import check_clip, read_clip
from wan_runtime.data.facts import ClipRejected

Pixels = NDArray[np.uint8]


def shown(path: Path, width: int = 128, height: int = 96) -> Pixels:
    """The first frame, and the stills of the check are the same picture."""
    image: Pixels = read_clip(path, frames=5, fps=16, width=width, height=height)[0]
    small = check_clip(path, frames=5, fps=16, width=width, height=height).stills[0]
    side = small.shape[1], small.shape[0]
    again = np.asarray(Image.fromarray(image).resize(side, Image.Resampling.BOX)).astype(int)
    assert np.abs(again - small).mean() < 3
    return image


def rejection(path: Path, frames: int = 5) -> ClipRejected:
    """What both readers say of it."""
    with pytest.raises(ClipRejected) as caught:
        check_clip(path, frames=frames, fps=16, width=128, height=96)
    with pytest.raises(ClipRejected) as again:
        read_clip(path, frames=frames, fps=16, width=128, height=96)
    assert str(again.value) == str(caught.value)
    return caught.value


def colours(path: Path, count: int = len(PATCHES), width: int = 128) -> NDArray[np.float64]:
    """[N, 3]: what the first frame has in the middle of each of `count` columns."""
    return coloured.centres(shown(path, width), count)


def made_by_ffmpeg(path: Path, source: str, *options: str) -> Path:
    """A clip of a second by the program, which has encoders that PyAV lacks. `source`: a graph of
    filters."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", source]
    subprocess.run([*command, "-t", "1", *options, str(path)], check=True)
    return path


def copied_by_ffmpeg(path: Path, to: Path, *options: str) -> Path:
    """The streams of a clip in another container."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-c", "copy"]
    subprocess.run([*command, *options, str(to)], check=True)
    return to


def by_ffmpeg(path: Path, width: int, height: int, *filters: str) -> Pixels:
    """The first frame by the program, which turns frames itself."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-frames:v", "1"]
    command += ["-vf", ",".join([*filters, "format=rgb24"]), "-f", "rawvideo", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(height, width, 3)
