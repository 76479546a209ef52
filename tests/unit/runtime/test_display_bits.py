"""Pixels as a player shows them, to the last bit and the last row."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from coloured import encode
from wan_runtime.data.clips import read_clip
from wan_runtime.data.display import EXACT, Display
from wan_runtime.data.facts import Facts
from wan_runtime.data.filters import Chain


@pytest.mark.parametrize("tags", [(1, 1), (1, 2), (6, 1)], ids=str)
@pytest.mark.parametrize("size", [(1280, 720), (128, 98), (136, 34), (8, 2), (129, 96), (129, 97)])
def test_the_short_way_to_rgb_gives_the_same_bits(
    size: tuple[int, int], tags: tuple[int, int]
) -> None:
    frame = av.VideoFrame(*size, "yuv420p")
    values = np.random.default_rng(0)
    for plane in frame.planes:
        plane.update(values.bytes(plane.buffer_size))
    frame.colorspace, frame.color_range = tags
    display = Display(Facts())
    display.measure(frame)
    levels, matrix = ("tv", "pc")[tags[1] - 1], {1: "bt709", 6: "smpte170m"}[tags[0]]
    direct = Chain(
        frame,
        ("setparams", f"range={levels}:colorspace={matrix}"),
        ("scale", f"flags=bilinear+{EXACT}"),
        ("format", "rgb24"),
    )
    direct.push(frame)
    assert np.array_equal(display.pixels(frame), next(direct.ready()).to_ndarray())


def test_what_is_transparent_is_right_to_its_last_row(tmp_path: Path) -> None:
    image = np.full((96, 128, 4), 255, np.uint8)
    image[..., :3] = np.random.default_rng(0).integers(0, 256, (96, 128, 3))
    frame = av.VideoFrame.from_ndarray(image, format="rgba").reformat(format="bgra")
    path = encode(tmp_path / "clip.mkv", [frame])
    got = read_clip(path, frames=1, fps=16, width=128, height=96)[0]
    assert np.array_equal(got, image[..., :3])
