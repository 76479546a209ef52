"""Pairs of frames as yuv420p, for what compares luma and chroma."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from wan_runtime.evaluation.metrics.frame import Frame, Pair
from wan_runtime.evaluation.metrics.scorer import reference_of
from wan_runtime.rendering.media import EXACT

FORMAT = "yuv420p"


def yuv_pair(pair: Pair) -> tuple[Any, Any]:
    """Two av.VideoFrame in yuv420p, of even sides.

    As they were decoded, if both are stored so and are tagged alike, which is what FFmpeg's program
    compares; else the displayed pictures in BT.709 of limited range."""
    one, other = pair.candidate, reference_of(pair)
    if one.decoded is not None and other.decoded is not None and _alike(one.decoded, other.decoded):
        return one.decoded, other.decoded
    return _converted(one), _converted(other)


def planes_of(frame: Any) -> list[NDArray[np.uint8]]:
    """[H, W] of luma, and [H/2, W/2] of each chroma."""
    found = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        found.append(rows[:, : plane.width])
    return found


def _alike(one: Any, other: Any) -> bool:
    def form(frame: Any) -> tuple[object, ...]:
        return (
            frame.format.name, frame.width, frame.height, frame.colorspace, frame.color_range,
            frame.color_primaries, frame.color_trc,
        )  # fmt: skip

    even = one.width % 2 == 0 and one.height % 2 == 0
    return even and one.format.name == FORMAT and form(one) == form(other)


def _converted(frame: Frame) -> av.VideoFrame:
    height, width = (side // 2 * 2 for side in frame.rgb.shape[:2])
    picture = np.ascontiguousarray(frame.rgb[:height, :width])
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
        format=FORMAT,
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=EXACT,
        threads=1,
    )
