"""Candidates whose videos are there already."""

from __future__ import annotations

import pytest

from evaluations import Evaluation
from moving import FRAMES, moving_picture
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Step
from wan_runtime.errors import InputError

pytest_plugins = ["evaluation_fixtures"]


@pytest.fixture
def collected(evaluation: Evaluation) -> Evaluation:
    clips = ("a/one.mp4", "b/one.mp4", "two.mp4", "three.mp4")
    evaluation.upload({path: moving_picture(n) for n, path in enumerate(clips)})
    evaluation.add("ours")
    evaluation.go(Step.COLLECT)
    return evaluation


def test_videos_by_clip_and_by_the_name_of_the_recorded_file(collected: Evaluation) -> None:
    video = moving_picture(7, FRAMES)
    collected.put("ours/clip-0001.mp4", video)
    collected.put("ours/one.mp4", video)
    collected.put("ours/two.mp4", video)
    collected.store.put_bytes(f"{collected.name}/ours/three.mp4", b"no video at all")
    one, other, two, three = collected.generate("ours")
    place = f"s3://wan/{collected.name}/ours"
    assert one.video is not None
    assert two.video is not None
    assert (one.video.uri, two.video.uri) == (f"{place}/clip-0001.mp4", f"{place}/two.mp4")
    assert len(two.video.sha256) == 64
    assert other.failure == f"{place}/ has no clip-0002.mp4", "two clips are called one"
    assert three.failure.startswith(f"{place}/three.mp4 does not open as a video")
    outcome = collected.go(Step.GENERATE, candidate="ours")
    assert outcome.summary == {"videos": 2, "failed": 2}
    assert outcome.message.startswith("2 videos; 2 clips without one: ")


def test_recordings_that_are_called_as_clips_are_numbered(evaluation: Evaluation) -> None:
    """As of a dataset of which clip-0001.mp4 was trained on: its videos have the recordings' names.
    Each belongs to its recording, whichever number that has in the test."""
    paths = ("clip-0002.mp4", "clip-0003.mp4", "last.mp4", "a/same.mp4", "a/clip-0001.mp4")
    evaluation.upload({path: moving_picture(n) for n, path in enumerate(paths)})
    evaluation.add("ours")
    evaluation.go(Step.COLLECT)
    for name in ("clip-0001", "clip-0002", "clip-0003", "same"):
        evaluation.put(f"ours/{name}.mp4", moving_picture(7, FRAMES))
    found = {
        clip.recorded.path: (video.video.uri.rpartition("/")[2] if video.video else video.failure)
        for clip, video in zip(evaluation.clips(), evaluation.generate("ours"), strict=True)
    }
    assert found.pop("last.mp4").endswith("has no last.mp4"), "clip-0003.mp4 is another's"
    assert found == {path: path.rpartition("/")[2] for path in paths if path != "last.mp4"}


def test_pods_share_the_clips(collected: Evaluation) -> None:
    collected.put("ours/two.mp4", moving_picture(0))
    shards = [{"index": index, "count": 2} for index in range(2)]
    parts = [collected.generate("ours", shard=shard) for shard in shards]
    assert [[each.clip[-1] for each in part] for part in parts] == [["1", "3"], ["2", "4"]]


def test_a_folder_without_files(collected: Evaluation) -> None:
    with pytest.raises(InputError, match=r"ours has no file: it needs a video such as") as empty:
        collected.go(Step.GENERATE, candidate="ours")
    assert empty.value.reason is Reason.DATASET_NOT_FOUND
