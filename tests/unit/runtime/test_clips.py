"""Reading real clips: which frames, which pixels, and every way a file can be bad."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

import coloured
import videos
from wan_runtime.data import decode
from wan_runtime.data.clips import check_clip, fit, read_clip
from wan_runtime.data.dataset import Code
from wan_runtime.data.facts import ClipRejected

SMALL = {"frames": 17, "fps": 16.0, "width": 128, "height": 96}


def rejection(path: Path, **change: float) -> ClipRejected:
    """Both readers refuse it alike."""
    wanted = {**SMALL, **change}
    with pytest.raises(ClipRejected) as caught:
        check_clip(path, **wanted)  # type: ignore[arg-type]
    with pytest.raises(ClipRejected) as again:
        read_clip(path, **wanted)  # type: ignore[arg-type]
    assert (again.value.code, again.value.message) == (caught.value.code, caught.value.message)
    return caught.value


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "avi"])
def test_81_frames_at_16_fps_stay_81(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip.{suffix}"
    videos.write(path, videos.counting(81))
    facts = check_clip(path, frames=81, fps=16, width=128, height=96)
    assert (facts.frames, facts.width, facts.height, facts.fps) == (81, 128, 96, 16)
    assert facts.duration == pytest.approx(81 / 16, abs=0.07)
    clip = read_clip(path, frames=81, fps=16, width=128, height=96)
    assert clip.shape == (81, 96, 128, 3)
    assert clip.dtype == np.uint8
    assert videos.numbers(clip) == list(range(81))


@pytest.mark.parametrize(
    ("fps", "shown"),
    [
        (32, [0, 2, 4, 6, 8, 10, 12]),
        (24, [0, 1, 3, 4, 6, 7, 9]),  # moment i shows frame floor(1.5 i)
        (8, [0, 0, 1, 1, 2, 2, 3]),
        (16, [0, 1, 2, 3, 4, 5, 6]),
    ],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_other_rates_keep_their_speed(
    tmp_path: Path, fps: int, shown: list[int], suffix: str
) -> None:
    path = tmp_path / f"clip.{suffix}"
    videos.write(path, videos.counting(40), fps=fps)
    assert videos.numbers(read_clip(path, frames=7, fps=16, width=128, height=96)) == shown


def test_uneven_times_keep_their_speed(tmp_path: Path) -> None:
    # As phones record: 20 fps, then half a second of nothing new, then 20 fps again.
    times = [n * 0.05 for n in range(10)] + [1.0 + n * 0.05 for n in range(10)]
    path = tmp_path / "vfr.mkv"
    videos.write(path, videos.counting(20), times=times)
    clip = read_clip(path, frames=21, fps=20, width=128, height=96)
    assert videos.numbers(clip) == [*range(10), *[9] * 10, 10]
    assert check_clip(path, frames=29, fps=20, width=128, height=96).frames == 29


def test_a_clip_that_starts_late_starts_at_its_first_frame(tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    videos.write(path, videos.counting(10), times=[3 + n / 16 for n in range(10)])
    clip = read_clip(path, frames=9, fps=16, width=128, height=96)
    assert videos.numbers(clip) == list(range(9))


def test_too_short_gives_the_numbers(tmp_path: Path) -> None:
    path = videos.cut(tmp_path / "short.mp4", frames=16)
    found = rejection(path)
    assert found.code is Code.TOO_SHORT
    assert found.message == "has 16 frames at 16 fps (16 of its own in 1 s); needs 17"
    assert found.facts.frames == 16
    assert check_clip(path, frames=16, fps=16, width=128, height=96).frames == 16


def test_enough_frames_but_not_enough_time_is_too_short(tmp_path: Path) -> None:
    path = videos.cut(tmp_path / "fast.mp4", frames=40, fps=50)
    found = rejection(path)
    assert found.code is Code.TOO_SHORT
    assert found.message.startswith("has 13 frames at 16 fps (40 of its own in 0.8 s); needs 17")


def test_too_small_gives_the_numbers(tmp_path: Path) -> None:
    found = rejection(videos.original("carphone_pristine"), width=160, height=160)
    assert found.code is Code.TOO_SMALL
    assert found.message == (
        "is 176x144 (shown as 193x144), too small for 160x160: enlarging teaches blur. In that "
        "shape it is enough for 128x128"
    )
    assert check_clip(videos.original("carphone_pristine"), frames=5, fps=16, width=128, height=128)
    found = rejection(videos.original("carphone_pristine"), width=1920, height=16)
    assert found.message.endswith("enlarging teaches blur"), "of 176 there would be a height of 1"
    # 640x272 is wide enough for 480x288, not high enough.
    assert rejection(videos.original("bikes"), width=480, height=288).code is Code.TOO_SMALL
    assert check_clip(videos.original("bikes"), frames=5, fps=16, width=480, height=272)


def test_a_truncated_file_gives_itself_away(tmp_path: Path) -> None:
    # Matroska has its header in front: a cut-off file opens and plays up to the cut.
    path = tmp_path / "cut.mkv"
    videos.cut(path, frames=40)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 5])
    found = rejection(path, frames=33)
    assert found.code is Code.TOO_SHORT  # it counts no frames, so the numbers must tell
    assert f"({found.facts.decoded} of its own in 2.501 s)" in found.message
    assert 0 < found.facts.decoded < 20
    plain = videos.cut(tmp_path / "plain.mp4", frames=20)
    plain.write_bytes(plain.read_bytes()[:-600])  # MP4 has its index at the end
    assert rejection(plain).code is Code.UNREADABLE


def test_damage_is_found_by_decoding(tmp_path: Path) -> None:
    path = videos.damage(videos.cut(tmp_path / "bad.mp4", frames=40), at=0.3)
    found = rejection(path, frames=33)
    assert found.code is Code.UNDECODABLE
    decoded = found.facts.decoded
    assert 5 < decoded < 25
    assert found.message == f"does not decode after frame {decoded} of 40"
    # What is not used need not be whole.
    assert check_clip(path, frames=5, fps=16, width=128, height=96).frames == 5


def test_a_faststart_file_that_was_cut_off_is_undecodable(tmp_path: Path) -> None:
    whole = videos.cut(tmp_path / "whole.mp4", frames=40)
    front = tmp_path / "front.mp4"
    with (
        av.open(str(whole)) as source,
        av.open(str(front), "w", options={"movflags": "faststart"}) as sink,
    ):
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                sink.mux(packet)
    with av.open(str(front)) as source:
        starts = [packet.pos for packet in source.demux(video=0) if packet.pos is not None]
    data = front.read_bytes()
    for cut in (starts[25], starts[25] + 100):  # between two frames, and within one
        front.write_bytes(data[:cut])
        found = rejection(front, frames=33)
        assert found.code is Code.UNDECODABLE
        assert found.message == "does not decode after frame 25 of 40"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a video",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile x\n",
    ],
    ids=["empty", "text", "playlist", "concat"],
)
def test_other_files_do_not_open(tmp_path: Path, content: bytes) -> None:
    for name in ("clip.mp4", "clip.m3u8"):
        (tmp_path / name).write_bytes(content)
        assert rejection(tmp_path / name).code is Code.UNREADABLE


def test_a_concat_list_opens_no_other_file(tmp_path: Path) -> None:
    videos.cut(tmp_path / "target.mp4")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile target.mp4\n")
    assert rejection(tmp_path / "list.mp4").code is Code.UNREADABLE


def test_a_picture_of_absurd_size_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "MAX_PIXELS", 640 * 272 - 1)
    assert rejection(videos.cut(tmp_path / "large.mp4")).code is Code.UNREADABLE


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    found = rejection(tmp_path / "sound.mp4")
    assert (found.code, found.message) == (Code.UNREADABLE, "holds no video stream")


@pytest.mark.parametrize(("degrees", "turns"), [(90, -1), (180, 2), (270, 1), (0, 0)])
def test_a_turned_clip_is_turned_back(tmp_path: Path, degrees: int, turns: int) -> None:
    plain = videos.cut(tmp_path / "plain.mp4", frames=4)
    turned = videos.rotate(plain, tmp_path / "turned.mp4", degrees)
    shape = (272, 640) if degrees % 180 == 90 else (640, 272)
    facts = check_clip(turned, frames=2, fps=16, width=96, height=96)
    assert (facts.width, facts.height) == shape
    got = read_clip(turned, frames=2, fps=16, width=shape[0], height=shape[1])
    upright = read_clip(plain, frames=2, fps=16, width=640, height=272)
    # rot90 turns counter-clockwise; "turned clockwise by 90" is -1.
    assert np.array_equal(got, np.rot90(upright, turns, axes=(1, 2)))


def test_an_odd_turn_is_refused(tmp_path: Path) -> None:
    plain = videos.cut(tmp_path / "plain.mp4")
    found = rejection(videos.rotate(plain, tmp_path / "turned.mp4", 30))
    assert found.code is Code.ROTATION_UNSUPPORTED
    assert "quarter turns" in found.message


def test_the_picture_is_the_centre_of_the_original() -> None:
    path = videos.original("bikes")
    whole = read_clip(path, frames=1, fps=25, width=640, height=272)[0]
    got = read_clip(path, frames=1, fps=25, width=272, height=272)[0]
    assert np.array_equal(got, whole[:, 184:456])  # no scaling: the very pixels


def test_scaling_does_not_alias() -> None:
    # A pattern finer than the target's pixels becomes even grey, not moire.
    fine = np.zeros((960, 1280, 3), np.uint8)
    fine[:, ::2] = 255
    got = fit(fine, 128, 96)[8:-8, 8:-8].astype(int)
    assert abs(got - 127.5).max() < 3


def test_pixels_that_are_not_square_are_shown_as_meant() -> None:
    # carphone is 176x144 with pixels of 128:117; a circle must come out as one.
    grid = np.arange(144)[:, None], np.arange(176)[None, :]
    circle = ((grid[0] - 71.5) ** 2 + ((grid[1] - 87.5) * 128 / 117) ** 2) < 50**2
    image = np.repeat(circle[..., None] * np.uint8(255), 3, axis=2)
    got = fit(image, 96, 96, 128 / 117)[..., 0] > 127
    assert abs(int(got.any(axis=0).sum()) - int(got.any(axis=1).sum())) <= 2  # 6 if stretched
    facts = check_clip(videos.original("carphone_pristine"), frames=5, fps=16, width=128, height=96)
    assert (facts.width, facts.height) == (176, 144)


def test_of_two_frames_at_one_time_the_second_is_shown(tmp_path: Path) -> None:
    """As FFmpeg's filter `fps` has it: the first is on the screen for no time."""
    frames = (
        av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        for image in videos.counting(20)
    )
    times = [number // 2 for number in range(20)]
    path = coloured.encode(tmp_path / "clip.mkv", frames, fps=16, times=times)
    got = read_clip(path, frames=10, fps=16, width=128, height=96)
    assert videos.numbers(got) == list(range(1, 20, 2))
