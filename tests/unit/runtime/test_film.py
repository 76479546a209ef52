"""Videos and contact sheets as files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import texture_videos
from colours import BARS, stripes
from wan_runtime.rendering.media import contact_sheet, write_mp4

BT709 = 1
"""In ITU-T H.273, for the matrix, the primaries and the transfer alike."""


@pytest.mark.parametrize("size", [(1280, 720), (832, 480), (128, 96)])
def test_colours_are_converted_by_the_matrix_that_is_told(
    size: tuple[int, int], tmp_path: Path
) -> None:
    path = tmp_path / "bars.mp4"
    write_mp4(np.stack([stripes(*size, BARS)] * 2), path, 16)
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        tags = (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range)
        assert tags == (BT709, BT709, BT709, 1)
        planes = [_plane(each) for each in next(container.decode(video=0)).planes]
    for number, colour in enumerate(BARS):
        at = (2 * number + 1) / (2 * len(BARS))
        found = [float(each[each.shape[0] // 2, int(each.shape[1] * at)]) for each in planes]
        assert found == pytest.approx(_yuv(colour), abs=1), colour


def test_the_container_tells_of_colours_too(tmp_path: Path) -> None:
    path = tmp_path / "short.mp4"
    write_mp4(np.zeros((2, 48, 64, 3), np.uint8), path, 16)
    limited = b"\x00"
    assert b"colrnclx" + 3 * BT709.to_bytes(2, "big") + limited in path.read_bytes()


def test_videos_start_playing_before_they_are_loaded(tmp_path: Path) -> None:
    path = tmp_path / "short.mp4"
    write_mp4(np.zeros((2, 48, 64, 3), np.uint8), path, 16)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_equal_frames_are_equal_bytes(tmp_path: Path) -> None:
    """On any number of cores, and whatever memory held before: glibc fills it with the byte named
    here."""
    first = texture_videos.digests(tmp_path)
    assert len(set(first)) == len(first)
    assert texture_videos.digests(tmp_path) == first
    for byte in ("85", "170"):
        command = [sys.executable, texture_videos.__file__, str(tmp_path)]
        environment = os.environ | {"MALLOC_PERTURB_": byte}
        told = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
        assert told.stdout.split() == first


def test_frames_are_not_cut_into_slices(tmp_path: Path) -> None:
    """x264 says so in the stream. Slices would make files larger."""
    path = tmp_path / "short.mp4"
    write_mp4(np.zeros((2, 480, 64, 3), np.uint8), path, 16)
    assert b" sliced_threads=0 " in path.read_bytes()


def _plane(plane: av.VideoPlane) -> NDArray[np.uint8]:
    lines = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return lines[:, : plane.width]


def _yuv(colour: tuple[int, int, int]) -> list[float]:
    """ITU-R BT.709-6, 3.2 to 3.5, for 8 bits."""
    red, green, blue = (each / 255 for each in colour)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    blueness, redness = (blue - luma) / 1.8556, (red - luma) / 1.5748
    return [16 + 219 * luma, 128 + 224 * blueness, 128 + 224 * redness]


def test_contact_sheet_has_a_row_a_video(tmp_path: Path) -> None:
    rows = [
        (name, np.full((9, 48, 64, 3), shade, np.uint8)) for name, shade in (("a", 40), ("b", 90))
    ]
    contact_sheet(rows, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    column = pixels[:, 120, 0]
    assert list(dict.fromkeys(value for value in column if value in (40, 90))) == [40, 90]


@pytest.mark.parametrize(
    ("count", "keyframes"),
    [(1, [0]), (17, [0]), (18, [0]), (19, [0, 16]), (33, [0, 16]), (37, [0, 16, 32])],
)
def test_parts_that_are_encoded_side_by_side_are_one_video(
    count: int, keyframes: list[int], tmp_path: Path
) -> None:
    levels = [20 + 6 * number for number in range(count)]
    frames = np.stack([np.full((48, 64, 3), level, np.uint8) for level in levels])
    path = tmp_path / "long.mp4"
    write_mp4(frames, path, 16)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.frames, stream.average_rate) == (count, 16)
        packets = [each for each in container.demux(stream) if each.pts is not None]
        tick = 1 / (16 * stream.time_base)
    assert sorted(each.pts for each in packets) == [number * tick for number in range(count)]
    order = [each.dts for each in packets]
    assert order == sorted(set(order))
    assert [each.pts / tick for each in packets if each.is_keyframe] == keyframes
    with av.open(str(path)) as container:
        shown = [each.to_ndarray(format="gray").mean() for each in container.decode(video=0)]
    assert shown == pytest.approx(levels, abs=3)
