"""Scores of clips as files: numbers, reasons, and what they were computed with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

import videos
from scored_clips import film, lossless, noisy
from wan_runtime.contract.clip_scores import ClipScores, Score
from wan_runtime.contract.metric_names import METRIC_NAMES, METRICS, MetricName
from wan_runtime.evaluation.metrics import score
from wan_runtime.evaluation.metrics.score import Limits, score_clip

PROGRAM = Path(imageio_ffmpeg.get_ffmpeg_exe())
COMPUTED = [name for name, each in METRICS.items() if each.mounted is None]
UNMOUNTED = [name for name, each in METRICS.items() if each.mounted is not None]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A lossy clip in yuv420p and what it was made from, both tagged alike."""
    folder = tmp_path_factory.mktemp("pair")
    clean = videos.pixels("bikes", 8)[:, :176, 200:440]
    videos.write(folder / "reference.mp4", iter(clean))
    videos.write(folder / "candidate.mp4", iter(noisy(clean)))
    return folder / "candidate.mp4", folder / "reference.mp4"


def values(scores: ClipScores) -> dict[MetricName, float | None]:
    return {name: each.value for name, each in scores.scores.items()}


def reasons(scores: ClipScores) -> set[str | None]:
    return {each.reason for each in scores.scores.values()}


def by_program(candidate: Path, reference: Path, comparison: str) -> str:
    """What FFmpeg's program says of all frames but the first, paired by number."""
    cut = "select=gte(n\\,1),setpts=N"
    graph = f"[0]{cut}[a];[1]{cut}[b];[a][b]{comparison}"
    command = [PROGRAM, "-hide_banner", "-nostdin", "-i", candidate, "-i", reference]
    done = subprocess.run([*command, "-lavfi", graph, "-f", "null", "-"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    return done.stderr


def after(text: str, label: str) -> float:
    return float(text.rpartition(label)[2].split()[0])


def test_values_are_those_of_ffmpeg(pair: tuple[Path, Path]) -> None:
    names: list[MetricName] = ["vmaf", "ffmpeg_psnr", "ffmpeg_ssim"]
    found = values(score_clip(*pair, metrics=names))
    assert found["ffmpeg_psnr"] == pytest.approx(
        after(by_program(*pair, "psnr"), "average:"), abs=1e-4
    )
    assert found["ffmpeg_ssim"] == pytest.approx(after(by_program(*pair, "ssim"), "All:"), abs=1e-5)
    libvmaf = by_program(*pair, "libvmaf=model=version=vmaf_float_v0.6.1")
    assert found["vmaf"] == pytest.approx(after(libvmaf, "VMAF score:"), abs=1e-3)


def test_every_metric_has_a_number_or_a_reason(pair: tuple[Path, Path]) -> None:
    scores = score_clip(*pair)
    assert tuple(scores.scores) == METRIC_NAMES
    assert {name for name, each in scores.scores.items() if each.value is None} == {*UNMOUNTED}
    assert {scores.scores[name].reason for name in UNMOUNTED} == {"NotMounted"}
    assert (scores.frames_compared, scores.fps, scores.width, scores.height) == (7, 16, 240, 176)
    assert {"opencv", "numpy", "av", "libavcodec", "libswscale"} <= scores.versions.keys()
    assert scores.device.startswith("cpu: ")
    assert "untagged" in scores.settings["colours"]
    assert ClipScores.model_validate_json(scores.model_dump_json(by_alias=True)) == scores


def test_a_clip_beside_itself_is_capped(pair: tuple[Path, Path]) -> None:
    same = values(score_clip(pair[1], pair[1], metrics=COMPUTED))
    assert {name: same[name] for name in ("psnr", "ffmpeg_psnr", "first_frame_fidelity")} == {
        "psnr": 100, "ffmpeg_psnr": 100, "first_frame_fidelity": 100,
    }  # fmt: skip
    alike: tuple[MetricName, ...] = (
        "ssim", "ms_ssim", "ffmpeg_ssim", "motion_ratio", "camera_agreement",
    )  # fmt: skip
    assert {same[name] for name in alike} == {1}


def test_one_equal_frame_does_not_make_the_mean_infinite(tmp_path: Path) -> None:
    clean = film(5)
    mixed = [*clean[:3], *noisy(clean[3:])]
    one, other = lossless(tmp_path / "one.mkv", mixed), lossless(tmp_path / "two.mkv", clean)
    error = np.mean((np.stack(mixed[1:]).astype(float) - np.stack(clean[1:])) ** 2)
    found = values(score_clip(one, other, metrics=["psnr"]))
    assert found["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-6)


def test_the_first_frame_is_apart(tmp_path: Path) -> None:
    clean = film(6)
    spoiled = [255 - clean[0], *clean[1:]]
    one, other = lossless(tmp_path / "one.mkv", spoiled), lossless(tmp_path / "two.mkv", clean)
    found = values(score_clip(one, other, metrics=["psnr", "ssim", "first_frame_fidelity"]))
    assert (found["psnr"], found["ssim"]) == (100, 1)
    assert found["first_frame_fidelity"] < 10  # type: ignore[operator]
    Image.fromarray(255 - clean[0]).save(tmp_path / "first.png")
    pictured = score_clip(one, other, tmp_path / "first.png", ["first_frame_fidelity"])
    assert pictured.scores["first_frame_fidelity"].value == 100


def test_the_wrapping_ratio_is_given_on_request_only(tmp_path: Path) -> None:
    clean = film(3)
    one, other = (
        lossless(tmp_path / f"{name}.mkv", clip)
        for name, clip in (("one", [255 - each for each in clean]), ("two", clean))
    )
    assert score_clip(one, other, metrics=["psnr"]).legacy_psnr_uint8 is None
    found = score_clip(one, other, metrics=["psnr"], legacy=True)
    assert found.scores["psnr"].value < 10  # type: ignore[operator]
    assert found.legacy_psnr_uint8 == pytest.approx(28, abs=2), "of opposite pictures"
    alone = score_clip(one, other, metrics=[], legacy=True)
    assert (alone.scores, alone.legacy_psnr_uint8) == ({}, found.legacy_psnr_uint8)
    assert score_clip(one, one, metrics=[], legacy=True).legacy_psnr_uint8 == 100


def test_without_a_reference_what_needs_one_says_so(pair: tuple[Path, Path]) -> None:
    scores = score_clip(pair[0], metrics=COMPUTED).scores
    for name, each in scores.items():
        beside = METRICS[name].beside
        wanted = {"Reference": "NoReference", "FirstFrame": "NoFirstFrame", "Nothing": None}[beside]
        assert each.reason == wanted, name


def test_a_clip_that_is_cut_off_has_no_score_at_all(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(videos.damage(videos.cut(broken, frames=16)).read_bytes())
    scores = score_clip(broken, pair[1], metrics=["psnr", "flicker", "lpips"])
    assert scores.scores["psnr"] == scores.scores["flicker"]
    assert scores.scores["psnr"].reason == "CandidateUnreadable"
    assert scores.scores["psnr"].message.startswith("broken.mp4 does not decode after frame")
    assert scores.scores["lpips"].reason == "NotMounted"
    missing = score_clip(pair[0], tmp_path / "no.mp4", metrics=["psnr"])
    assert missing.scores["psnr"].reason == "ReferenceUnreadable"
    text = tmp_path / "first.png"
    text.write_text("no picture")
    unread = score_clip(pair[0], None, text, ["sharpness"])
    assert unread.scores["sharpness"].reason == "FirstFrameUnreadable"


def test_one_frame_is_too_short_and_a_stamp_too_small(tmp_path: Path) -> None:
    single = lossless(tmp_path / "single.mkv", film(1))
    found = score_clip(single, single, metrics=COMPUTED)
    assert found.scores["first_frame_fidelity"].value == 100
    del found.scores["first_frame_fidelity"]
    assert reasons(found) == {"TooShort"}
    small = lossless(tmp_path / "small.mkv", film(3, 96, 128))
    assert score_clip(small, small, metrics=["ms_ssim"]).scores["ms_ssim"].reason == "TooSmall"


def test_time_that_runs_out_is_a_reason(pair: tuple[Path, Path]) -> None:
    assert reasons(score_clip(*pair, metrics=COMPUTED, limits=Limits(seconds=0))) == {"TimedOut"}


def test_a_clip_that_goes_on_is_not_read_to_its_end(pair: tuple[Path, Path]) -> None:
    limits = Limits(seconds=0, frames=0)
    assert reasons(score_clip(*pair, metrics=["psnr"], limits=limits)) == {"TimedOut"}


@pytest.mark.parametrize("size", [(16, 96), (20, 24), (96, 16)])
def test_narrow_clips_are_scored(tmp_path: Path, size: tuple[int, int]) -> None:
    """OpenCV's flow reads beyond pictures of less than 32 pixels at a side."""
    one = lossless(tmp_path / "one.mkv", film(5, *size))
    other = lossless(tmp_path / "two.mkv", film(5, *size, start=3))
    assert reasons(score_clip(one, other, metrics=COMPUTED)) <= {None, "TooSmall", "NoCameraTrack"}


def test_an_error_of_one_metric_is_its_own(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("of this test")

    monkeypatch.setattr(score, "Flicker", broken)
    found = score_clip(*pair, metrics=["psnr", "flicker"]).scores
    assert found["flicker"] == Score(reason="Failed", message="an error of its own: the log has it")
    assert found["psnr"].value is not None
    assert "of this test" in caplog.text


def test_a_score_is_a_number_or_a_reason() -> None:
    for wrong in ({}, {"value": 1.0, "reason": "Failed"}, {"value": float("nan")}):
        with pytest.raises(ValueError, match="value"):
            Score.model_validate(wrong)


def test_torch_is_not_imported() -> None:
    program = "import sys, wan_runtime.evaluation.metrics.score; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
