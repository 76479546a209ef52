"""The clips that candidates are compared on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluations import Evaluation
from job_files import make_job, sized
from moving import FRAMES, HEIGHT, WIDTH, moving_picture
from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Step
from wan_runtime.data import prepare
from wan_runtime.data.dataset import load_dataset
from wan_runtime.data.pixels import first_frame_of, frames_of
from wan_runtime.errors import InputError
from wan_runtime.process.progress import Reporter

pytest_plugins = ["evaluation_fixtures"]


def test_one_clip_of_each_recording_comes_first(
    evaluation: Evaluation, store: Store, tmp_path: Path
) -> None:
    clips = {f"{n}.mp4": moving_picture(n, FRAMES + 3) for n in range(4)}
    evaluation.upload(clips, recordings=["a", "a", "b", "b"])
    evaluation.work |= {"seed": 2**63 - 1}
    evaluation.work["clips"]["count"] = 3
    outcome = evaluation.go(Step.COLLECT)
    found = evaluation.clips()
    assert [each.recorded.path for each in found] == ["0.mp4", "2.mp4", "1.mp4"]
    assert [each.id for each in found] == ["clip-0001", "clip-0002", "clip-0003"]
    assert [each.seed for each in found] == [2**63 - 1, 0, 1]
    assert found[1].prompt == "a drifting picture 2"
    assert outcome.summary == {"clips": 3, "recordings": 2}
    folder = tmp_path / "fetched"
    manifest.fetch(store, outcome.manifest, folder)
    for each in found:
        frames = frames_of(store, each.recorded, each.fps, tmp_path)
        training = first_frame_of(store, each.recorded, frames, tmp_path)
        assert np.array_equal(np.asarray(Image.open(folder / each.first_frame)), training)


def test_what_training_held_out(evaluation: Evaluation, store: Store) -> None:
    evaluation.upload_few(4)
    job = make_job(store=evaluation.spec.model_dump(), dataset=evaluation.dataset())
    work = evaluation.folder / "prepare"
    work.mkdir()
    ref = prepare.run(job, store, work, Reporter("prepare")).manifest
    evaluation.work["clips"] = {"held_out": ref.model_dump()}
    evaluation.go(Step.COLLECT)
    held_out = load_dataset(store, ref).held_out
    assert held_out
    assert [each.recorded.path for each in evaluation.clips()] == [each.path for each in held_out]
    small = {"sampling": {"size": {"width": 32, "height": 16}, "frames": 5, "fps": 8}}
    evaluation.go(Step.COLLECT, work=small)
    (first, *_) = evaluation.clips()
    assert (str(first.size), first.frames, first.fps) == ("32x16", 5, 8)
    assert str(first.recorded.bucket) == "32x16x5"
    large = {"sampling": {"size": {"width": 128, "height": 96}}}
    with pytest.raises(InputError, match=r"no clip is left.*clip\d.mp4 is 64x48, too small") as no:
        evaluation.go(Step.COLLECT, work=large)
    assert no.value.reason is Reason.DATASET_EMPTY


def test_a_window_begins_when_it_did(evaluation: Evaluation) -> None:
    evaluation.upload_few(1)
    dataset = evaluation.dataset(window="Middle", buckets=[sized(WIDTH, HEIGHT, 5)])
    evaluation.work["clips"] = {"dataset": dataset}
    evaluation.go(Step.COLLECT)
    assert evaluation.clips()[0].recorded.starts == (3,)


def test_a_bad_clip_fails_unless_it_may_be_skipped(evaluation: Evaluation) -> None:
    evaluation.upload({"0.mp4": moving_picture(0, FRAMES), "1.mp4": moving_picture(1, 3)})
    with pytest.raises(InputError, match=r"clip 1.mp4: .*rejectedClips: Skip") as bad:
        evaluation.go(Step.COLLECT)
    assert bad.value.reason is Reason.CLIP_INVALID
    evaluation.work["clips"] = {"dataset": evaluation.dataset(rejectedClips="Skip")}
    evaluation.go(Step.COLLECT)
    assert [each.recorded.path for each in evaluation.clips()] == ["0.mp4"]


def test_no_clip_at_all(evaluation: Evaluation) -> None:
    evaluation.upload({"0.mp4": moving_picture(0, 3)})
    evaluation.work["clips"] = {"dataset": evaluation.dataset(rejectedClips="Skip")}
    with pytest.raises(InputError, match=r"no clip is left: clip 0.mp4: ") as none:
        evaluation.go(Step.COLLECT)
    assert none.value.reason is Reason.DATASET_EMPTY
