"""Edit lists of MP4: the parts that are shown, frame by frame."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import pytest

import videos
from coloured import encode
from shown import rejection
from wan_runtime.data.clips import read_clip
from wan_runtime.data.dataset import Code

Parts = list[tuple[int, int]]
"""The first frame of each, -1 for a pause, and how many frames it is long."""
CODECS = {
    "libx264": {"bf": "3", "qp": "0", "g": "12", "b-adapt": "0"},
    "libx265": {"x265-params": "lossless=1:bframes=3:keyint=12:b-adapt=0:log-level=none"},
}
"""With frames that are stored in another order than they are shown in."""
COUNT = 60


def grey(level: int) -> av.VideoFrame:
    image = np.full((96, 128, 3), level, np.uint8)
    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")


@cache
def whole(codec: str) -> bytes:
    """As many frames at 16 a second, each 3 levels brighter."""
    frames = [grey(3 * number) for number in range(COUNT)]
    with TemporaryDirectory() as folder:
        path = encode(Path(folder) / "a.mp4", frames, codec=codec, options=CODECS[codec])
        return path.read_bytes()


def edited(path: Path, codec: str, parts: Parts, speed: float = 1) -> Path:
    """An MP4 at 16 frames a second that shows parts; `speed`: of the last."""
    data = whole(codec)
    at = data.index(b"elst")
    own = int.from_bytes(data[at + 16 : at + 20])  # time of the first frame
    speeds = [1.0] * (len(parts) - 1) + [speed]
    entries = b"".join(
        struct.pack(
            ">3i",
            round(count * 1000 / 16),
            own + first * 1024 if first >= 0 else -1,
            round(rate * (1 << 16)),
        )
        for (first, count), rate in zip(parts, speeds, strict=True)
    )
    longer = bytearray(data[: at + 8] + len(parts).to_bytes(4) + entries + data[at + 24 :])
    for name in (b"elst", b"edts", b"trak", b"moov"):
        box = longer.index(name) - 4
        size = int.from_bytes(longer[box : box + 4]) + len(entries) - 12
        longer[box : box + 4] = size.to_bytes(4)
    path.write_bytes(longer)
    return path


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "parts",
    [
        [(10, 10)],
        [(-1, 5), (10, 10)],
        [(10, 10), (-1, 5)],
        [(10, 5), (30, 5)],
        [(10, 5), (20, 7)],
        [(0, 7), (12, 5)],  # a length that is rounded up
        [(12, 6), (33, 5)],
        [(13, 3), (27, 3)],
        [(0, 5), (5, 5), (10, 8)],
        [(30, 5), (10, 5)],
        [(10, 5), (12, 5)],
        [(20, 1)] * 7,
    ],
)
def test_every_frame_of_every_part_is_shown_once(tmp_path: Path, codec: str, parts: Parts) -> None:
    path = edited(tmp_path / "a.mp4", codec, parts)
    shown = [first + number for first, count in parts if first >= 0 for number in range(count)]
    got = read_clip(path, frames=len(shown), fps=16, width=128, height=96)
    assert videos.numbers(got) == shown
    found = rejection(path, len(shown) + 1)
    assert found.code == Code.TOO_SHORT
    assert f"has {len(shown)} frames at 16 fps ({len(shown)} of its own" in found.message


def test_a_part_may_be_longer_than_what_is_there(tmp_path: Path) -> None:
    path = edited(tmp_path / "a.mp4", "libx264", [(57, 20), (70, 2), (30, 2)])
    got = read_clip(path, frames=24, fps=16, width=128, height=96)
    assert videos.numbers(got) == [57, 58, *[59] * 20, 30, 31]


def test_a_part_begins_within_a_frame(tmp_path: Path) -> None:
    """Its remainder is shown, as at any other time."""
    path = edited(tmp_path / "a.mp4", "libx264", [(10, 5), (20, 5)])
    data = path.read_bytes()
    at = data.index(b"elst") + 28
    half = int.from_bytes(data[at : at + 4]) + 512
    path.write_bytes(data[:at] + half.to_bytes(4) + data[at + 4 :])
    got = read_clip(path, frames=20, fps=32, width=128, height=96)
    assert videos.numbers(got) == [10, 10, 11, 11, 12, 12, 13, 13, 14, 14,
                                   20, 21, 21, 22, 22, 23, 23, 24, 24, 25]  # fmt: skip


@pytest.mark.parametrize(
    "parts", [[(10, 5), (-1, 5), (30, 5)], [(-1, 5), (10, 5), (-1, 5), (30, 5)]]
)
def test_a_pause_amid_an_edit_list_is_refused(tmp_path: Path, parts: Parts) -> None:
    found = rejection(edited(tmp_path / "a.mp4", "libx264", parts))
    assert found.code == Code.UNDECODABLE
    assert found.message.startswith("has a pause between two parts of its edit list")


@pytest.mark.parametrize(
    ("parts", "speed", "refused"),
    [
        ([(10, 10)], 0.5, True),
        ([(10, 5), (20, 5)], 2, True),
        ([(10, 5), (20, 5)], 0, True),
        ([(10, 10)], 0, False),
    ],
)
def test_a_part_at_another_speed_is_refused(
    tmp_path: Path, parts: Parts, speed: float, refused: bool
) -> None:
    path = edited(tmp_path / "a.mp4", "libx264", parts, speed)
    if refused:
        found = rejection(path)
        assert found.code == Code.UNDECODABLE
        assert f"shows a part of its edit list at {speed:g} times its speed" in found.message
    else:
        got = read_clip(path, frames=10, fps=16, width=128, height=96)
        assert videos.numbers(got) == list(range(10, 20))
