"""GIFs are read at the pace of browsers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wan_runtime.data.clips import check_clip, read_clip

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
