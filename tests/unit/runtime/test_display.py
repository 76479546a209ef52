"""Pixels as a player shows them: shapes, turns, matrices, ranges, transparency."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

import coloured
import videos
from coloured import PATCHES, encode, still
from shown import by_ffmpeg, colours, copied_by_ffmpeg, rejection, shown
from wan_runtime.data.clips import check_clip, read_clip
from wan_runtime.data.dataset import Code
from wan_runtime.data.display import Display
from wan_runtime.data.facts import ClipRejected, Facts

SIZE = 128, 96


def drawn(width: int = 128, height: int = 96) -> av.VideoFrame:
    """Red in the upper left, green in the upper right, blue in the lower left, else grey."""
    image = np.full((height, width, 3), 128, np.uint8)
    image[: height // 4, : width // 4] = (255, 0, 0)
    image[: height // 4, -width // 4 :] = (0, 255, 0)
    image[-height // 4 :, : width // 4] = (0, 0, 255)
    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv444p")


# Shapes


def circle(width: int, height: int) -> av.VideoFrame:
    """One that is round once it is shown as wide again as high."""
    down, across = np.mgrid[:height, :width]
    distance = ((down - height / 2) / height) ** 2 * 9 + ((across - width / 2) / width) ** 2 * 16
    image = np.where(distance < 1, 255, 0).astype(np.uint8)
    return av.VideoFrame.from_ndarray(image, format="gray").reformat(format="yuv420p")


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mp4", "libx264"), ("mkv", "libx264"), ("avi", "mpeg4"), ("ts", "libx264")],
)
def test_pixels_that_are_not_square_are_shown_as_meant(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    path = tmp_path / f"clip.{suffix}"
    encode(path, still(circle(160, 240)), codec=codec, sample_aspect_ratio=Fraction(2, 1))
    lit = shown(path)[..., 0] > 127
    assert abs(int(lit.any(axis=0).sum()) - int(lit.any(axis=1).sum())) <= 2
    facts = check_clip(path, frames=5, fps=16, width=128, height=96)
    assert facts.size == "160x240 (shown as 320x240)"


def test_a_turned_clip_has_turned_pixels(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    wide = Fraction(2, 1)
    encode(
        path, still(circle(160, 240)), codec="libx264", sample_aspect_ratio=wide, turn=(90, False)
    )
    lit = shown(path, 96, 128)[..., 0] > 127
    assert abs(int(lit.any(axis=0).sum()) - int(lit.any(axis=1).sum())) <= 2
    facts = check_clip(path, frames=5, fps=16, width=96, height=128)
    assert (facts.width, facts.height, facts.pixel_aspect) == (240, 160, 0.5)


def test_the_containers_shape_of_pixels_counts_before_the_codecs(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    encode(path, still(circle(160, 240)), codec="libx264", sample_aspect_ratio=Fraction(1, 2))
    data = path.read_bytes()
    at = data.index(b"pasp") + 4
    path.write_bytes(data[:at] + bytes((0, 0, 0, 2, 0, 0, 0, 1)) + data[at + 8 :])
    facts = check_clip(path, frames=5, fps=16, width=128, height=96)
    assert facts.pixel_aspect == 2


def test_what_is_too_small_once_it_is_shown_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    encode(path, still(circle(100, 96)), codec="libx264", sample_aspect_ratio=Fraction(4, 3))
    found = rejection(path)
    assert found.code is Code.TOO_SMALL
    assert found.message.startswith("is 100x96 (shown as 133x96), too small for 128x96")


def test_frames_of_other_sizes_are_each_cut(tmp_path: Path) -> None:
    parts = [
        encode(tmp_path / f"{width}.ts", still(drawn(width, height).reformat(format="yuv420p"), 4),
               codec="libx264", times=range(first, first + 4), max_b_frames=0)
        for first, width, height in ((0, 128, 96), (4, 256, 192))
    ]  # fmt: skip
    path = tmp_path / "clip.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = read_clip(path, frames=8, fps=16, width=128, height=96).astype(int)
    assert np.abs(frames[7] - frames[0]).mean() < 6
    facts = check_clip(path, frames=8, fps=16, width=128, height=96)
    assert len({still.shape for still in facts.stills}) == 1
    wanted = {"frames": 8, "fps": 16.0, "width": 160, "height": 96}
    path.write_bytes(b"".join(part.read_bytes() for part in reversed(parts)))
    for reader in (check_clip, read_clip):
        with pytest.raises(ClipRejected, match="is 128x96, too small for 160x96"):
            reader(path, **wanted)  # type: ignore[operator]


def test_pixels_whose_shape_changes_are_refused(tmp_path: Path) -> None:
    parts = [
        encode(tmp_path / f"{first}.ts", still(circle(160, 240), 4), codec="libx264",
               times=range(first, first + 4), sample_aspect_ratio=aspect, max_b_frames=0)
        for first, aspect in ((0, Fraction(2)), (4, Fraction(4, 3)))
    ]  # fmt: skip
    path = tmp_path / "clip.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    found = rejection(path)
    assert (found.code, "changes the shape of its pixels about frame" in found.message) == (
        Code.UNDECODABLE,
        True,
    )


# Turns

ONE = 1 << 16
TURNS = [
    (a, b, c, d)
    for x in (-1, 1)
    for y in (-1, 1)
    for a, b, c, d in ((x, 0, 0, y), (0, x, y, 0))
]  # fmt: skip


def matrix(a: float, b: float, c: float, d: float, scale: float = ONE) -> list[int]:
    parts = [round(scale * part) for part in (a, b, c, d)]
    return [parts[0], parts[1], 0, parts[2], parts[3], 0, 0, 0, 1 << 30]


@pytest.mark.parametrize("turn", TURNS)
def test_turns_and_mirrors_are_those_of_ffmpeg(tmp_path: Path, turn: Sequence[int]) -> None:
    path = encode(tmp_path / "clip.mp4", still(drawn()), codec="libx264", turn=matrix(*turn))
    width, height = SIZE if turn[0] else SIZE[::-1]
    image = shown(path, width, height)
    assert np.abs(image.astype(int) - by_ffmpeg(path, width, height)).max() <= 4
    assert len({tuple(image[y, x] // 64) for y in (4, -4) for x in (4, -4)}) == 4


@pytest.mark.parametrize(
    ("written", "corner"),
    [
        (matrix(0.9999, 0.01, -0.01, 0.9999), (4, 4)),  # half a degree
        (matrix(0, 2, -2, 0), (4, -4)),  # and twice as large
        (matrix(0, 0, 0, 0), (4, 4)),
    ],
)
def test_a_matrix_need_not_be_exact(
    tmp_path: Path, written: Sequence[int], corner: tuple[int, int]
) -> None:
    frame = drawn(128, 128)
    path = encode(tmp_path / "clip.mp4", still(frame), codec="libx264", turn=written)
    assert shown(path, 128, 128)[corner].tolist() == pytest.approx((254, 0, 0), abs=4)


@pytest.mark.parametrize("written", [matrix(0.87, 0.5, -0.5, 0.87), matrix(1, 0, 0.5, 1)])
def test_other_matrices_are_refused(tmp_path: Path, written: Sequence[int]) -> None:
    path = encode(tmp_path / "clip.mp4", still(drawn()), codec="libx264", turn=written)
    found = rejection(path)
    assert found.code is Code.ROTATION_UNSUPPORTED
    assert "only quarter turns are handled, mirrored or not" in found.message


@pytest.mark.parametrize("orientation", [2, 5, 6, 7])
def test_pictures_of_motion_jpeg_are_turned_by_their_exif(tmp_path: Path, orientation: int) -> None:
    # PyAV has no name for this side data, and then shows none of it.
    still = Image.fromarray(drawn(112, 112).to_ndarray(format="rgb24"))
    still.getexif()[0x112] = orientation
    still.save(tmp_path / "still.jpg", exif=still.getexif(), quality=95)
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=16)
        stream.width = stream.height = 112
        stream.pix_fmt = "yuvj420p"
        for number in range(6):
            packet = av.Packet((tmp_path / "still.jpg").read_bytes())
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 16), stream, True
            container.mux(packet)
    image = shown(path, 112, 112)
    assert np.abs(image.astype(int) - by_ffmpeg(path, 112, 112)).mean() < 1


# Colours


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 9])
@pytest.mark.parametrize("form", ["yuv420p", "yuv444p", "yuv422p10le", "yuv444p12le"])
def test_colours_are_read_by_their_tags(tmp_path: Path, form: str, matrix: int, full: bool) -> None:
    frame = coloured.patches(PATCHES, form, matrix, full=full, size=SIZE)
    path = encode(tmp_path / "clip.mkv", still(frame), colorspace=matrix,
                  color_range=2 if full else 1)  # fmt: skip
    assert np.abs(colours(path) - PATCHES).max() <= 2


@pytest.mark.parametrize(("name", "matrix"), [("bikes", 6), ("bigbuckbunny", 1)])
def test_every_pixel_is_that_of_the_formula(name: str, matrix: int) -> None:
    path = videos.original(name)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    got = read_clip(path, frames=1, fps=25, width=frame.width, height=frame.height)[0]
    assert np.abs(got - coloured.to_rgb(frame, matrix)).max() < 0.52


@pytest.mark.parametrize(
    ("size", "matrix"),
    [((1280, 720), 1), ((960, 720), 1), ((1280, 544), 1), ((720, 1280), 1), ((720, 576), 6),
     ((128, 96), 6)],
)  # fmt: skip
@pytest.mark.parametrize("reserved", [False, True], ids=["untagged", "reserved"])
def test_without_a_tag_size_says_which_matrix(
    tmp_path: Path, size: tuple[int, int], matrix: int, reserved: bool
) -> None:
    frame = coloured.patches(PATCHES, "yuv444p", matrix, full=False, size=size)
    tags = dict.fromkeys(("colorspace", "color_primaries", "color_trc"), 3) if reserved else {}
    path = encode(tmp_path / "clip.mkv", still(frame), options={"level": "3"}, **tags)
    wide = 128 if size[0] >= size[1] else 64
    image = read_clip(path, frames=1, fps=16, width=wide, height=64)[0]
    if size[0] / size[1] == 4 / 3:
        assert np.abs(coloured.centres(image, 8) - PATCHES)[1:-1].max() <= 2
    middle = coloured.centres(image, 8)[3:5]
    assert np.abs(middle - PATCHES[3:5]).max() <= 2


def test_tags_may_change_within_a_clip(tmp_path: Path) -> None:
    path = tmp_path / "clip.ts"
    data = b""
    for first, matrix in ((0, 1), (4, 6)):
        frame = coloured.patches(PATCHES, "yuv444p", matrix, full=False, size=SIZE)
        encode(path, still(frame, 4), codec="libx264", times=range(first, first + 4),
               colorspace=matrix, options={"qp": "0", "bf": "0"})  # fmt: skip
        data += path.read_bytes()
    path.write_bytes(data)
    for frame in read_clip(path, frames=8, fps=16, width=128, height=96)[[0, 7]]:
        assert np.abs(coloured.centres(frame, 8) - PATCHES).max() <= 2


def test_motion_jpeg_is_of_full_range(tmp_path: Path) -> None:
    frame = coloured.patches(PATCHES, "yuvj444p", 6, full=True, size=SIZE)
    path = encode(tmp_path / "clip.avi", still(frame), codec="mjpeg", qmin=1, qmax=1)
    assert np.abs(colours(path) - PATCHES).max() <= 6


@pytest.mark.parametrize("codec", ["libx264rgb", "qtrle"])
def test_rgb_is_taken_as_it_is(tmp_path: Path, codec: str) -> None:
    image = np.repeat(PATCHES.astype(np.uint8)[None], 96, axis=0).repeat(16, axis=1)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    path = tmp_path / "clip.mov"
    encode(path, still(frame), codec=codec, options={"qp": "0"} if "264" in codec else {})
    assert np.array_equal(colours(path), PATCHES)


@pytest.mark.parametrize("form", ["gray", "gray10le", "gray12le"])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
def test_grey_is_read_by_its_range(tmp_path: Path, form: str, full: bool) -> None:
    grey = np.repeat(np.linspace(0, 255, 8)[:, None], 3, axis=1)
    frame = coloured.patches(grey, form, 1, full=full, size=SIZE)
    path = tmp_path / "clip.mkv"
    encode(path, still(frame), color_range=2 if full else 1)
    assert np.abs(colours(path) - grey).max() <= 1.2


@pytest.mark.parametrize(("matrix", "name"), [(8, "YCgCo"), (14, "ICtCp"), (15, "Dolby Vision")])
def test_matrices_that_are_not_handled_are_named(tmp_path: Path, matrix: int, name: str) -> None:
    frame = coloured.patches(PATCHES, "yuv444p", 1, full=False, size=SIZE)
    path = encode(tmp_path / "clip.mkv", still(frame), colorspace=matrix)
    found = rejection(path)
    assert found.code is Code.UNDECODABLE
    assert "has the colour matrix " in found.message
    assert name in found.message


def test_rgb_of_limited_range_is_spread(tmp_path: Path) -> None:
    levels = np.round(16 + PATCHES * 219 / 255).astype(np.uint8)
    image = np.repeat(levels[None], 96, axis=0).repeat(16, axis=1)
    frame = av.VideoFrame.from_ndarray(image.astype(np.uint16) * 4, format="gbrp10le")
    path = encode(tmp_path / "clip.mkv", still(frame), color_range=1)
    assert np.abs(colours(path) - PATCHES).max() <= 1


@pytest.mark.parametrize("kind", ["DOVI_RPU_BUFFER", "DOVI_METADATA"], ids=["HEVC", "AV1"])
@pytest.mark.parametrize(("transfer", "refused"), [(2, True), (16, False)])
def test_dolby_vision_needs_a_base_that_others_show(
    transfer: int, refused: bool, kind: str
) -> None:
    # No encoder here makes one: the frame is as the decoder hands it over.
    frame = coloured.patches(PATCHES, "yuv420p10le", 9, full=True, size=SIZE)
    fake = SimpleNamespace(
        format=frame.format, colorspace=2, color_range=2, color_primaries=2, color_trc=transfer,
        width=128, height=96, side_data={kind: b"x"},
    )  # fmt: skip
    if not refused:
        assert Display(Facts())._matrix(fake) == "bt2020nc"  # type: ignore[arg-type]
        return
    with pytest.raises(ClipRejected, match="the colour matrix IPT of Dolby Vision"):
        Display(Facts())._matrix(fake)  # type: ignore[arg-type]


# Transparency


@pytest.mark.parametrize(
    ("suffix", "codec", "form"),
    [
        ("mov", "qtrle", "argb"),
        ("mov", "prores_ks", "yuva444p10le"),
        ("webm", "libvpx-vp9", "yuva420p"),
        ("mkv", "ffv1", "gbrap16le"),
    ],
)
def test_what_is_transparent_lies_over_white(
    tmp_path: Path, suffix: str, codec: str, form: str
) -> None:
    image = np.zeros((96, 128, 4), np.uint8)
    image[:, :64] = (200, 0, 0, 0)  # a hidden colour
    image[:, 64:96] = (30, 120, 30, 255)
    image[:, 96:] = (0, 0, 0, 128)
    frame = av.VideoFrame.from_ndarray(image, format="rgba").reformat(format=form)
    path = tmp_path / f"clip.{suffix}"
    encode(
        path, still(frame), codec=codec, options={"crf": "4", "b": "0"} if "vp9" in codec else {}
    )
    got = coloured.centres(shown(path), 4)
    assert np.abs(got - [(255,) * 3, (255,) * 3, (30, 120, 30), (127,) * 3]).max() <= 6


def test_transparency_outlives_a_copy_to_another_container(tmp_path: Path) -> None:
    image = np.zeros((96, 128, 4), np.uint8)
    image[:, 64:] = (30, 120, 30, 255)
    frame = av.VideoFrame.from_ndarray(image, format="rgba").reformat(format="yuva420p")
    encode(tmp_path / "clip.webm", still(frame), codec="libvpx-vp9", options={"crf": "4", "b": "0"})
    path = copied_by_ffmpeg(tmp_path / "clip.webm", tmp_path / "clip.mkv")
    assert np.abs(coloured.centres(shown(path), 2) - [(255,) * 3, (30, 120, 30)]).max() <= 6


def test_a_gif_lies_over_white(tmp_path: Path) -> None:
    frames = []
    for number in range(8):
        picture = Image.new("RGBA", SIZE, (0, 0, 0, 0))
        picture.paste((200, 30, 30, 255), (number * 8, 0, number * 8 + 32, 96))
        frames.append(picture)
    path = tmp_path / "clip.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=60, disposal=2, loop=0)
    clip = read_clip(path, frames=5, fps=16, width=128, height=96)
    assert clip[4][48, 120].tolist() == [255, 255, 255]
    assert clip[4][48, 48].tolist() == pytest.approx([200, 30, 30], abs=8)
    assert clip[4][48, 8].tolist() == [255, 255, 255]


def test_stills_do_not_alias(tmp_path: Path) -> None:
    fine = np.zeros((480, 640, 3), np.uint8)
    fine[:, ::2] = 255
    frame = av.VideoFrame.from_ndarray(fine, format="rgb24")
    path = encode(tmp_path / "clip.mov", still(frame), codec="qtrle")
    (image, *_) = check_clip(path, frames=5, fps=16, width=128, height=96).stills
    assert np.abs(image[8:-8, 8:-8].astype(int) - 127.5).max() < 20


def test_facts_say_how_large_it_is_shown() -> None:
    assert Facts(width=720, height=576).size == "720x576"
    assert Facts(width=720, height=576, pixel_aspect=64 / 45).size == (
        "720x576 (shown as 1024x576)"
    )
