"""Step prepare: what it warns of, what it shows, which windows it takes. Real clips and store."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

import videos
from job_files import sized
from prepare_bench import Bench, Row
from wan_runtime.contract.dataset import Bucket
from wan_runtime.contract.job import ModelSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.data import captions
from wan_runtime.data.dataset import Clip, Concern
from wan_runtime.data.pixels import frames_of

pytest_plugins = ["prepare_fixtures"]


def warnings(clip: Clip) -> dict[Concern, str]:
    return {warned.code: warned.message for warned in clip.warnings}


def add(bench: Bench, rows: list[Row], path: Path, **row: str) -> None:
    """One more clip, beside those that are there."""
    entry = {"video": path.name, "prompt": "one more", "source": path.stem, **row}
    rows.append(entry)
    bench.put({path.name: path.read_bytes()}, rows)


def test_odd_clips_are_kept_with_a_warning(bench: Bench, four: list[Row], tmp_path: Path) -> None:
    image = videos.pixels("bikes")[40]
    barred = [np.pad(frame, ((60, 60), (0, 0), (0, 0))) for frame in videos.pixels("bikes", 17)]
    add(bench, four, videos.cut(tmp_path / "cut.mp4", start=20))
    videos.write(tmp_path / "still.mp4", iter([image] * 17))
    add(bench, four, tmp_path / "still.mp4", source="a")
    videos.write(tmp_path / "bars.mp4", iter(barred))
    add(bench, four, tmp_path / "bars.mp4", prompt="word " * 500)
    outcome = bench.run(buckets=[sized(208, 128)])
    dataset = bench.dataset(outcome)
    assert [warnings(clip) for clip in dataset.clips[:4]] == [{}] * 4
    cut, still, bars = map(warnings, dataset.clips[4:])
    assert cut[Concern.SCENE_CUT] == "cuts to another scene at 0.6 s"
    assert "hardly moves from 0.0 s on: 0." in still[Concern.NEAR_STATIC]
    assert bars[Concern.BLACK_BARS] == "has the black bars of a letterbox"
    assert bars[Concern.CAPTION_TOO_LONG] == (
        "its caption has about 625 tokens; the model reads 512"
    )
    assert all(clip.split for clip in dataset.clips)
    assert outcome.summary["warnedClips"] == 3
    assert outcome.summary["rejectedClips"] == 0
    assert "warned of: 1 SceneCut, 1 NearStatic" in outcome.message


@pytest.mark.parametrize(("fps", "message"), [(8, "8 of 17 frames at 16 fps repeat"), (15, "")])
def test_a_slow_source_stutters(
    bench: Bench, four: list[Row], tmp_path: Path, fps: int, message: str
) -> None:
    add(bench, four, videos.cut(tmp_path / "slow.mp4", "bigbuckbunny", frames=20, fps=fps))
    found = warnings(bench.dataset(bench.run()).clips[4])
    assert found.get(Concern.REPEATED_FRAMES, "")[: len(message) or None] == message
    if message:
        assert found[Concern.REPEATED_FRAMES].endswith("it has 8 fps, or stalls")


def test_what_two_recordings_show_is_not_held_out(
    bench: Bench, four: list[Row], good: list[bytes], tmp_path: Path
) -> None:
    rows = [
        {"video": f"clips/{n}.mp4", "prompt": "x", "source": f"film {n}"} for n in range(4)
    ]  # fmt: skip
    smaller = [
        np.asarray(Image.fromarray(frame).resize((320, 136))) for frame in videos.pixels("bikes")
    ]
    videos.write(tmp_path / "copy.mp4", iter(smaller[:20]))
    add(bench, rows, tmp_path / "copy.mp4")
    for seed in range(4):
        dataset = bench.dataset(bench.run(splitSeed=seed, trainFraction=0.5))
        found = {clip.path: warnings(clip) for clip in dataset.clips}
        assert found["copy.mp4"] == {
            Concern.NEAR_DUPLICATE: "shows a picture of clips/0.mp4 (row 1), of another recording"
        }
        assert "copy.mp4 (row 5)" in found["clips/0.mp4"][Concern.NEAR_DUPLICATE]
        assert found["clips/1.mp4"] == {}
        out = {clip.path for clip in dataset.held_out}
        assert out
        assert not out & {"copy.mp4", "clips/0.mp4"}


def test_held_out_pictures_that_training_shows_are_told(
    bench: Bench, good: list[bytes], tmp_path: Path
) -> None:
    smaller = [
        np.asarray(Image.fromarray(frame).resize((320, 136))) for frame in videos.pixels("bikes")
    ]
    videos.write(tmp_path / "copy.mp4", iter(smaller[:20]))
    rows = [{"video": f"{name}.mp4", "prompt": "x"} for name in ("first", "copy")]
    bench.put({"first.mp4": good[0], "copy.mp4": (tmp_path / "copy.mp4").read_bytes()}, rows)
    outcome = bench.run()
    assert "1 held-out clips show pictures of training clips: no other is left" in outcome.message


def test_captions_are_counted_by_the_models_tokenizer(bench: Bench, tmp_path: Path) -> None:
    words = {"<unk>": 0, **{word: number for number, word in enumerate("abc", 1)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(5)
    file = tmp_path / captions.TOKENIZER
    file.parent.mkdir(parents=True)
    tokenizer.save(str(file))
    bench.store.put_file(f"{bench.prefix}/model/{captions.TOKENIZER}", file)
    for model in (
        ModelSpec(preset="x", path=str(tmp_path)),
        ModelSpec(preset="x", source=f"s3://wan/{bench.prefix}/model/"),
    ):
        count = captions.caption_counter(model, bench.store, bench.work)
        assert count("a b  c\n" * 200) == 600
    for model in (
        ModelSpec(preset="x"),
        ModelSpec(preset="x", path=str(tmp_path / "elsewhere")),
        ModelSpec(preset="x", source="s3://wan/nothing"),
    ):
        assert captions.caption_counter(model, bench.store, bench.work)("a b c") == 2


def page(bench: Bench) -> str:
    return bench.store.get_bytes(f"{bench.job.output_prefix}/report.html").decode()


def test_the_report_shows_every_clip_and_loads_nothing(
    bench: Bench, four: list[Row], tmp_path: Path
) -> None:
    four[0]["prompt"] = "<script>alert('x')</script> & more"
    add(bench, four, videos.cut(tmp_path / "cut.mp4", start=20))
    short = videos.cut(tmp_path / "short.mp4", frames=9)
    add(bench, four, short, prompt="too short")
    four.append({"video": "<b>.mp4", "prompt": "x", "source": "y"})
    bench.put({}, four)
    bench.run(rejectedClips="Skip")
    html = page(bench)
    assert "<script" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; more" in html
    assert not re.search(r"(src|href)=.?(?!data:)|url\(|@import", html.replace('src="data:', ""))
    order = [html.index(f"{row}. ") for row in (6, 7, 5, 1)]
    assert order == sorted(order), "rejected first, then those with warnings"
    assert "7 clips of metadata.json for 128x96x17 at 16 fps" in html
    assert "Train by bucket" not in html, "there is only one"
    assert "2 rejected: 1 TooShort, 1 NotFound. 1 with warnings: 1 SceneCut." in html
    assert "TooShort: has 9 frames at 16 fps" in html
    pictures = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)", html)]
    assert len(pictures) == 6  # all that could be decoded, the one that is too short too
    for data in pictures:
        assert Image.open(io.BytesIO(data)).size == (336, 84)


def test_a_refused_dataset_leaves_its_report(bench: Bench, four: list[Row]) -> None:
    bench.put({}, [*four, {"video": "clips/gone.mp4", "prompt": "x"}])
    bench.fail()
    assert "NotFound: does not exist" in page(bench)
    assert page(bench).count("<img") == 4


def test_windows_of_a_long_clip_are_recorded(bench: Bench, tmp_path: Path) -> None:
    rows: list[Row] = []
    for number in range(2):
        name = ("bigbuckbunny", "bikes")[number]
        add(bench, rows, videos.cut(tmp_path / f"{name}.mp4", name, frames=60))
    for window, count, starts in (
        ("First", 1, (0,)),
        ("Middle", 1, (21,)),
        ("Spread", 3, (0, 22, 43)),
    ):
        clips = bench.dataset(bench.run(window=window, windowsPerClip=count)).clips
        assert [clip.starts for clip in clips] == [starts] * 2
        # The scene changes at frame 30: only windows that hold it are warned of.
        holds = any(start < 30 < start + 17 for start in starts)
        assert (Concern.SCENE_CUT in warnings(clips[1])) == holds
        assert warnings(clips[0]) == {}


def test_damage_is_found_where_the_window_is(bench: Bench, four: list[Row], tmp_path: Path) -> None:
    path = videos.damage(videos.cut(tmp_path / "late.mp4", frames=60, start=0), at=0.6)
    add(bench, four, path)
    error = bench.fail(window="Middle")
    assert "clip late.mp4: does not decode after frame" in error.message
    assert bench.run().summary["rejectedClips"] == 0


def test_a_picture_to_start_from_fits_the_first_window_only(bench: Bench, four: list[Row]) -> None:
    bench.put({}, [*four[:3], {**four[3], "input_image": "first.png"}])
    error = bench.fail(window="Spread", windowsPerClip=2)
    assert error.reason is Reason.DATASET_INVALID
    assert "row 4 names the first frame first.png, and dataset.window Spread" in error.message


@pytest.mark.parametrize("window", ["First", "Spread"])
def test_a_clip_longer_than_a_window_uses_what_was_checked(
    bench: Bench, four: list[Row], tmp_path: Path, window: str
) -> None:
    add(bench, four, videos.cut(tmp_path / "long.mp4", "bigbuckbunny", frames=60))
    clip = bench.dataset(bench.run(window=window, windowsPerClip=2)).clips[4]
    longer = Bucket(width=128, height=96, frames=60)
    whole = frames_of(bench.store, clip.model_copy(update={"bucket": longer}), 16, tmp_path)
    for start in clip.starts:
        got = frames_of(bench.store, clip, 16, tmp_path, start)
        assert np.array_equal(got, whole[start : start + 17])
