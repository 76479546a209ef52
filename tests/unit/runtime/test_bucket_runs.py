"""A whole run over two buckets: what is cut to which, encoded, batched, looked at and rendered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from ml_runs import Run
from wan_runtime.contract.dataset import Bucket
from wan_runtime.contract.steps import Step
from wan_runtime.data.dataset import load_dataset
from wan_runtime.data.latents import Latents, LocalCache, load_latents
from wan_runtime.training import preview, probes, trainer
from wan_runtime.training.batches import load_batch

pytest_plugins = ["ml_fixtures"]

WIDE, TALL = Bucket(width=64, height=48, frames=9), Bucket(width=48, height=64, frames=5)
LATENT = {WIDE: (16, 3, 6, 8), TALL: (16, 2, 8, 6)}


def listing(run: Run, folder: Path) -> Latents:
    return load_latents(run.store, run.inputs["encode"], folder)


def test_every_clip_is_encoded_in_its_bucket(mixed21: Run, tmp_path: Path) -> None:
    dataset = load_dataset(mixed21.store, mixed21.inputs["prepare"])
    assert [clip.bucket for clip in dataset.clips] == [WIDE] * 5 + [TALL] * 3
    assert [clip.bucket for clip in dataset.held_out] == [WIDE, WIDE, TALL]
    cache = LocalCache(mixed21.store, tmp_path / "cache")
    clips = listing(mixed21, tmp_path).clips
    assert len(clips) == 8
    for clip in clips:
        assert tuple(cache.load(clip.video)["latents"].shape) == LATENT[clip.bucket]
        assert tuple(cache.load(clip.image)["y"].shape)[1:] == LATENT[clip.bucket][1:]


def test_batches_are_of_one_shape_and_see_all_clips(
    mixed21: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[str] = []

    def watched(cache: LocalCache, clips: list[Any], *rest: Any) -> Any:
        batch = load_batch(cache, clips, *rest)
        assert tuple(batch.clean_BCTHW.shape) == (2, *LATENT[clips[0].bucket])
        seen.extend(clip.path for clip in clips)
        return batch

    monkeypatch.setattr(trainer, "load_batch", watched)
    run = mixed21.fork("mixed-batches")
    content = listing(run, tmp_path)
    run.go(Step.TRAIN, training={"steps": len(content.train), "batchSize": 2})
    assert {path: seen.count(path) for path in seen} == {clip.path: 2 for clip in content.train}


def test_probes_and_previews_look_at_a_held_out_clip_in_its_own_size(
    mixed21: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looked: list[Bucket] = []

    def watched(cache: LocalCache, clips: list[Any], *rest: Any) -> Any:
        looked.append(clips[0].bucket)
        return load_batch(cache, clips, *rest)

    monkeypatch.setattr(probes, "MAX_CLIPS", 2)
    monkeypatch.setattr(probes, "load_batch", watched)
    monkeypatch.setattr(preview, "load_batch", watched)
    run = mixed21.fork("mixed-looks")
    run.go(Step.TRAIN, training={"steps": 1, "previewEvery": 1})
    assert set(looked) == {WIDE, TALL}
    first = listing(run, tmp_path).probed[0].bucket
    name = f"{run.job(Step.TRAIN).output_prefix}/previews/step-00000001.mp4"
    run.store.download(name, tmp_path / "preview.mp4")
    assert shape_of(tmp_path / "preview.mp4") == first


def shape_of(path: Path) -> Bucket:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return Bucket(width=frames[0].width, height=frames[0].height, frames=len(frames))


def test_samples_have_the_size_of_the_clip_they_start_from(mixed21: Run) -> None:
    run = mixed21.fork("mixed-samples")
    run.go(Step.TRAIN)
    run.go(Step.EXPORT)
    card = (run.fetch("export") / "README.md").read_text()
    assert "on clips of 9 frames of 64x48 or 5 frames of 48x64 at 16 fps" in card
    assert "height=48, width=64,\n    num_frames=9" in card
    assert run.go(Step.SAMPLE, sample={"count": 2, "inferenceSteps": 2}).summary["videos"] == 2
    folder = run.fetch("sample")
    assert {shape_of(folder / f"lora-{number}.mp4") for number in range(2)} == {WIDE, TALL}
    for number in range(2):
        cut = {shape_of(folder / f"{kind}-{number}.mp4") for kind in ("reference", "base", "lora")}
        assert len(cut) == 1
    with Image.open(folder / "contact-sheet.png") as sheet:
        assert sheet.height == 4 + 3 * (48 + 4) + 3 * (64 + 4)
