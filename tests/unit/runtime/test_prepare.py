"""Step prepare: real clips, real store, every verdict."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import videos
from job_files import sized
from object_store import ObjectStore
from prepare_bench import Bench, Row
from wan_runtime.artifacts import manifest
from wan_runtime.contract.reasons import Reason
from wan_runtime.data import checker, review
from wan_runtime.data.dataset import Clip, Code

pytest_plugins = ["prepare_fixtures"]


def test_good_clips_are_accepted_split_and_committed(bench: Bench, four: list[Row]) -> None:
    outcome = bench.run()
    dataset = bench.dataset(outcome)
    assert [clip.code for clip in dataset.clips] == [Code.ACCEPTED] * 4
    assert [clip.prompt for clip in dataset.clips] == [row["prompt"] for row in four]
    assert {clip.source for clip in dataset.train} & {
        clip.source for clip in dataset.held_out
    } == set()
    assert len(dataset.train) == len(dataset.held_out) == 2
    first = dataset.clips[0]
    assert (first.width, first.height, first.fps, first.frames) == (640, 272, 16, 17)
    assert first.duration == pytest.approx(20 / 16)
    assert first.row == 1
    stat = bench.store.stat(first.key)
    assert stat is not None
    assert (first.sha256, first.bytes) == (stat.sha256, stat.bytes)
    assert first.uri == f"s3://wan/{bench.prefix}/clips/0.mp4"
    assert outcome.message == "2 clips train, 2 held out"
    assert outcome.summary == {
        "clips": 4, "trainClips": 2, "trainWindows": 2, "heldOutClips": 2, "rejectedClips": 0,
        "warnedClips": 0, "recordings": 2,
    }  # fmt: skip
    listed = manifest.verify(bench.store, outcome.manifest)
    assert listed.kind == "dataset"
    assert listed.summary == outcome.summary
    assert listed.lineage.config_hash == manifest.job_hash(bench.job)
    assert listed.lineage.preset == "Wan2.1-I2V-Tiny"
    assert list((bench.work / "clips").iterdir()) == []  # nothing stays on disk


def test_a_second_run_commits_the_same(bench: Bench, four: list[Row]) -> None:
    assert bench.run() == bench.run()


def bad(tmp_path: Path, good: list[bytes]) -> dict[str, tuple[bytes | None, Row, Code, str]]:
    """Name -> (content, changes of its row, verdict, message)."""

    def content(path: Path) -> bytes:
        return path.read_bytes()

    cut = videos.cut
    corrupt = content(videos.damage(cut(tmp_path / "c.mp4", frames=40), at=0.2))
    truncated = content(cut(tmp_path / "t.mp4", start=3))[:20000]
    rotated = content(videos.rotate(cut(tmp_path / "o.mp4"), tmp_path / "r.mp4", 30))
    return {
        "corrupt.mp4": (corrupt, {}, Code.UNDECODABLE, r"does not decode after frame \d+ of 40"),
        "truncated.mp4": (truncated, {}, Code.UNREADABLE, "does not open|no video stream"),
        "short.mp4": (
            content(cut(tmp_path / "h.mp4", frames=16)), {}, Code.TOO_SHORT,
            r"has 16 frames at 16 fps \(16 of its own in 1 s\); needs 17",
        ),
        "rotated.mp4": (rotated, {}, Code.ROTATION_UNSUPPORTED, "quarter turns"),
        "missing.mp4": (None, {}, Code.NOT_FOUND, "does not exist: s3://wan/"),
        "empty.mp4": (b"", {}, Code.UNREADABLE, "is empty"),
        "blank.mp4": (good[0], {"prompt": "  "}, Code.CAPTION_EMPTY, "has no caption"),
        "nan.mp4": (good[0], {"prompt": math.nan}, Code.CAPTION_EMPTY, "has no caption"),
        "nanword.mp4": (good[0], {"prompt": "nan"}, Code.CAPTION_EMPTY, "has no caption"),
        "null.mp4": (good[0], {"prompt": None}, Code.CAPTION_EMPTY, "has no caption"),
        "twin.mp4": (
            good[1], {"source": "elsewhere"}, Code.DUPLICATE_CLIP,
            "has the same bytes as clips/1.mp4 \\(row 2\\)",
        ),
        "up.mp4": (None, {"video": "clips/../../secret"}, Code.PATH_INVALID, "leaves"),
        "abs.mp4": (None, {"video": "/etc/passwd"}, Code.PATH_INVALID, "not relative"),
        "uri.mp4": (None, {"video": "s3://other/x.mp4"}, Code.PATH_INVALID, "not relative"),
        "none.mp4": (None, {"video": ""}, Code.PATH_INVALID, "names no file"),
    }  # fmt: skip


def test_every_fault_has_its_verdict(
    bench: Bench, four: list[Row], good: list[bytes], tmp_path: Path
) -> None:
    cases = bad(tmp_path, good)
    rows = [
        {"video": f"clips/{name}", "prompt": "A clip", "source": "c", **change}
        for name, (_, change, _, _) in cases.items()
    ]
    clips = {f"clips/{name}": case[0] for name, case in cases.items() if case[0] is not None}
    bench.put(clips, [*four, four[0], *rows])
    outcome = bench.run(rejectedClips="Skip")
    verdicts = bench.dataset(outcome).clips
    assert [clip.code for clip in verdicts[:4]] == [Code.ACCEPTED] * 4
    assert verdicts[4].code is Code.DUPLICATE_ROW
    assert verdicts[4].message == "repeats clips/0.mp4 (row 1)"
    for clip, (name, (_, _, code, message)) in zip(verdicts[5:], cases.items(), strict=True):
        assert clip.code is code, (name, clip.message)
        assert re.search(message, clip.message), (name, clip.message)
        assert clip.split is None
    assert outcome.summary["rejectedClips"] == len(bench.dataset(outcome).rejected)
    assert "clips train" in outcome.message
    assert "rejected: clip clips/0.mp4: repeats" in outcome.message


def test_a_small_clip_is_not_enlarged(bench: Bench, four: list[Row], tmp_path: Path) -> None:
    small = videos.cut(tmp_path / "s.mp4", "carphone_pristine").read_bytes()
    rows = [*four, {"video": "small.mp4", "prompt": "x", "source": "c"}]
    bench.put({"small.mp4": small}, rows)
    outcome = bench.run(rejectedClips="Skip", buckets=[sized(160, 160)])
    clip = bench.dataset(outcome).clips[4]
    assert clip.code is Code.TOO_SMALL
    assert clip.message.endswith("In that shape it is enough for 144x144")
    assert (clip.width, clip.height) == (176, 144)


def test_one_bad_clip_fails_with_its_name(bench: Bench, four: list[Row]) -> None:
    bench.put({}, [*four, {"video": "clips/gone.mp4", "prompt": "x"}])
    error = bench.fail()
    assert error.reason is Reason.CLIP_INVALID
    assert error.message == (
        f"clip clips/gone.mp4: does not exist: s3://wan/{bench.prefix}/clips/gone.mp4; "
        "1 of 5 clips rejected: 1 NotFound; set dataset.rejectedClips: Skip to train without them. "
        f"Report: s3://wan/{bench.job.output_prefix}/report.json"
    )
    report = bench.report()
    assert [clip.code for clip in report.rejected] == [Code.NOT_FOUND]
    assert len(report.clips) == 5


def test_many_bad_clips_are_counted_not_listed(bench: Bench, four: list[Row]) -> None:
    bench.put({}, [*four, *({"video": f"{n}.mp4", "prompt": ""} for n in range(9))])
    error = bench.fail()
    assert "clip 2.mp4: has no caption; and 6 more; 9 of 13 clips rejected: 9 Capt" in error.message
    assert "3.mp4" not in error.message.split("rejected")[0].replace("clips/3.mp4", "")


def test_duplicates_cannot_leak_over_the_split(
    bench: Bench, four: list[Row], good: list[bytes]
) -> None:
    rows = [*four]
    for n in range(4):  # each clip again, under another name and recording
        rows.append({"video": f"copy{n}.mp4", "prompt": "other words", "source": f"copy{n}"})
    bench.put({f"copy{n}.mp4": good[n] for n in range(4)}, rows)
    for seed in range(5):
        dataset = bench.dataset(bench.run(rejectedClips="Skip", splitSeed=seed))
        train = {clip.sha256 for clip in dataset.train}
        assert not train & {clip.sha256 for clip in dataset.held_out}
        assert len(train) == len(dataset.train)


def test_one_recording_is_not_enough(bench: Bench, four: list[Row]) -> None:
    bench.put({}, [{**row, "source": "only"} for row in four])
    error = bench.fail()
    assert error.reason is Reason.DATASET_EMPTY
    for part in ("all 4 good clips", "'only'", "add clips", "dataset.columns.source"):
        assert part in error.message


def test_without_a_source_column_each_clip_is_a_recording(bench: Bench, four: list[Row]) -> None:
    bench.put({}, [{"video": row["video"], "prompt": row["prompt"]} for row in four])
    dataset = bench.dataset(bench.run())
    assert (len(dataset.train), len(dataset.held_out)) == (3, 1)


def test_nothing_good_is_left(bench: Bench) -> None:
    bench.put({}, [{"video": "a.mp4", "prompt": "x"}])
    error = bench.fail(rejectedClips="Skip")
    assert error.reason is Reason.DATASET_EMPTY
    assert error.message.startswith("no clip is left: clip a.mp4: does not exist")


def test_a_missing_dataset_says_what_was_looked_for(bench: Bench) -> None:
    error = bench.fail()
    assert error.reason is Reason.DATASET_NOT_FOUND
    assert bench.prefix in error.message
    assert "metadata.csv or metadata.json or metadata.jsonl" in error.message


def test_a_dataset_of_another_bucket(
    bench: Bench, four: list[Row], server: ObjectStore, good: list[bytes]
) -> None:
    server.client().make_bucket("footage")
    there = bench.store.for_uri("s3://footage/")
    for n, data in enumerate(good):
        there.put_bytes(f"clips/{n}.mp4", data)
    there.put_bytes("metadata.json", json.dumps(four).encode())
    clips = bench.dataset(bench.run(source="s3://footage")).clips
    assert clips[0].uri == "s3://footage/clips/0.mp4"
    assert bench.store.for_uri(clips[0].uri).get_bytes(clips[0].key) == good[0]


def make_clip(row: int, sha256: str, code: Code = Code.ACCEPTED) -> Clip:
    return Clip(
        row=row, path=f"{row}.mp4", uri=f"s3://b/{row}.mp4", key=f"{row}.mp4", prompt="p",
        source="s", code=code, sha256=sha256,
    )  # fmt: skip


def test_a_copy_of_a_rejected_clip_is_no_duplicate() -> None:
    clips = [make_clip(1, "a", Code.TOO_SHORT), make_clip(2, "a"), make_clip(3, "a")]
    codes = [clip.code for clip in review.reject_duplicates(clips, str)]
    assert codes == [Code.TOO_SHORT, Code.ACCEPTED, Code.DUPLICATE_CLIP]


def test_clips_are_not_all_on_disk_at_once(
    bench: Bench, four: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    real: Callable[..., Any] = checker.check_clip

    def check(path: Path, **wanted: Any) -> Any:
        nonlocal most
        most = max(most, len(os.listdir(path.parent)))
        return real(path, **wanted)

    monkeypatch.setattr(checker, "check_clip", check)
    bench.put({}, [{**row, "prompt": f"{row['prompt']} {n}"} for row in four for n in range(6)])
    bench.run(rejectedClips="Skip")
    assert 1 <= most <= review.THREADS
