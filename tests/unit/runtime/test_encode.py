"""The latent cache: equal to what the stock pipeline computes, reused, and never stale."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ml_runs import CLIPS, FRAMES, HEIGHT, WIDTH, Run, moving_picture
from wan_runtime.artifacts.store import ArtifactCorrupt
from wan_runtime.contract.dataset import Bucket
from wan_runtime.contract.steps import Step
from wan_runtime.data import encode, latents
from wan_runtime.data.clips import read_clip
from wan_runtime.data.dataset import Clip, Code, StoredFile, load_dataset
from wan_runtime.data.latents import (
    EncodedClip,
    Encoders,
    Entry,
    Latents,
    LocalCache,
    load_latents,
)
from wan_runtime.errors import NumericalError
from wan_runtime.models import load
from wan_runtime.models.layout import ModelFiles

pytest_plugins = ["ml_fixtures"]

CPU = torch.device("cpu")


def listing(run: Run, folder: Path) -> Latents:
    return load_latents(run.store, run.inputs["encode"], folder)


def stock_inputs(pipe: Any, clip: EncodedClip, video: list[Image.Image]) -> dict[str, Any]:
    """What all units of the stock pipeline make of a clip, as in diffsynth's own training."""
    pipe.scheduler.set_timesteps(1000, training=True)
    shared: dict[str, Any] = {
        "input_video": video, "input_image": video[0], "height": HEIGHT, "width": WIDTH,
        "num_frames": len(video), "cfg_scale": 1, "tiled": False, "rand_device": "cpu",
        "cfg_merge": False, "vace_scale": 1, "seed": 0,
    }  # fmt: skip
    inputs = (shared, {"prompt": clip.prompt}, {})
    with torch.no_grad():
        for unit in pipe.units:
            inputs = pipe.unit_runner(unit, pipe, *inputs)
    return {**inputs[0], **inputs[1]}


@pytest.mark.parametrize("which", ["21", "22"])
def test_cached_conditions_equal_the_stock_pipelines(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run: Run = request.getfixturevalue(f"encoded{which}")
    files: ModelFiles = request.getfixturevalue(f"tiny{which}")
    pipe = load.load_pipeline(files, torch.float32, CPU)
    cache = LocalCache(run.store, tmp_path / "cache")
    source = {clip.path: clip for clip in load_dataset(run.store, run.inputs["prepare"]).clips}
    for clip in listing(run, tmp_path).clips[:2]:
        path = tmp_path / clip.path
        run.store.download(source[clip.path].key, path)
        frames = read_clip(path, frames=FRAMES, fps=16, width=WIDTH, height=HEIGHT)
        stock = stock_inputs(pipe, clip, [Image.fromarray(frame) for frame in frames])
        image = cache.load(clip.image)
        assert torch.equal(cache.load(clip.video)["latents"], stock["input_latents"][0])
        assert torch.equal(image["y"], stock["y"][0])
        assert image["y"].shape == (20, 3, HEIGHT // 8, WIDTH // 8)
        text = cache.load(clip.text)["context"]
        assert text.shape[0] < 100, "stored without its padding"
        assert torch.equal(latents.pad_text(text), stock["context"][0])
        assert ("clip" in image) == (which == "21")
        if which == "21":
            assert torch.equal(image["clip"], stock["clip_feature"][0])


def test_a_picture_beside_a_clip_is_what_it_starts_from(
    encoded21: Run, tiny21: ModelFiles, tmp_path: Path
) -> None:
    run = Run(encoded21.store, encoded21.spec, tmp_path / "picture", "Wan2.1-I2V-Tiny")
    run.folder.mkdir()
    for number in range(CLIPS):
        data = run.store.get_bytes(f"encoded21/data/clip{number}.mp4")
        run.store.put_bytes(f"picture/data/clip{number}.mp4", data)
    image = Image.fromarray(moving_picture(9)[0])
    image.save(tmp_path / "first.png")
    run.store.put_file("picture/data/first.png", tmp_path / "first.png")
    rows = run.store.get_bytes("encoded21/data/metadata.csv").decode().splitlines()
    table = [f"{rows[0]},input_image", f"{rows[1]},first.png", *(f"{row}," for row in rows[2:])]
    run.store.put_bytes("picture/data/metadata.csv", "\n".join(table).encode())
    run.go(Step.PREPARE)
    assert "1 objects encoded, 13 already there" in run.go(Step.ENCODE).message
    clip = next(c for c in listing(run, tmp_path / "new").clips if c.path == "clip0.mp4")
    pipe = load.load_pipeline(tiny21, torch.float32, CPU)
    stock = stock_inputs(pipe, clip, [image] * FRAMES)
    tensors = LocalCache(run.store, tmp_path / "cache").load(clip.image)
    assert torch.equal(tensors["y"], stock["y"][0])
    assert torch.equal(tensors["clip"], stock["clip_feature"][0])


def test_windows_are_entries_of_their_own(encoded21: Run, tmp_path: Path) -> None:
    """Later frames are seen: DiffSynth trains on the beginning of every clip."""
    run = Run(encoded21.store, encoded21.spec, tmp_path / "windows", "Wan2.1-I2V-Tiny")
    run.dataset |= {"window": "Spread", "windowsPerClip": 2}
    run.upload_clips(length=30)
    run.go(Step.PREPARE)
    run.go(Step.ENCODE)
    content = listing(run, tmp_path / "new")
    assert (len(content.train), len(content.held_out)) == (6, 2)
    assert {clip.start for clip in content.clips} == {0, 30 - FRAMES}
    assert len({clip.video.key for clip in content.clips}) == 2 * CLIPS
    assert len({clip.image.key for clip in content.clips}) == 2 * CLIPS
    run.go(Step.TRAIN)


def test_listing_keeps_the_split_and_the_extra_prompts(encoded21: Run, tmp_path: Path) -> None:
    content = listing(encoded21, tmp_path)
    assert (len(content.train), len(content.held_out)) == (3, 1)
    cache = LocalCache(encoded21.store, tmp_path / "cache")
    empty, negative = cache.load(content.empty_text), cache.load(content.negative_text)
    assert empty["context"].shape[0] == 1, "only the end token"
    assert negative["context"].shape[0] > 100


def test_second_run_encodes_nothing(
    encoded21: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unexpected(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded although all is cached")

    monkeypatch.setattr(encode, "TextEncoder", unexpected)
    monkeypatch.setattr(encode, "VideoEncoder", unexpected)
    run = encoded21.fork("second-run")
    outcome = run.go(Step.ENCODE)
    assert "0 objects encoded, 14 already there" in outcome.message
    assert listing(run, tmp_path / "new") == listing(encoded21, tmp_path / "old")


def test_the_next_clip_is_read_while_one_is_encoded(
    encoded21: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more than its readers: the frames of a clip may be hundreds of megabytes."""
    monkeypatch.setattr(encode, "READERS", 1)
    before = listing(encoded21, tmp_path / "before")
    encoded21.store.delete([clip.video.key for clip in before.clips])
    read: list[str] = []
    ahead: list[int] = []
    came = threading.Condition()
    frames_of, encode_video = encode.frames_of, encode.VideoEncoder.encode_video

    def reading(*arguments: Any) -> Any:
        with came:
            read.append(arguments[1].path)
            came.notify()
        return frames_of(*arguments)

    def encoding(self: Any, frames: Any) -> Any:
        with came:  # until the next one is being read
            last = len(ahead) + 1 == CLIPS
            assert came.wait_for(lambda: last or len(read) > len(ahead) + 1, timeout=60)
            ahead.append(len(read) - len(ahead) - 1)
        return encode_video(self, frames)

    monkeypatch.setattr(encode, "frames_of", reading)
    monkeypatch.setattr(encode.VideoEncoder, "encode_video", encoding)
    run = encoded21.fork("ahead")
    run.go(Step.ENCODE)
    assert listing(run, tmp_path / "after") == before
    assert ahead == [1, 1, 1, 0]
    assert not list((run.folder / "1-encode" / "clips").iterdir())


def test_one_missing_object_is_encoded_again(encoded21: Run, tmp_path: Path) -> None:
    before = listing(encoded21, tmp_path / "before")
    encoded21.store.delete([before.clips[1].image.key])
    run = encoded21.fork("one-missing")
    assert "1 objects encoded, 13 already there" in run.go(Step.ENCODE).message
    assert listing(run, tmp_path / "after") == before, "to the same bytes"


def test_what_another_run_stored_meanwhile_stays(
    encoded21: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs that begin together, on GPUs that do not encode to the same bit."""
    store, ours = encoded21.store, listing(encoded21, tmp_path / "before").clips[0].video
    good = store.get_bytes(ours.key)
    store.delete([ours.key])
    encode_video = encode.VideoEncoder.encode_video
    theirs: list[Entry] = []

    def overtaken(self: Any, frames: Any) -> Any:
        tensors = encode_video(self, frames)
        theirs.append(latents.put(store, ours.key, {"latents": tensors["latents"] + 1}))
        return tensors

    monkeypatch.setattr(encode.VideoEncoder, "encode_video", overtaken)
    try:
        run = encoded21.fork("overtaken")
        assert "0 objects encoded, 14 already there" in run.go(Step.ENCODE).message
        assert [latents.find(store, ours.key)] == theirs
        assert listing(run, tmp_path / "after").clips[0].video == theirs[0] != ours
    finally:
        store.put_bytes(ours.key, good)


def test_damaged_object_is_not_read(encoded22: Run, tmp_path: Path) -> None:
    entry = listing(encoded22, tmp_path).clips[0].text
    good = encoded22.store.get_bytes(entry.key)
    try:
        encoded22.store.put_bytes(entry.key, good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(ArtifactCorrupt):
            LocalCache(encoded22.store, tmp_path / "cache").load(entry)
    finally:
        encoded22.store.put_bytes(entry.key, good)


def test_nan_is_never_cached(encoded21: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        encode.TextEncoder, "encode", lambda *_: torch.full((1, 512, 64), float("nan"))
    )
    monkeypatch.setitem(latents.VERSIONS, "text", 99)
    run = encoded21.fork("nan")
    with pytest.raises(NumericalError, match="caption"):
        run.go(Step.ENCODE)


ENCODERS = Encoders(
    tokenizer="t", text_encoder="e", vae="v", image_encoder="i", tiled=False, dtype="float32"
)
SIZE = {"fps": 16.0, "frames": 9, "width": 64, "height": 48}


@pytest.mark.parametrize(
    ("change", "moves"),
    [
        ({"tokenizer": "x"}, {"text"}),
        ({"text_encoder": "x"}, {"text"}),
        ({"vae": "x"}, {"video", "image"}),
        ({"image_encoder": "x"}, {"image"}),
        ({"tiled": True}, {"video", "image"}),
        ({"dtype": "bfloat16"}, {"text", "video", "image"}),
        ({"frames": 13}, {"video", "image"}),
        ({"fps": 8}, {"video", "image"}),
        ({"width": 96}, {"video", "image"}),
        ({"height": 64}, {"video", "image"}),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
def test_keys_move_with_what_shapes_the_entry(
    change: dict[str, Any], moves: set[str], encoded21: Run
) -> None:
    clip = load_dataset(encoded21.store, encoded21.inputs["prepare"]).clips[0]

    def keys(encoders: Encoders, size: dict[str, float], caption: str) -> dict[str, str]:
        sides = {name: value for name, value in size.items() if name != "fps"}
        cut = clip.model_copy(update={"bucket": Bucket.model_validate(sides)})
        return {
            "text": latents.text_key(caption, encoders),
            "video": latents.video_key(cut, size["fps"], encoders),
            "image": latents.image_key(cut, size["fps"], encoders),
        }

    before = keys(ENCODERS, SIZE, "a")
    fields = {name: value for name, value in change.items() if name in Encoders.model_fields}
    sizes = {name: value for name, value in change.items() if name in SIZE}
    after = keys(ENCODERS.model_copy(update=fields), SIZE | sizes, "a")
    assert {kind for kind in before if before[kind] != after[kind]} == moves
    assert keys(ENCODERS, SIZE, "b")["text"] != before["text"]
    other = clip.model_copy(update={"sha256": "0" * 64})
    assert latents.video_key(other, 16, ENCODERS) != before["video"]
    file = {"path": "a.png", "uri": "s3://b/a.png", "key": "a.png", "bytes": 1, "sha256": "1" * 64}
    pictured = clip.model_copy(update={"first_frame": StoredFile.model_validate(file)})
    assert latents.video_key(pictured, 16, ENCODERS) == before["video"]
    assert latents.image_key(pictured, 16, ENCODERS) != before["image"]
    assert latents.video_key(clip, 16, ENCODERS, 4) != before["video"]
    assert latents.image_key(clip, 16, ENCODERS, 4) != before["image"]


def test_keys_stay_what_they_are_from_release_to_release() -> None:
    """A change would have all of its kind in every cache encoded again: raise its version for
    that."""
    clip = Clip(
        row=1, path="a.mp4", uri="s3://wan/data/a.mp4", key="data/a.mp4", prompt="p", source="s",
        code=Code.ACCEPTED, sha256="a" * 64, bucket=Bucket(width=64, height=48, frames=9),
    )  # fmt: skip
    assert latents.video_key(clip, 16, ENCODERS, 4).startswith("video/6a/6ac64f8772ef8a7ed718")
    assert latents.image_key(clip, 16, ENCODERS, 4).startswith("image/f0/f087979600b707124f72")
    assert latents.text_key("p", ENCODERS).startswith("text/f9/f9d0d20de3c9f913526e")
