"""What files say beside the pictures: colours of the container, the part that is shown, layers."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import coloured
from coloured import PATCHES, encode, still
from shown import by_ffmpeg, colours, copied_by_ffmpeg, made_by_ffmpeg, rejection, shown
from wan_runtime.data.clips import check_clip, read_clip
from wan_runtime.data.dataset import Code
from wan_runtime.data.facts import Facts

SIZE = 128, 96
BT709 = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
PQ = ["-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", "smpte2084"]
SHARP = {
    "libvpx": {"crf": "4", "b": "0", "qmax": "4"},
    "libvpx-vp9": {"lossless": "1"},
    "libx265": {"x265-params": "lossless=1:log-level=none"},
    "libx264": {"qp": "0"},
}


def facts_of(path: Path) -> Facts:
    return check_clip(path, frames=5, fps=16, width=96, height=96)


def patches(matrix: int, form: str = "yuv420p", *, full: bool = False) -> av.VideoFrame:
    """Without tags."""
    frame = coloured.patches(PATCHES, form, matrix, full=full, size=SIZE)
    frame.colorspace, frame.color_range = 2, 0
    return frame


# Colours


@pytest.mark.parametrize(
    ("codec", "form", "suffix"),
    [
        ("libvpx-vp9", "yuv420p", "webm"),
        ("libx265", "yuv420p", "mp4"),
        ("prores_ks", "yuv422p10le", "mov"),
    ],
)
def test_what_the_codec_does_not_say_the_container_does(
    tmp_path: Path, codec: str, form: str, suffix: str
) -> None:
    plain = encode(
        tmp_path / f"a.{suffix}", still(patches(1, form)), codec=codec, options=SHARP.get(codec, {})
    )
    path = copied_by_ffmpeg(plain, tmp_path / f"b.{suffix}", *BT709, "-movflags", "+write_colr")
    assert np.abs(colours(path) - PATCHES).max() <= 2
    assert np.abs(colours(plain) - PATCHES).max() > 20


def test_the_container_alone_may_say_hdr_and_full_range(tmp_path: Path) -> None:
    frame = patches(9, "yuv420p10le", full=True)
    plain = encode(tmp_path / "a.mkv", still(frame), codec="libx265", options=SHARP["libx265"])
    path = copied_by_ffmpeg(plain, tmp_path / "b.mkv", *PQ, "-color_range", "pc")
    tagged = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 2}
    same = encode(tmp_path / "c.mkv", still(frame), **tagged)
    assert facts_of(path).hdr == "PQ"
    assert np.array_equal(colours(path), colours(same))


def test_the_codec_counts_before_the_container(tmp_path: Path) -> None:
    frame = coloured.patches(PATCHES, "yuv420p", 6, full=False, size=SIZE)
    plain = encode(tmp_path / "a.mkv", still(frame), codec="libvpx-vp9", colorspace=6,
                   options=SHARP["libvpx-vp9"])  # fmt: skip
    path = copied_by_ffmpeg(plain, tmp_path / "b.mkv", *BT709)
    assert np.abs(colours(path) - PATCHES).max() <= 2


@pytest.mark.parametrize(
    ("size", "matrix", "tags"), [(SIZE, 1, {"colorspace": 1}), ((1280, 720), 6, {})]
)
def test_vp8_is_bt601_unless_the_container_says_otherwise(
    tmp_path: Path, size: tuple[int, int], matrix: int, tags: dict[str, int]
) -> None:
    frame = coloured.patches(PATCHES, "yuv420p", matrix, full=False, size=size)
    frame.colorspace = 2
    path = encode(tmp_path / "clip.webm", still(frame, 2), codec="libvpx",
                  options=SHARP["libvpx"], **tags)  # fmt: skip
    got = read_clip(path, frames=1, fps=16, width=128, height=64)[0]
    assert np.abs(coloured.centres(got, 8) - PATCHES)[1:-1].max() <= 3


def test_transparent_vp8_has_the_matrix_of_vp8(tmp_path: Path) -> None:
    frame = coloured.patches(PATCHES, "yuva420p", 6, full=False, size=(1280, 720))
    frame.planes[3].update(b"\xff" * frame.planes[3].buffer_size)
    frame.colorspace = 2
    path = encode(tmp_path / "clip.webm", still(frame, 2), codec="libvpx",
                  options=SHARP["libvpx"] | {"auto-alt-ref": "0"})  # fmt: skip
    got = read_clip(path, frames=1, fps=16, width=128, height=64)[0]
    assert np.abs(coloured.centres(got, 8) - PATCHES)[1:-1].max() <= 3


@pytest.mark.parametrize(
    ("suffix", "tags", "matrix"),
    [
        ("mov", BT709, 1),
        ("mp4", BT709, 1),
        ("mkv", BT709, 1),
        ("mkv", [*BT709, "-color_range", "tv"], 1),
        ("mov", [], 6),
        ("avi", BT709, 6),
    ],
)
def test_motion_jpeg_has_the_matrix_of_its_container(
    tmp_path: Path, suffix: str, tags: list[str], matrix: int
) -> None:
    """Editors write BT.709 so: the range is JPEG's own, and AVI states nothing."""
    frame = patches(matrix, "yuvj444p", full=True)
    plain = encode(tmp_path / "a.avi", still(frame), codec="mjpeg", qmin=1, qmax=1)
    path = copied_by_ffmpeg(plain, tmp_path / f"b.{suffix}", *tags)
    assert np.abs(colours(path) - PATCHES).max() <= 6


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(
    ("profile", "compatible", "transfer", "hdr"),
    [(8, 4, 18, "HLG"), (8, 1, 16, "PQ"), (8, 4, 2, ""), (5, 0, 16, "")],
)
def test_the_container_says_how_the_base_of_dolby_vision_is_shown(
    tmp_path: Path, suffix: str, profile: int, compatible: int, transfer: int, hdr: str
) -> None:
    """As iPhones write it, in profile 8.4; there is nothing to show of profile 5."""
    frame = patches(9, "yuv420p10le")
    plain = encode(tmp_path / "a.mp4", still(frame), codec="libx265", options=SHARP["libx265"])
    path = tmp_path / "b.mp4"
    with av.open(str(plain)) as before, av.open(str(path), "w") as after:
        stream: Any = after.add_stream_from_template(before.streams.video[0], opaque=True)
        if transfer != 2:
            context = stream.codec_context
            context.colorspace, context.color_primaries, context.color_trc = 9, 9, transfer
        for each in before.demux(video=0):
            if each.size:
                packet = av.Packet(bytes(each) + dolby_vision())
                packet.pts, packet.dts, packet.time_base = each.pts, each.dts, each.time_base
                packet.stream, packet.is_keyframe = stream, each.is_keyframe
                after.mux(packet)
    record = bytes((1, 0, profile << 1, 0b1101, compatible << 4)) + bytes(19)
    path.write_bytes(with_box(path.read_bytes(), b"dvvC", record))
    if suffix == "mkv":
        path = copied_by_ffmpeg(path, tmp_path / "c.mkv", "-strict", "unofficial")
    if not hdr:
        assert "the colour matrix IPT of Dolby Vision" in rejection(path).message
        return
    same = encode(tmp_path / "d.mkv", still(frame), colorspace=9, color_primaries=9,
                  color_trc=transfer)  # fmt: skip
    assert facts_of(path).hdr == hdr
    assert np.array_equal(colours(path), colours(same))


def dolby_vision() -> bytes:
    """A unit of HEVC, after its size, whose data change nothing, by ETSI GS CCM 001, section 5."""
    bits = f"{2:06b}{18:011b}{1:04b}{0:04b}1"  # kind, format, profile, level, what follows is there
    bits += "000" + golomb(23) + "010" + golomb(2) * 2 + golomb(4) + "0000010" + "0"
    bits += golomb(0) * 3
    bits += (golomb(0) + f"{0:010b}{1023:010b}") * 3 + golomb(0) * 2  # one piece of a curve each
    bits += (golomb(0) * 2 + "0" + golomb(0) + f"{0:023b}" + golomb(1) + f"{0:023b}") * 3
    bits += "0" * (-len(bits) % 8)
    payload = int(bits, 2).to_bytes(len(bits) // 8)
    raw = b"\x19" + payload + b"\1\1\1\1\x80"  # in place of a checksum
    unit = b"\x7c\x01" + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", raw)
    return len(unit).to_bytes(4) + unit


def golomb(number: int) -> str:
    digits = f"{number + 1:b}"
    return "0" * (len(digits) - 1) + digits


# Turns


@pytest.mark.parametrize(("codec", "turn"), [("libvpx", (90, False)), ("libvpx-vp9", (180, True))])
def test_colours_and_transparency_turn_together(
    tmp_path: Path, codec: str, turn: tuple[int, bool]
) -> None:
    image = np.zeros((96, 128, 4), np.uint8)
    image[:48, :64] = (200, 0, 0, 255)
    image[48:, :64] = (0, 0, 200, 255)
    image[:, 64:] = (30, 120, 30, 0)  # a hidden colour
    frame = av.VideoFrame.from_ndarray(image, format="rgba").reformat(format="yuva420p")
    path = encode(tmp_path / "clip.webm", still(frame), codec=codec, turn=turn,
                  options=SHARP[codec] | {"auto-alt-ref": "0"})  # fmt: skip
    width, height = SIZE if turn[0] == 180 else SIZE[::-1]
    opaque = by_ffmpeg(path, width, height).astype(int)  # the program leaves transparency away
    expected = np.where(opaque[..., 1:2] > 60, 255, opaque)
    assert np.abs(shown(path, width, height) - expected).mean() < 4


# The part that is shown


@pytest.mark.parametrize(
    ("codec", "kind", "left"), [("libx264", "h264_metadata", 10), ("libx265", "hevc_metadata", 2)]
)
def test_what_the_codec_cuts_off_is_not_shown(
    tmp_path: Path, codec: str, kind: str, left: int
) -> None:
    whole = encode(tmp_path / "a.mp4", still(numbered()), codec=codec, options=SHARP[codec])
    edges = f"{kind}=crop_left={left}:crop_top=6:crop_right=4:crop_bottom=2"
    path = copied_by_ffmpeg(whole, tmp_path / "b.mp4", "-bsf:v", edges)
    width, height = 160 - left - 4, 128 - 8
    expected = read_clip(whole, frames=1, fps=16, width=160, height=128)[0][6:-2, left:-4]
    got = read_clip(path, frames=1, fps=16, width=width, height=height)[0]
    assert np.abs(got[2:-2, 2:-2].astype(int) - expected[2:-2, 2:-2]).max() <= 1
    assert facts_of(path).size == f"{width}x{height}"


def numbered() -> av.VideoFrame:
    """Every column and row has a grey of its own."""
    image = np.add.outer(np.arange(128), np.arange(160))[..., None] * 255 // 287
    rgb = image.astype(np.uint8).repeat(3, axis=2)
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")


@pytest.mark.parametrize(
    ("codec", "suffix", "turn", "aperture", "edges"),
    [
        ("libx264", "mp4", None, (100, 100, -8, 2), (22, 38, 16, 12)),
        ("libx264", "mp4", (90, False), (100, 100, -8, 2), (22, 38, 16, 12)),
        ("libx264", "mkv", None, (144, 128, -8, 0), (0, 16, 0, 0)),
        ("qtrle", "mov", None, (147, 120, 0, 0), (6, 7, 4, 4)),
        ("qtrle", "mov", None, (400, 120, 0, 0), (0, 0, 0, 0)),
    ],
)
def test_what_the_container_cuts_off_is_not_shown(
    tmp_path: Path, codec: str, suffix: str, turn: Any, aperture: Any, edges: Any
) -> None:
    frame = numbered() if codec == "libx264" else numbered().reformat(format="rgb24")
    path = encode(tmp_path / "a.mov", still(frame), codec=codec, turn=turn,
                  options=SHARP.get(codec, {}))  # fmt: skip
    whole = read_clip(path, frames=1, fps=16, width=128 if turn else 160,
                      height=160 if turn else 128)[0]  # fmt: skip
    path.write_bytes(with_aperture(path.read_bytes(), aperture))
    if suffix == "mkv":
        path = copied_by_ffmpeg(path, tmp_path / "b.mkv")
    left, right, top, bottom = edges
    if turn:
        left, right, top, bottom = top, bottom, right, left
    expected = whole[top : whole.shape[0] - bottom, left : whole.shape[1] - right]
    height, width = expected.shape[:2]
    assert facts_of(path).size == f"{width}x{height}"
    got = read_clip(path, frames=1, fps=16, width=width, height=height)[0]
    assert np.abs(got[2:-2, 2:-2].astype(int) - expected[2:-2, 2:-2]).max() <= 1
    program = by_ffmpeg(path, width, height)
    assert np.abs(got[2:-2, 2:-2].astype(int) - program[2:-2, 2:-2]).max() <= 3


def with_aperture(data: bytes, aperture: tuple[int, int, int, int]) -> bytes:
    """An MP4 that shows a part: width, height, and how far its centre is off."""
    width, height, x, y = aperture
    return with_box(data, b"clap", struct.pack(">8i", width, 1, height, 1, x, 1, y, 1))


def with_box(data: bytes, name: bytes, content: bytes) -> bytes:
    """An MP4 with one more box in what describes its pictures."""
    box = (len(content) + 8).to_bytes(4) + name + content
    entry = data.index(b"stsd") + 12
    end = entry + int.from_bytes(data[entry : entry + 4])
    longer = bytearray(data[:end] + box + data[end:])
    names = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    for at in (entry, *(data.index(name) - 4 for name in names)):
        longer[at : at + 4] = (int.from_bytes(data[at : at + 4]) + len(box)).to_bytes(4)
    return bytes(longer)


# Layers and fields of HEVC


def test_transparency_in_a_layer_of_hevc_is_refused(tmp_path: Path) -> None:
    source = "color=red@0.5:128x96:r=16,format="
    x265 = ["-c:v", "libx265", "-x265-params", "log-level=none"]
    paths = [
        made_by_ffmpeg(tmp_path / "a.mov", f"{source}yuva420p", *x265, "-tag:v", "hvc1"),
        made_by_ffmpeg(tmp_path / "b.ts", f"{source}yuva420p", *x265),
    ]
    # The message is among the pictures alone, after their sizes.
    paths.append(copied_by_ffmpeg(paths[1], tmp_path / "c.mp4", "-tag:v", "hev1"))
    for path in paths:
        found = rejection(path)
        assert found.code == Code.UNDECODABLE
        assert "transparent by a second layer of HEVC" in found.message
    with av.open(str(paths[2])) as container:
        assert b"\x4e\x01\xa5" not in container.streams.video[0].codec_context.extradata
    for name in ("d.mov", "d.ts"):
        shown(made_by_ffmpeg(tmp_path / name, f"{source}yuv420p", *x265))


def test_fields_of_hevc_are_no_frames(tmp_path: Path) -> None:
    options = ["-c:v", "libx265", "-x265-params", "interlace=tff:log-level=none"]
    found = rejection(made_by_ffmpeg(tmp_path / "a.mp4", "testsrc2=256x192:r=16", *options))
    assert found.code == Code.UNDECODABLE
    assert found.message.startswith("is interlaced HEVC, whose fields are each a picture")
