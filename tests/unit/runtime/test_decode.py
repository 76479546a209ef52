"""Which frames of a file are shown, and when: fields, edit lists, streams, clocks, odd files."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray
from PIL import Image

import videos
from coloured import encode
from shown import made_by_ffmpeg, rejection
from wan_runtime.data import clips
from wan_runtime.data.clips import check_clip, read_clip, survey
from wan_runtime.data.dataset import Code
from wan_runtime.data.facts import Facts
from wan_runtime.data.filters import Chain

Pixels = NDArray[np.uint8]


def grey(level: int, width: int = 128, height: int = 96) -> av.VideoFrame:
    image = np.full((height, width, 3), level, np.uint8)
    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")


def counting(count: int) -> list[av.VideoFrame]:
    return [grey(3 * number) for number in range(count)]


def facts_of(path: Path, frames: int = 5, **change: Any) -> Facts:
    return check_clip(path, **{"frames": frames, "fps": 16, "width": 128, "height": 96, **change})


def read(path: Path, frames: int = 5, fps: float = 16, start: int = 0) -> Pixels:
    return read_clip(path, frames=frames, fps=fps, width=128, height=96, start=start)


# Interlaced


def fields(images: Sequence[Pixels], *, top_first: bool = True) -> list[av.VideoFrame]:
    """Each frame has two moments: the odd lines of one, the even lines of the next."""
    frames = []
    for first, second in zip(images[::2], images[1::2], strict=True):
        woven = first.copy()
        woven[top_first::2] = second[top_first::2]
        frame = av.VideoFrame.from_ndarray(woven, format="rgb24").reformat(format="yuv444p")
        chain = Chain(frame, ("setfield", "tff" if top_first else "bff"))
        chain.push(frame)
        frames += chain.ready()
    return frames


def moving(count: int) -> list[Pixels]:
    """The picture of a film that slides by 6 pixels a moment."""
    film = videos.pixels("bikes")[0]
    return [
        np.ascontiguousarray(film[:192, 6 * number : 6 * number + 256]) for number in range(count)
    ]


def difference(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one.astype(int) - other).mean())


def flagged(order: str) -> dict[str, str]:
    return {"x264-params": f"{order}=1:bframes=0:qp=0"}


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_interlaced_frames_are_made_whole(tmp_path: Path, order: str) -> None:
    images = moving(24)
    frames = fields(images, top_first=order == "tff")
    path = tmp_path / "clip.mp4"
    encode(path, frames, codec="libx264", options=flagged(order))
    got = read_clip(path, frames=12, fps=16, width=256, height=192)
    woven = [frame.to_ndarray(format="rgb24") for frame in frames]
    for number in range(12):  # each shows its first field's moment
        left = difference(got[number], images[2 * number])
        assert left < 0.3 * difference(woven[number], images[2 * number])
    facts = check_clip(path, frames=12, fps=16, width=256, height=192)
    assert (facts.interlaced, facts.frames, facts.decoded) == (True, 12, 12)


def test_frames_that_are_not_flagged_stay_as_they_are(tmp_path: Path) -> None:
    images = moving(24)
    plain, woven = images[:6], fields(images[:12])
    frames = [av.VideoFrame.from_ndarray(each, format="rgb24") for each in plain]
    parts = []
    for number, (some, options) in enumerate(
        (
            (frames, {"qp": "0", "bf": "0"}),
            (woven, flagged("tff")),
            (frames, {"qp": "0", "bf": "0"}),
        )
    ):
        parts.append(tmp_path / f"{number}.ts")
        some = [frame.reformat(format="yuv444p") for frame in some]
        encode(parts[-1], some, codec="libx264", options=options,
               times=range(6 * number, 6 * number + 6))  # fmt: skip
    path = tmp_path / "clip.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    whole = read_clip(path, frames=18, fps=16, width=256, height=192)
    alone = read_clip(parts[0], frames=6, fps=16, width=256, height=192)
    assert np.array_equal(whole[:6], alone)
    assert np.array_equal(whole[12:], alone)
    assert check_clip(path, frames=18, fps=16, width=256, height=192).interlaced
    assert not check_clip(parts[0], frames=6, fps=16, width=256, height=192).interlaced
    # A window that begins later sees the same frames.
    assert np.array_equal(
        read_clip(path, frames=5, fps=16, width=256, height=192, start=8), whole[8:13]
    )


def test_what_is_counted_is_not_deinterlaced_and_counts_alike(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    encode(path, fields(moving(24)), codec="libx264", options=flagged("tff"))
    assert survey(path, fps=16, limit=None).frames == 12
    assert facts_of(path, 12, window="Middle").starts == (0,)


# What is shown


def edited(source: Path, target: Path, start: int, count: int) -> Path:
    """The same MP4, of which an edit list shows `count` frames from `start` on: as cut without
    encoding anew."""
    data = bytearray(source.read_bytes())
    at = data.index(b"elst") + 8
    entries, duration, _ = struct.unpack(">iii", data[at : at + 12])
    assert entries == 1
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        ticks = int(1 / (stream.average_rate * stream.time_base))
        whole = stream.frames
    data[at + 4 : at + 12] = struct.pack(">ii", duration * count // whole, start * ticks)
    target.write_bytes(data)
    return target


def test_an_edit_list_says_what_is_shown(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", counting(60), codec="libx264", options={"bf": "0"})
    cut = edited(whole, tmp_path / "cut.mp4", start=40, count=10)
    assert videos.numbers(read(cut, 10)) == list(range(40, 50))
    found = rejection(cut, 13)
    assert found.code is Code.TOO_SHORT
    assert found.message.startswith("has 10 frames at 16 fps (10 of its own in 0.62")
    assert found.facts.declared == 10


def test_an_edited_file_that_is_cut_off_is_undecodable(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", counting(60), codec="libx264", options={"bf": "0"})
    cut = videos.damage(edited(whole, tmp_path / "cut.mp4", start=20, count=30), at=0.8)
    found = rejection(cut, 29)
    assert found.code is Code.UNDECODABLE
    assert found.message.endswith(" of 30")


def test_a_frame_that_is_cut_off_is_not_guessed(tmp_path: Path) -> None:
    # Its decoder says nothing, and shows what memory held.
    frames = [av.VideoFrame.from_ndarray(image, format="rgb24") for image in moving(12)]
    path = encode(tmp_path / "clip.avi", frames, codec="huffyuv")
    with av.open(str(path)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.pos is not None]
    path.write_bytes(path.read_bytes()[: (starts[3] + starts[4]) // 2])
    found = rejection(path, 4)
    assert (found.code, found.facts.decoded) == (Code.UNDECODABLE, 3)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts"])
def test_a_clip_that_begins_late_begins_at_its_first_frame(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip.{suffix}"
    encode(path, counting(12), codec="libx264", times=range(48, 60))
    assert videos.numbers(read(path, 12)) == list(range(12))


def test_frames_that_are_stored_in_another_order(tmp_path: Path) -> None:
    for suffix in ("mp4", "mkv", "avi", "ts", "flv"):
        path = tmp_path / f"clip.{suffix}"
        options = {"x264-params": "bframes=3:b-adapt=0:b-pyramid=2"}
        encode(path, counting(20), codec="libx264", options=options)
        assert videos.numbers(read(path, 17)) == list(range(17)), suffix


def test_frames_that_an_avi_leaves_out_are_no_damage(tmp_path: Path) -> None:
    path = encode(
        tmp_path / "clip.avi", counting(8), codec="mpeg4", times=[0, 1, 2, 3, 7, 8, 9, 10]
    )
    assert videos.numbers(read(path, 11)) == [0, 1, 2, 3, 3, 3, 3, 4, 5, 6, 7]
    assert rejection(path, 17).message.startswith("has 11 frames at 16 fps (8 of its own in")


def test_theora_shows_a_frame_again_by_a_packet_of_nothing(tmp_path: Path) -> None:
    source = "color=gray:128x96:r=16,drawbox=c=white:t=fill:enable='gte(t,0.5)'"
    path = made_by_ffmpeg(tmp_path / "clip.ogv", source, "-c:v", "libtheora")
    assert survey(path, fps=16, limit=None).frames == 16
    levels = read(path, 16)[:, 48, 64, 0].astype(int)
    assert np.abs(levels - ([128] * 8 + [255] * 8)).max() <= 3
    assert "needs 17" in rejection(path, 17).message


def test_the_clock_of_a_broadcast_may_leap(tmp_path: Path) -> None:
    parts = [
        encode(tmp_path / f"{number}.ts", counting(16)[8 * number :][:8], codec="libx264",
               times=range(first, first + 8), options={"bf": "0"})
        for number, first in enumerate((16000, 0))
    ]  # fmt: skip
    for order in (parts, parts[::-1]):
        path = tmp_path / "clip.ts"
        path.write_bytes(b"".join(part.read_bytes() for part in order))
        wanted = list(range(16)) if order is parts else [*range(8, 16), *range(8)]
        assert videos.numbers(read(path, 16)) == wanted


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_a_broadcast_that_begins_amid_a_picture(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "clip.ts"
    encode(path, counting(40), codec=codec, fps=25, options={"g": "12", "bf": "0"})
    with av.open(str(path)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.pos is not None]
    path.write_bytes(path.read_bytes()[starts[4] :])
    first = videos.numbers(read(path, 5, 25))[0]
    assert 4 <= first <= 12


# Which stream


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    Image.new("RGB", (320, 240), (200, 0, 0)).save(tmp_path / "cover.png")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        cover: Any = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 320, 240, "rgb24"
        cover.disposition = Disposition.attached_pic
        packet = av.Packet((tmp_path / "cover.png").read_bytes())
        packet.pts = packet.dts = 0
        packet.stream, packet.time_base = cover, Fraction(1, 16)
        container.mux(packet)
        for number, frame in enumerate(counting(12)):
            frame.pts, frame.time_base = number, Fraction(1, 16)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    first = cover_first(path)
    with av.open(str(first)) as opened:
        assert opened.streams.video[0].disposition & Disposition.attached_pic
    assert videos.numbers(read(first, 12)) == list(range(12))


def test_a_cover_alone_is_named(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        cover: Any = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 128, 96, "rgb24"
        cover.disposition = Disposition.attached_pic
        container.mux(cover.encode(grey(90).reformat(format="rgb24")))
        container.mux(cover.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 8000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    assert rejection(path).message == (
        "holds a cover picture and no video: image-to-video needs clips of at least 5 frames"
    )


def cover_first(path: Path) -> Path:
    """The same file with its tags before its tracks: the cover is then the first stream."""
    data = path.read_bytes()
    at, boxes = data.index(b"moov") + 4, {}
    end = at - 8 + int.from_bytes(data[at - 8 : at - 4], "big")
    start = at
    while at < end:
        size = int.from_bytes(data[at : at + 4], "big")
        boxes[data[at + 4 : at + 8]] = data[at : at + size]
        at += size
    names = [b"udta", *(name for name in boxes if name != b"udta")]
    path.write_bytes(data[:start] + b"".join(boxes[name] for name in names) + data[end:])
    return path


def test_of_several_videos_the_default_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        streams: list[Any] = [container.add_stream("ffv1", rate=16) for _ in range(2)]
        for stream, disposition in zip(streams, (0, Disposition.default), strict=True):
            stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
            stream.disposition = disposition
        for number in range(12):
            for stream, frame in zip(streams, (grey(200), grey(3 * number)), strict=True):
                frame.pts, frame.time_base = number, Fraction(1, 16)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    assert videos.numbers(read(path, 12)) == list(range(12))


# Odd files


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv"])
@pytest.mark.parametrize("encoding", ["gbk", "shift-jis", "latin-1"])
def test_a_title_is_of_any_encoding(tmp_path: Path, suffix: str, encoding: str) -> None:
    title = "é" if encoding == "latin-1" else "東京視頻"[: 2 if encoding == "shift-jis" else 4]
    path = tmp_path / f"clip.{suffix}"
    with av.open(str(path), "w", metadata_encoding=encoding) as container:
        container.metadata["title"] = title
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.metadata["title"] = title
        for number, frame in enumerate(counting(12)):
            frame.pts, frame.time_base = number, Fraction(1, 16)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path))
    assert facts_of(path, 12).frames == 12


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "JPEG2000", "AVIF"])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.png"])
def test_a_picture_is_called_one(tmp_path: Path, kind: str, name: str) -> None:
    Image.new("RGB", (160, 120), (200, 30, 10)).save(tmp_path / name, format=kind)
    found = rejection(tmp_path / name)
    assert found.code is Code.UNREADABLE
    assert found.message.startswith("is a picture")
    assert found.message.endswith(": image-to-video needs clips of at least 5 frames")


def test_one_frame_is_a_picture(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", counting(1), codec="libx264")
    found = rejection(path)
    assert found.code is Code.TOO_SHORT
    assert found.message == (
        "has one frame that can be read, so it is a picture: image-to-video needs clips of at "
        "least 5 frames"
    )


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_animations_that_are_not_read_are_named(tmp_path: Path, kind: str) -> None:
    pictures = [Image.new("RGB", (160, 120), (20 * n, 30, 10)) for n in range(6)]
    path = tmp_path / "clip.mp4"
    pictures[0].save(path, format=kind, save_all=True, append_images=pictures[1:], duration=60)
    message = f"is an animated {kind}, which is not read: convert it to MP4 or GIF"
    assert rejection(path).message == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"no video", "does not open as a video: it is damaged, cut off, or none"),
        (
            b"RIFF\x10\0\0\0WAVEfmt " + bytes(100),
            "does not open as a video: its kind is not read; make it one of "
            "MP4, MOV, MKV, WebM, AVI, MPEG, WMV, FLV, GIF",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "does not open as a video: it is a pointer of Git LFS",
        ),
        (b"<!DOCTYPE html><title>Sign in</title>", "does not open as a video: it is a web page"),
    ],
    ids=["empty", "text", "sound", "pointer", "page"],
)
def test_what_is_no_video_is_told_so(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "clip.mp4").write_bytes(content)
    found = rejection(tmp_path / "clip.mp4")
    assert (found.code, found.message) == (Code.UNREADABLE, message)


def test_years_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "MOST", 1000)
    path = tmp_path / "clip.mkv"
    encode(path, counting(6), times=[0, 1, 2, 3, 4, 3_000_000_000], clock=Fraction(1, 1000))
    assert survey(path, fps=16, limit=None).frames == 1000
