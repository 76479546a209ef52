"""VMAF beside libvmaf, as FFmpeg's program has it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest

import videos
from scored_clips import Picture, noisy
from wan_runtime.evaluation.metrics.frame import Frame, Pair
from wan_runtime.evaluation.metrics.unscored import NoScore
from wan_runtime.evaluation.metrics.vmaf import MODEL, Vmaf

PROGRAM = imageio_ffmpeg.get_ffmpeg_exe()
CHANGES: dict[str, Callable[[list[Picture]], list[Picture]]] = {
    "same": lambda clean: clean,
    "noise": noisy,
    "blur": lambda clean: [cv2.GaussianBlur(each, (0, 0), 1.5) for each in clean],
    "contrast": lambda clean: [cv2.convertScaleAbs(each, alpha=0.8, beta=20) for each in clean],
    "stronger": lambda clean: [cv2.convertScaleAbs(each, alpha=1.1) for each in clean],
    "shift": lambda clean: [np.roll(each, 3, axis=1) for each in clean],
    "late": lambda clean: [clean[0], *clean[:-1]],
    "negative": lambda clean: [255 - each for each in clean],
}
SIZES = {"whole": (272, 640), "odd quarters": (122, 170), "small": (32, 34)}


def yuv(picture: Picture) -> av.VideoFrame:
    rgb = np.ascontiguousarray(picture)
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")


def ours(candidate: list[av.VideoFrame], reference: list[av.VideoFrame]) -> float:
    scorer = Vmaf()
    for number, frames in zip(count(1), zip(candidate, reference, strict=True)):
        one, other = (Frame(each.to_ndarray(format="rgb24"), decoded=each) for each in frames)
        scorer.add(Pair(number, one, other, None, 16))
    return scorer.value()


def libvmaf(
    candidate: list[av.VideoFrame], reference: list[av.VideoFrame], folder: Path, model: str
) -> float:
    """The mean by FFmpeg's filter, of raw frames."""
    size = f"{candidate[0].width}x{candidate[0].height}"
    command = [PROGRAM, "-hide_banner", "-loglevel", "error"]
    for name, frames in (("one", candidate), ("two", reference)):
        raw = folder / f"{name}.yuv"
        raw.write_bytes(b"".join(each.to_ndarray().tobytes() for each in frames))
        command += [
            "-f",
            "rawvideo",
            "-pixel_format",
            "yuv420p",
            "-video_size",
            size,
            "-i",
            str(raw),
        ]
    said = "log_fmt=json:log_path=said.json"
    graph = f"[0][1]libvmaf=model=version={model}:{said}"
    subprocess.run([*command, "-lavfi", graph, "-f", "null", "-"], cwd=folder, check=True)
    return float(json.loads((folder / "said.json").read_text())["pooled_metrics"]["vmaf"]["mean"])


@pytest.mark.parametrize("size", SIZES)
def test_values_are_those_of_libvmaf(size: str, tmp_path: Path) -> None:
    height, width = SIZES[size]
    clean = [each[:height, 100 : 100 + width] for each in videos.pixels("bikes", 4)]
    reference = [*map(yuv, clean)]
    for name, change in CHANGES.items():
        candidate = [*map(yuv, change(clean))]
        wanted = libvmaf(candidate, reference, tmp_path, MODEL)
        assert ours(candidate, reference) == pytest.approx(wanted, abs=2e-3), name


def test_the_usual_model_is_near(tmp_path: Path) -> None:
    """Its features are rounded to whole numbers on the way."""
    clean = [*videos.pixels("bigbuckbunny", 3)]
    candidate, reference = ([*map(yuv, each)] for each in (noisy(clean), clean))
    usual = libvmaf(candidate, reference, tmp_path, "vmaf_v0.6.1")
    assert ours(candidate, reference) == pytest.approx(usual, abs=0.05)


def test_a_still_beside_itself_is_below_100() -> None:
    """Motion is a part of the model."""
    still = [yuv(videos.pixels("bikes", 1)[0][:176, :240])] * 3
    assert ours(still, still) == pytest.approx(97.43, abs=0.05)


def test_a_stamp_is_too_small() -> None:
    small = yuv(videos.pixels("bikes", 1)[0][:30, :240])
    with pytest.raises(NoScore) as none:
        ours([small], [small])
    assert (none.value.reason, none.value.message) == (
        "TooSmall",
        "needs 32 pixels at the shorter side: the clips have 240x30 in common",
    )


def test_the_first_frame_is_apart() -> None:
    one, two = (yuv(each[:176, :240]) for each in videos.pixels("bikes", 2))
    frames = [Frame(each.to_ndarray(format="rgb24"), decoded=each) for each in (one, two)]
    scorer = Vmaf()
    scorer.add(Pair(0, frames[1], frames[0], None, 16))
    with pytest.raises(NoScore) as none:
        scorer.value()
    assert none.value.reason == "TooShort"
    scorer.add(Pair(1, frames[0], frames[0], None, 16))
    assert scorer.value() == pytest.approx(97.43, abs=0.05)
