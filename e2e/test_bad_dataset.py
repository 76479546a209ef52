"""A dataset that cannot be trained on: the run waits with the reason and the clip, and no GPU pod
ever starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from finetunes import Run
from stack import BUCKET, Stack


def corrupt(folder: Path) -> None:
    clip = folder / "clips" / "carphone_pristine-100.mp4"
    content = bytearray(clip.read_bytes())
    middle = len(content) // 2  # some frames after the first, which alone would not open
    content[middle : middle + 2000] = bytes(2000)
    clip.write_bytes(content)


def without_caption(folder: Path) -> None:
    metadata = folder / "metadata.csv"
    metadata.write_text(
        metadata.read_text().replace("a man with a red bow tie makes faces in a moving car", "")
    )


def without_rows(folder: Path) -> None:
    (folder / "metadata.csv").write_text("video,prompt\n")


FAULTS = {
    "corrupt": (corrupt, "ClipInvalid", "clips/carphone_pristine-100.mp4"),
    "caption": (without_caption, "ClipInvalid", "clips/carphone_pristine-100.mp4"),
    "empty": (without_rows, "DatasetEmpty", "metadata.csv"),
}


def test_the_run_says_what_is_wrong_and_starts_nothing(
    stack: Stack, namespace: str, upload: Callable[..., str], start: Callable[..., Run]
) -> None:
    runs = {}
    for name, (spoil, _, _) in FAULTS.items():
        source = upload(f"bad-{name}", spoil=spoil)
        runs[name] = start(name, dataset={"source": source, "frames": 9, "width": 64, "height": 48})
    missing = f"s3://{BUCKET}/e2e-datasets/never-uploaded"
    runs["missing"] = start("missing", dataset={"source": missing})

    wanted = {name: (reason, named) for name, (_, reason, named) in FAULTS.items()}
    wanted["missing"] = ("DatasetNotFound", "e2e-datasets/never-uploaded")
    for name, (reason, named) in wanted.items():
        stalled = runs[name].wait_stalled()
        assert stalled["reason"] == reason, stalled
        assert named in stalled["message"], stalled
        assert "Failed" not in runs[name].conditions()
        assert runs[name].step("prepare")["infrastructureRetries"] == 0
        steps = {job["metadata"]["labels"]["wan-operator.dev/step"] for job in runs[name].jobs()}
        assert steps == {"prepare"}
        assert not [key for key in runs[name].objects() if key.endswith("manifest.json")]


def test_skip_leaves_the_bad_clip_out(
    upload: Callable[..., str], start: Callable[..., Run]
) -> None:
    source = upload("bad-corrupt", spoil=corrupt)
    dataset = {"source": source, "frames": 9, "width": 64, "height": 48, "rejectedClips": "Skip"}
    run = start("skip", dataset=dataset)
    run.wait_running("encode")

    verdicts = json.loads(run.committed("prepare")["dataset.json"])
    rejected = {
        clip["path"]: clip["code"] for clip in verdicts["clips"] if clip["code"] != "Accepted"
    }
    assert rejected == {"clips/carphone_pristine-100.mp4": "Undecodable"}
