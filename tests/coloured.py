"""Clips of known colours, coded by the formulas of the standards and not by FFmpeg."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

# Shapes: N colours, H W rows and columns.

LUMA = {
    1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114),
    7: (0.212, 0.087), 9: (0.2627, 0.0593),
}  # fmt: skip
"""Shares of red and blue by matrix, as ITU-T H.273 counts these."""
PATCHES = np.array(
    [(60, 190, 60), (224, 172, 140), (255, 0, 0), (0, 255, 0), (0, 0, 255), (16, 16, 16),
     (128, 128, 128), (235, 235, 235)], np.float64,
)  # fmt: skip
"""[N, 3] of 255."""


def patches(
    colours: NDArray[np.float64], form: str, matrix: int, *, full: bool, size: tuple[int, int]
) -> av.VideoFrame:
    """Columns of colours [N, 3] of 255 as Y'CbCr, `size` wide and high."""
    bits = av.VideoFormat(form).components[0].bits
    red, blue = LUMA[matrix]
    r, g, b = (colours / 255).T
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    unit, top = 2 ** (bits - 8), 2**bits - 1
    if full:
        planes = [y * top, 128 * unit + u * top, 128 * unit + v * top]
    else:
        planes = [(16 + 219 * y) * unit] + [(128 + 224 * each) * unit for each in (u, v)]
    frame = av.VideoFrame(*size, form)
    dtype = np.uint16 if bits > 8 else np.uint8
    for plane, levels in zip(frame.planes, planes, strict=False):
        row = np.repeat(np.clip(np.round(levels), 0, top), plane.width // len(colours))
        rows = np.zeros((plane.height, plane.line_size // dtype().itemsize), dtype)
        rows[:, : len(row)] = row
        plane.update(rows.tobytes())
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    return frame


def to_rgb(frame: av.VideoFrame, matrix: int) -> NDArray[np.float64]:
    """[H, W, 3] of 255 of a frame in yuv420p of limited range, its chroma between four pixels."""
    y, *chroma = (
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    )
    u, v = (_doubled(_doubled(plane.astype(float)).T).T / 224 - 128 / 224 for plane in chroma)
    luma = (y.astype(float) - 16) / 219
    red, blue = LUMA[matrix]
    r, b = luma + 2 * (1 - red) * v, luma + 2 * (1 - blue) * u
    g = (luma - red * r - blue * b) / (1 - red - blue)
    return np.clip(np.stack([r, g, b], axis=-1), 0, 1) * 255


def _doubled(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """[2H, W]: linear between the rows, which lie between two new ones."""
    above, below = (
        np.concatenate([plane[:1], plane[:-1]]),
        np.concatenate([plane[1:], plane[-1:]]),
    )
    halves = np.stack([0.75 * plane + 0.25 * above, 0.75 * plane + 0.25 * below], axis=1)
    return halves.reshape(-1, plane.shape[1])


def centres(image: NDArray[Any], count: int) -> NDArray[np.float64]:
    """[N, 3]: what the middle of each of `count` columns has."""
    width = image.shape[1]
    middles = [(2 * number + 1) * width // (2 * count) for number in range(count)]
    return image[image.shape[0] // 2, middles].astype(np.float64)


def encode(
    path: Path,
    frames: Iterable[av.VideoFrame],
    *,
    codec: str = "ffv1",
    fps: int | Fraction = 16,
    options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    clock: Fraction | None = None,
    turn: tuple[int, bool] | Sequence[int] | None = None,
    **settings: Any,
) -> Path:
    """Frames as they are, without loss unless the codec is told otherwise.

    `times`: of each frame in ticks of `clock`. `turn`: (degrees, mirrored), or nine numbers of a
    display matrix. `settings`: of the codec's context."""
    clock = clock or 1 / Fraction(fps)
    with av.open(str(path), "w") as container:
        stream: Any = None
        for number, frame in enumerate(frames):
            if stream is None:
                stream = container.add_stream(codec, rate=fps)
                stream.width, stream.height = frame.width, frame.height
                stream.pix_fmt = frame.format.name
                stream.thread_count = 1
                stream.options = options or {}
                stream.codec_context.time_base = clock
                for name, value in settings.items():
                    setattr(stream.codec_context, name, value)
                if turn is not None and len(turn) == 2:
                    stream.set_display_rotation(turn[0], hflip=turn[1])
                elif turn is not None:
                    stream.set_display_matrix(turn)
            frame.pts, frame.time_base = number if times is None else times[number], clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def still(frame: av.VideoFrame, count: int = 6) -> list[av.VideoFrame]:
    """One frame, shown for as long as several: the same object."""
    return [frame] * count
