"""GIFs are read at the pace of browsers."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wan_runtime.data.clips import check_clip, read_clip
from wan_runtime.data.facts import ClipRejected

FIELD = re.compile(rb"\x21\xf9\x04(.)..", re.DOTALL)
"""Block before each frame: flags, then its delay in hundredths of a second."""


def gif(path: Path, delays: Sequence[int]) -> Path:
    """Frames of rising brightness with these delays, in hundredths of a second."""
    levels = [20 + 200 * number // len(delays) for number in range(len(delays))]
    frames = [Image.new("L", (128, 96), level) for level in levels]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50, loop=0)
    each = iter(delays)
    data, count = FIELD.subn(
        lambda found: b"\x21\xf9\x04" + found[1] + next(each).to_bytes(2, "little"),
        path.read_bytes(),
    )
    assert count == len(delays)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("delays", "rate", "duration"),
    [
        ([0] * 10, 10, 1.0),
        ([1] * 10, 10, 1.0),
        ([2] * 10, 50, 0.2),
        ([10] * 10, 10, 1.0),
        ([25] * 10, 4, 2.5),
    ],
)
def test_a_delay_of_ten_milliseconds_or_less_is_a_tenth_of_a_second(
    tmp_path: Path, delays: list[int], rate: float, duration: float
) -> None:
    """As in Chromium, Firefox and WebKit: ten frames are a second, not a tenth of one."""
    path = gif(tmp_path / "clip.gif", delays)
    facts = check_clip(path, frames=10, fps=rate, width=64, height=48)
    assert (facts.fps, facts.duration) == (rate, pytest.approx(duration))
    pixels = read_clip(path, frames=10, fps=rate, width=64, height=48)
    levels = [int(frame[24, 32, 1]) for frame in pixels]
    assert np.diff(levels) == pytest.approx(20, abs=2), "every frame once"


def test_a_pause_among_hurried_frames_keeps_its_length(tmp_path: Path) -> None:
    path = gif(tmp_path / "clip.gif", [1, 1, 30, 1, 1])
    pixels = read_clip(path, frames=7, fps=10, width=64, height=48)
    levels = [round((int(frame[24, 32, 1]) - 20) / 40) for frame in pixels]
    assert levels == [0, 1, 2, 2, 2, 3, 4]


COLOURS = np.array([(200, 30, 30), (30, 160, 30), (30, 30, 200), (250, 250, 0)])
BACKGROUND = 2
"""Entry of the palette that the file calls its background, and no browser shows."""
Part = tuple[int, int, int, int, int | None]
"""Place and side of a square, its colour, what happens to it afterwards, the transparent colour."""


def drawn(path: Path, parts: Sequence[Part], *, shared: bool = True) -> Path:
    """A GIF of 32x32 pixels of squares, each shown for a fifth of a second."""
    palette = COLOURS.astype(np.uint8).tobytes()
    data = b"GIF89a" + struct.pack("<HHBBB", 32, 32, 0x81 if shared else 0, BACKGROUND, 0)
    data += palette if shared else b""
    for place, side, colour, disposal, hidden in parts:
        flags = disposal << 2 | (hidden is not None)
        data += b"\x21\xf9\x04" + struct.pack("<BHBB", flags, 20, hidden or 0, 0)
        data += b"," + struct.pack("<5H", place, place, side, side, 0)[:8]
        data += b"\0" if shared else b"\x81" + palette
        # The table is cleared after every pixel, so that all codes have 3 bits.
        codes = [code for _ in range(side * side) for code in (4, colour)] + [5]
        bits = "".join(f"{code:03b}" for code in reversed(codes))
        image = int(bits, 2).to_bytes(len(codes) * 3 // 8 + 1, "little")
        data += b"\2"
        for at in range(0, len(image), 255):
            block = image[at : at + 255]
            data += bytes([len(block)]) + block
        data += b"\0"
    path.write_bytes(data + b";")
    return path


@pytest.mark.parametrize("shared", [True, False], ids=["one palette", "palettes"])
@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # Smaller than the canvas at first.
        ([(8, 16, 1, 1, None), (8, 8, 3, 1, None)], [(None, 1, 1), (None, 3, 1)]),
        ([(8, 16, 1, 1, 0), (8, 8, 3, 1, 0)], [(None, 1, 1), (None, 3, 1)]),
        # Taken away: 2; put back as it was before: 3.
        ([(0, 32, 1, 2, None), (8, 8, 2, 2, None)], [(1, 1, 1), (None, 2, None)]),
        ([(0, 32, 1, 2, 3), (8, 8, 2, 2, 3)], [(1, 1, 1), (None, 2, None)]),
        ([(0, 32, 1, 2, None), (8, 8, 2, 1, 2)], [(1, 1, 1), (None, None, None)]),
        ([(0, 32, 1, 1, None), (8, 8, 2, 3, None), (16, 8, 0, 1, None)],
         [(1, 1, 1), (1, 2, 1), (1, 1, 0)]),
        ([(0, 32, 1, 3, None), (8, 8, 2, 1, None)], [(1, 1, 1), (None, 2, None)]),
    ],
)  # fmt: skip
def test_where_a_gif_has_no_picture_it_is_white(
    tmp_path: Path, parts: list[Part], expected: list[tuple[int | None, ...]], shared: bool
) -> None:
    """As in browsers, which leave the background colour aside."""
    path = drawn(tmp_path / "clip.gif", parts * 3, shared=shared)
    pixels = read_clip(path, frames=len(parts), fps=5, width=32, height=32)
    white = (255, 255, 255)
    for frame, numbers in zip(pixels, expected, strict=True):
        wanted = [white if each is None else tuple(COLOURS[each]) for each in numbers]
        assert [tuple(frame[at, at]) for at in (2, 10, 18)] == wanted


def test_a_gif_that_is_cut_off_is_rejected_as_before(tmp_path: Path) -> None:
    path = drawn(tmp_path / "clip.gif", [(0, 32, 1, 1, None)] * 6)
    data = path.read_bytes()
    for end in (12, 20, 30, 45, 200, len(data) // 2):
        path.write_bytes(data[:end])
        with pytest.raises(ClipRejected):
            read_clip(path, frames=6, fps=5, width=32, height=32)
