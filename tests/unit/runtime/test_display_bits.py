"""Pixels as a player shows them, to the last bit and the last row."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

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


def ramp(form: str, *, full: bool) -> tuple[av.VideoFrame, NDArray[np.float64]]:
    """1024 columns from black to white, opaque, and the level of each from 0 to 255."""
    frame = av.VideoFrame(1024, 16, form)
    parts = frame.format.components
    bits, number = parts[0].bits, -(-len(parts) // len(frame.planes))
    unit, top = 2 ** (bits - 8), 2**bits - 1
    first, last = (0, top) if full else (16 * unit, 235 * unit)
    levels = np.linspace(first, last, 1024).round()
    for index, plane in enumerate(frame.planes):
        pixels = np.repeat(levels[:, None], number, axis=1)
        if form.startswith("yuv") and index in (1, 2):
            pixels[:] = 128 * unit
        if index == 3:
            pixels[:] = top
        if number in (2, 4):
            pixels[:, -1] = top
        line = pixels.astype(np.uint8 if bits == 8 else np.uint16).tobytes()[: plane.line_size]
        plane.update(line.ljust(plane.line_size, b"\0") * plane.height)
    frame.colorspace, frame.color_range = 1, 2 if full else 1
    return frame, (levels - first) / (last - first) * 255


@pytest.mark.parametrize(
    ("form", "full"),
    [
        *((form, False) for form in ("yuv420p10le", "yuva420p", "yuva444p10le", "gray10le")),
        *((form, False) for form in ("gray", "gbrp", "gbrp10le")),
        *((form, True) for form in ("yuv420p10le", "yuv422p12le", "yuv444p16le", "gray16le")),
        *((form, True) for form in ("gbrp10le", "gbrp16le", "rgb48le", "yuva420p")),
        *((form, True) for form in ("gbrap", "gbrap12le", "gbrap16le", "rgba", "rgba64le", "ya8")),
    ],
)
def test_greys_of_every_depth_are_the_nearest_of_8_bits(form: str, full: bool) -> None:
    frame, levels = ramp(form, full=full)
    display = Display(Facts())
    display.measure(frame)
    off = display.pixels(frame) - levels[:, None]
    # Half a level, and half a step of 10 bits.
    assert np.abs(off).max() < 0.65
    assert abs(off.mean()) < 0.15
