"""Step prepare with buckets: real clips of several shapes and lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import videos
from job_files import sized
from prepare_bench import Bench, Row
from wan_runtime.contract.reasons import Reason
from wan_runtime.data import checker, clips
from wan_runtime.data.dataset import Clip, Code, Concern
from wan_runtime.data.pixels import first_frame_of, frames_of

pytest_plugins = ["prepare_fixtures"]

BUCKETS = [sized(160, 96, 33), sized(160, 96, 17), sized(96, 160, 17)]


@pytest.fixture
def mixed(bench: Bench, tmp_path: Path) -> list[Row]:
    """640x272 and 1280x720, long and short; 176x144; and one that a phone held upright."""
    big = "bigbuckbunny"
    cuts = {
        "long": videos.cut(tmp_path / "long.mp4", frames=40),
        "short": videos.cut(tmp_path / "short.mp4", big, frames=20),
        "small": videos.cut(tmp_path / "small.mp4", "carphone_pristine", frames=34),
        "upright": videos.rotate(
            videos.cut(tmp_path / "u.mp4", big, start=20, frames=36), tmp_path / "upright.mp4", 90
        ),
    }
    rows: list[Row] = [
        {"video": f"{name}.mp4", "prompt": f"a {name} clip", "source": name} for name in cuts
    ]
    bench.put({f"{name}.mp4": path.read_bytes() for name, path in cuts.items()}, rows)
    return rows


def by_name(bench: Bench, **dataset: Any) -> dict[str, Clip]:
    clips = bench.dataset(bench.run(**{"buckets": BUCKETS, **dataset})).clips
    return {clip.path.removesuffix(".mp4"): clip for clip in clips}


def test_every_clip_goes_where_it_fits_best(bench: Bench, mixed: list[Row], tmp_path: Path) -> None:
    clips = by_name(bench)
    assert {name: str(clip.bucket) for name, clip in clips.items()} == {
        "long": "160x96x33", "short": "160x96x17", "small": "160x96x33", "upright": "96x160x17",
    }  # fmt: skip
    for clip in clips.values():
        pixels = frames_of(bench.store, clip, 16, tmp_path / "pixels")
        assert pixels.shape == (clip.size.frames, clip.size.height, clip.size.width, 3)


def test_the_verdicts_say_which_and_how_many(bench: Bench, mixed: list[Row]) -> None:
    outcome = bench.run(buckets=BUCKETS, trainFraction=0.75)
    dataset = bench.dataset(outcome)
    counted = {str(each): count for each, count in dataset.windows.items()}
    assert sum(counted.values()) == len(dataset.train) == 3
    for name, count in counted.items():
        assert outcome.summary[f"trainWindows{name}"] == count
    listed = ", ".join(
        f"{name} {count}{'' if count else ' (fewer than a batch)'}"
        for name, count in counted.items()
    )
    assert outcome.message.startswith(f"3 clips train, 1 held out; by bucket: {listed}")
    page = bench.store.get_bytes(f"{bench.job.output_prefix}/report.html").decode()
    assert "cut to 96x160x17" in page
    assert f"Train by bucket: {listed}" in page


def test_a_bucket_with_fewer_clips_than_a_batch_is_told(bench: Bench, mixed: list[Row]) -> None:
    bench.training = {"batchSize": 2}
    dataset = {"buckets": BUCKETS[::2], "trainFraction": 0.75, "splitSeed": 1}
    assert (
        "by bucket: 160x96x33 2, 96x160x17 1 (fewer than a batch)" in bench.run(**dataset).message
    )
    bench.training = {}
    assert "by bucket: 160x96x33 2, 96x160x17 1;" in bench.run(**dataset).message


def test_every_window_counts_in_its_bucket(bench: Bench, mixed: list[Row], tmp_path: Path) -> None:
    clips = by_name(bench, window="Spread", windowsPerClip=2)
    assert {name: clip.starts for name, clip in clips.items()} == {
        "long": (0,), "short": (0,), "small": (0,), "upright": (0, 19),
    }  # fmt: skip
    assert by_name(bench, window="Middle")["upright"].starts == (9,)


def test_a_clip_that_fills_none_is_rejected_with_the_reason(bench: Bench, mixed: list[Row]) -> None:
    clips = by_name(bench, buckets=[sized(640, 256, 33), sized(256, 640, 21)], rejectedClips="Skip")
    assert clips["small"].code is Code.TOO_SMALL
    assert clips["small"].message == (
        "is 176x144, too small for 640x256, 256x640: enlarging teaches blur"
    )
    assert clips["short"].code is Code.TOO_SHORT
    assert clips["short"].message.endswith("needs 21")
    assert clips["short"].bucket is None
    assert str(clips["upright"].bucket) == "256x640x21"


def test_buckets_of_one_length_need_the_first_frame_only(
    bench: Bench, mixed: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []
    real = checker.survey

    def watched(path: Path, *, fps: float, limit: int | None) -> clips.Facts:
        asked.append(limit)
        return real(path, fps=fps, limit=limit)

    monkeypatch.setattr(checker, "survey", watched)
    found = by_name(bench, buckets=[sized(160, 96), sized(96, 160)])
    assert str(found["upright"].bucket) == "96x160x17"
    long = [sized(160, 96, 33), sized(96, 160, 33)]
    short = by_name(bench, buckets=long, rejectedClips="Skip")["short"]
    assert (short.code, short.bucket) == (Code.TOO_SHORT, None)
    assert short.message.endswith("needs 33")
    assert set(asked) == {1}


def test_a_clip_of_which_little_is_left_is_warned_of(bench: Bench, mixed: list[Row]) -> None:
    """Too short for the bucket of its shape, it goes to one that cuts most of it off."""
    clips = by_name(bench, buckets=BUCKETS[::2])
    assert str(clips["short"].bucket) == "96x160x17"
    said = {warned.code: warned.message for warned in clips["short"].warnings}
    assert said[Concern.CROPPED] == (
        "34% of its 1280x720 are in 96x160x17; 160x96x17 in dataset.buckets would have 94%"
    )
    assert Concern.CROPPED not in {warned.code for warned in clips["long"].warnings}


def test_a_picture_to_start_from_is_cut_as_its_clip(
    bench: Bench, mixed: list[Row], tmp_path: Path
) -> None:
    image = tmp_path / "first.png"
    Image.fromarray(np.full((200, 120, 3), 90, np.uint8)).save(image)
    bench.put(
        {"first.png": image.read_bytes()},
        [*mixed[:3], {**mixed[3], "input_image": "first.png"}],
    )
    clip = by_name(bench)["upright"]
    got = first_frame_of(bench.store, clip, np.zeros((1, 1, 1, 3), np.uint8), tmp_path / "pixels")
    assert got.shape == (160, 96, 3)
    bench.put({}, [{**mixed[0], "input_image": "first.png"}, *mixed[1:]])
    clip = by_name(bench, rejectedClips="Skip")["long"]
    assert clip.code is Code.FIRST_FRAME_INVALID
    assert "its first frame first.png is 120x200, too small for 160x96" in clip.message


def musubi(bench: Bench, stated: str) -> None:
    lines = [
        json.dumps({"video_path": f"{name}.mp4", "caption": name})
        for name in ("long", "short", "small", "upright")
    ]
    toml = f'[[datasets]]\nvideo_jsonl_file = "m.jsonl"\n{stated}\n'
    for path, text in (("m.jsonl", "\n".join(lines)), ("set.toml", toml)):
        bench.store.put_bytes(f"{bench.prefix}/{path}", text.encode())


@pytest.mark.parametrize(
    ("stated", "long", "upright"),
    [
        ("", "160x96x33", "96x160x17"),
        ("target_frames = [17]", "160x96x17", "96x160x17"),
        ("resolution = [160, 96]", "160x96x33", "160x96x33"),
        ("resolution = [160, 96]\nenable_bucket = true", "160x96x33", "96x160x17"),
        ("resolution = [160, 96]\ntarget_frames = [17]", "160x96x17", "160x96x17"),
    ],
)
def test_sizes_that_musubi_states_are_kept_to(
    bench: Bench, mixed: list[Row], stated: str, long: str, upright: str
) -> None:
    musubi(bench, stated)
    clips = by_name(bench, format="Musubi", rejectedClips="Skip")
    assert (str(clips["long"].bucket), str(clips["upright"].bucket)) == (long, upright)


@pytest.mark.parametrize(
    ("stated", "missing"),
    [
        ("resolution = [960, 544]", "resolution 960x544"),
        ("resolution = 96\nenable_bucket = true", "resolution 96x96"),
        ("target_frames = [1, 17, 45]", "target_frames 45"),
        ("resolution = [96, 160]\ntarget_frames = [17, 33]", "target_frames 33"),
    ],
)
def test_sizes_that_musubi_states_and_the_run_lacks_are_refused(
    bench: Bench, mixed: list[Row], stated: str, missing: str
) -> None:
    musubi(bench, stated)
    error = bench.fail(format="Musubi", buckets=BUCKETS)
    assert error.reason is Reason.DATASET_INVALID
    assert error.message.startswith(
        f"set.toml, dataset 1 has {missing}, and the run cuts clips to 160x96x33, 160x96x17, "
        "96x160x17: list its sizes in dataset.buckets"
    )
