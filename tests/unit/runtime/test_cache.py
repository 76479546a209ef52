"""What the latent cache holds, and what it does not."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ml_runs import CLIPS, FRAMES, HEIGHT, WIDTH, Run
from wan_runtime.artifacts import manifest
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert, Step
from wan_runtime.data.latents import LocalCache, load_latents
from wan_runtime.errors import InfrastructureError
from wan_runtime.models import encoders, load
from wan_runtime.models.dit import transformer

pytest_plugins = ["ml_fixtures"]


@pytest.mark.parametrize(
    "training",
    [
        {"seed": 7},
        {"steps": 9},
        {"datasetRepeat": 3},
        {"gradientCheckpointing": "None"},
        {"lossWeighting": "Bell"},
    ],
    ids=lambda value: next(iter(value)),
)
def test_no_setting_of_training_is_baked_into_the_cache(
    encoded22: Run, training: dict[str, Any]
) -> None:
    """DiffSynth's split training freezes noise levels and checkpointing when it encodes."""
    plain, other = (encoded22.job(Step.ENCODE, training=change) for change in ({}, training))
    assert manifest.job_hash(plain) == manifest.job_hash(other)
    plain, other = (encoded22.job(Step.TRAIN, training=change) for change in ({}, training))
    assert manifest.job_hash(plain) != manifest.job_hash(other)


def test_both_experts_read_one_cache(encoded22: Run) -> None:
    run = encoded22.fork("one-cache")
    for expert in (Expert.HIGH_NOISE, Expert.LOW_NOISE):
        run.go(Step.TRAIN, expert, training={"steps": 1, "warmupSteps": 0})
    inputs = [
        manifest.load(run.store, run.inputs[name]).lineage.inputs["encode"]
        for name in ("train-high-noise", "train-low-noise")
    ]
    assert inputs == [encoded22.inputs["encode"]] * 2


def test_the_cache_holds_latents_and_no_pictures(encoded21: Run, tmp_path: Path) -> None:
    """DiffSynth pickles all frames, the noise and every input, once for each repetition."""
    content = load_latents(encoded21.store, encoded21.inputs["encode"], tmp_path)
    cache = LocalCache(encoded21.store, tmp_path / "cache")
    assert len(content.clips) == CLIPS
    frames = (FRAMES - 1) // 4 + 1
    area = (HEIGHT // 8) * (WIDTH // 8)
    for clip in content.clips:
        entries = (clip.video, clip.image, clip.text)
        assert all(entry.key.endswith(".safetensors") for entry in entries)
        tensors = [set(cache.load(entry)) for entry in entries]
        assert tensors == [{"latents"}, {"y", "clip"}, {"context"}]
        floats = (16 * frames * area, 20 * frames * area + 257 * 1280)
        for entry, count in zip(entries, floats, strict=False):
            assert entry.bytes < 4 * count + 1000


def test_latents_that_find_no_room_are_told_before_any_is_fetched(
    encoded21: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = encoded21.fork("no-room")
    content = load_latents(run.store, run.inputs["encode"], tmp_path)
    used = [*content.train, *content.held_out]
    entries = {entry for clip in used for entry in clip.entries}
    size = sum(entry.bytes for entry in {*entries, content.empty_text, content.negative_text})
    monkeypatch.setattr(transformer, "load_dit", None)  # not reached
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=size - 1))
    with pytest.raises(InfrastructureError) as caught:
        run.go(Step.TRAIN)
    assert caught.value.reason is Reason.DISK_FULL
    needs = rf"the latent cache, \d+ entries, needs {size / 1e6:.1f} MB in .*/latents and "
    assert re.search(needs, caught.value.message)
    assert "raise spec.resources.cache" in caught.value.message
    assert not list(run.folder.rglob("latents/*"))
    cache = LocalCache(run.store, tmp_path / "held")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=size))
    assert cache.check_space(entries) == sum(entry.bytes for entry in entries)
    first, *rest = sorted(entries, key=lambda entry: entry.key)
    cache.fetch(first)
    assert cache.check_space([first, first]) == 0, "what is there needs no room"
    assert cache.check_space([first, *rest, *rest]) == sum(entry.bytes for entry in rest)


def test_training_loads_no_encoder(encoded21: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """DiffSynth keeps T5, CLIP and VAE beside the transformer and runs them in every step."""

    def unexpected(*_: object, **__: object) -> None:
        raise AssertionError("an encoder was loaded to train")

    assert encoders.load is load  # where the encoders, too, get their weights
    for name in ("load_text_encoder", "load_vae", "load_image_encoder", "load_tokenizer"):
        monkeypatch.setattr(load, name, unexpected)
    run = encoded21.fork("no-encoder")
    run.go(Step.TRAIN, training={"steps": 1, "warmupSteps": 0})
