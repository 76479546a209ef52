"""Two clips at equal times, in one size and as they are displayed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import coloured
import videos
from scored_clips import Picture, film, lossless
from wan_runtime.evaluation.metrics.alignment import AS_CANDIDATE, Aligned, Grid
from wan_runtime.evaluation.metrics.frame import Pair
from wan_runtime.evaluation.metrics.similarity import decibels, squared_error
from wan_runtime.evaluation.metrics.unscored import NoScore


def grey(numbers: range, size: tuple[int, int] = (64, 48)) -> list[Picture]:
    return [np.full((size[1], size[0], 3), number * 5, np.uint8) for number in numbers]


def levels(pairs: list[Pair]) -> list[tuple[int, int]]:
    """Numbers of the frames of `grey` that stand beside each other."""
    found = []
    for pair in pairs:
        assert pair.reference is not None
        both = pair.candidate.rgb.mean(), pair.reference.rgb.mean()
        found.append((round(both[0] / 5), round(both[1] / 5)))
    return found


def likeness(one: Path, other: Path, grid: Grid = AS_CANDIDATE) -> float:
    error, count = 0.0, 0
    for pair in Aligned(one, other, grid=grid):
        assert pair.reference is not None
        error += squared_error(pair.candidate.rgb, pair.reference.rgb)
        count += pair.candidate.rgb.size
    return decibels(error / count)


def test_frames_are_paired_by_time_not_by_number(tmp_path: Path) -> None:
    candidate = lossless(tmp_path / "12.mkv", grey(range(0, 40, 2)), fps=12)
    reference = lossless(tmp_path / "24.mkv", grey(range(40)), fps=24)
    aligned = Aligned(candidate, reference)
    assert levels([*aligned]) == [(2 * number, 2 * number) for number in range(20)]
    assert aligned.facts() == {
        "frames_compared": 19, "fps": 12, "fps_candidate": 12, "fps_reference": 24,
        "width": 64, "height": 48,
    }  # fmt: skip
    other = Aligned(candidate, reference, grid=Grid(fps=24))
    assert levels([*other]) == [(number // 2 * 2, number) for number in range(40)]


def test_milliseconds_of_matroska_move_no_frame(tmp_path: Path) -> None:
    mkv = lossless(tmp_path / "16.mkv", grey(range(30)))
    videos.write(tmp_path / "16.mp4", iter(grey(range(30))))
    assert levels([*Aligned(mkv, tmp_path / "16.mp4")]) == [(n, n) for n in range(30)]


def test_a_clip_of_uneven_times_stands_beside_an_even_one(tmp_path: Path) -> None:
    """Phones leave frames out: the last one stays on the screen."""
    uneven = [0, 1, 2, 5, 6, 9]
    times = [round(each * 1000 / 16) for each in uneven]
    phone = lossless(tmp_path / "phone.mkv", (grey(range(10))[each] for each in uneven),
                     times=times, clock=Fraction(1, 1000))  # fmt: skip
    even = lossless(tmp_path / "even.mkv", grey(range(10)))
    assert levels([*Aligned(even, phone)]) == [
        (0, 0), (1, 1), (2, 2), (3, 2), (4, 2), (5, 5), (6, 6), (7, 6), (8, 6), (9, 9),
    ]  # fmt: skip


def test_the_part_of_the_reference_is_chosen_and_the_shorter_clip_ends_it(tmp_path: Path) -> None:
    candidate = lossless(tmp_path / "c.mkv", grey(range(6)))
    reference = lossless(tmp_path / "r.mkv", grey(range(9)))
    assert levels([*Aligned(candidate, reference, grid=Grid(start=5))]) == [
        (0, 5), (1, 6), (2, 7), (3, 8),
    ]  # fmt: skip
    assert len([*Aligned(candidate, reference)]) == 6
    assert len([*Aligned(candidate, reference, limit=3)]) == 3


def test_sizes_are_equalised_as_training_cuts(tmp_path: Path) -> None:
    large = lossless(tmp_path / "large.mkv", film(4, 128, 192))
    wide = [np.pad(each, ((0, 0), (16, 16), (0, 0))) for each in film(4, 128, 192)]
    padded = lossless(tmp_path / "padded.mkv", wide)
    assert likeness(large, padded) == 100
    small = [
        np.asarray(Image.fromarray(each).resize((96, 64), Image.Resampling.LANCZOS))
        for each in film(4, 128, 192)
    ]
    halved = lossless(tmp_path / "halved.mkv", small)
    aligned = Aligned(large, halved)
    assert (aligned.width, aligned.height) == (96, 64), "nothing is enlarged"
    assert likeness(large, halved) == 100
    asked = Aligned(large, padded, grid=Grid(size=(64, 64)))
    assert next(iter(asked)).candidate.rgb.shape == (64, 64, 3)
    narrow = lossless(tmp_path / "narrow.mkv", grey(range(3), (64, 8)))
    with pytest.raises(NoScore, match="16 are needed") as caught:
        Aligned(large, narrow)
    assert caught.value.reason == "TooSmall"


def test_a_phones_turned_clip_is_upright(tmp_path: Path) -> None:
    upright = videos.cut(tmp_path / "upright.mp4", frames=4)
    stored = [np.rot90(each) for each in videos.pixels("bikes")[:4]]
    videos.write(tmp_path / "stored.mp4", iter(stored))
    turned = videos.rotate(tmp_path / "stored.mp4", tmp_path / "turned.mp4", 90)
    pairs = [*Aligned(turned, upright)]
    assert pairs[0].candidate.decoded is None, "what is turned is no more as it was decoded"
    assert likeness(turned, upright) > 38
    assert likeness(tmp_path / "stored.mp4", upright) < 20


@pytest.mark.parametrize(
    ("matrix", "full", "size"),
    [(6, False, (128, 96)), (6, True, (128, 96)), (1, True, (128, 96)), (None, False, (1280, 720))],
    ids=["BT.601", "BT.601 full", "BT.709 full", "untagged 720p"],
)
def test_colours_are_those_that_the_file_means(
    tmp_path: Path, matrix: int | None, full: bool, size: tuple[int, int]
) -> None:
    """BT.709 of limited range, with its tags, is the reference. An untagged clip of 720 lines is
    BT.709."""

    def clip(name: str, number: int, full: bool, tags: dict[str, int]) -> Path:
        frame = coloured.patches(coloured.PATCHES, "yuv444p", number, full=full, size=size)
        return coloured.encode(tmp_path / name, [frame] * 2, options={"level": "3"}, **tags)

    reference = clip("709.mkv", 1, False, {"colorspace": 1, "color_range": 1})
    stated = {} if matrix is None else {"colorspace": matrix, "color_range": 2 if full else 1}
    candidate = clip("other.mkv", matrix or 1, full, stated)
    assert likeness(candidate, reference) > 45
    wrong = clip("wrong.mkv", 6 if matrix in (1, None) else 1, full, stated)
    assert likeness(wrong, reference) < 32


def test_what_is_transparent_lies_over_white(tmp_path: Path) -> None:
    def clip(name: str, alpha: int) -> Path:
        image = np.full((64, 64, 4), 255, np.uint8)
        image[:, :32, :3], image[:, :32, 3] = (255, 0, 0), alpha
        frame = av.VideoFrame.from_ndarray(image, format="rgba").reformat(format="bgra")
        return coloured.encode(tmp_path / name, [frame] * 3)

    opaque = lossless(tmp_path / "white.mkv", [np.full((64, 64, 3), 255, np.uint8)] * 3)
    assert likeness(clip("clear.mkv", 0), opaque) == 100
    assert likeness(clip("red.mkv", 255), opaque) < 10


def cut_off(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: round(len(data) * share)])
    return path


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"text" * 99), "does not open as a video"),
        (lambda path: cut_off(path, 0.4), "does not open as a video"),
        (lambda path: path.unlink(), "No such file"),
    ],
    ids=["empty", "text", "no index", "missing"],
)  # fmt: skip
def test_a_file_that_cannot_be_read_says_which_and_why(
    tmp_path: Path, spoil: object, message: str
) -> None:
    good = videos.cut(tmp_path / "good.mp4", frames=6)
    bad = videos.cut(tmp_path / "bad.mp4", frames=6)
    spoil(bad)  # type: ignore[operator]
    with pytest.raises(NoScore, match=message) as caught:
        [*Aligned(bad, good)]
    assert (caught.value.reason, caught.value.message[:7]) == ("CandidateUnreadable", "bad.mp4")
    with pytest.raises(NoScore, match=message) as caught:
        [*Aligned(good, bad)]
    assert caught.value.reason == "ReferenceUnreadable"


def index_first(path: Path) -> Path:
    """As the product writes clips: what is cut off is frames."""
    with (
        av.open(str(path)) as source,
        av.open(
            str(path.with_name("moved.mp4")), "w", options={"movflags": "+faststart"}
        ) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path.with_name("moved.mp4")


@pytest.mark.parametrize("share", [0.5, 0.9, None], ids=["half", "most", "between frames"])
def test_a_clip_that_lost_its_end_is_no_shorter_clip(tmp_path: Path, share: float | None) -> None:
    whole = index_first(videos.cut(tmp_path / "whole.mp4", frames=16))
    short = lossless(tmp_path / "short.mkv", videos.pixels("bikes")[:4])
    assert len([*Aligned(whole, whole)]) == 16
    lost = tmp_path / "lost.mp4"
    lost.write_bytes(whole.read_bytes())
    with av.open(str(whole)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    cut_off(lost, share or places[8] / lost.stat().st_size)
    for pair in ((lost, whole), (lost, None), (lost, short)):
        with pytest.raises(NoScore, match="does not decode after frame") as caught:
            [*Aligned(*pair)]
        assert caught.value.reason == "CandidateUnreadable"
