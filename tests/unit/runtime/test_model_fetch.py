"""Base models in a pod: what a step fetches and verifies, and what it need not."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ml_runs import Run
from model_bucket import Bucket
from wan_runtime.artifacts.store import ArtifactCorrupt, Store
from wan_runtime.contract.job import ManifestRef
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert, Step
from wan_runtime.data.latents import load_latents
from wan_runtime.errors import InfrastructureError, InputError
from wan_runtime.models import digest, imported, importer, layout
from wan_runtime.models.digest import file_digest
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.source import base_model
from wan_runtime.process.progress import Reporter

pytest_plugins = ["ml_fixtures"]


@pytest.fixture
def ref(bucket: Bucket, tiny21: ModelFiles) -> ManifestRef:
    bucket.upload(tiny21)
    return bucket.go().manifest


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shared"
    monkeypatch.setenv(imported.CACHE_VARIABLE, str(folder))
    return folder


def test_the_next_pod_of_a_node_fetches_nothing(
    bucket: Bucket, ref: ManifestRef, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bucket.model(ref, "one")
    assert first.folder.parent == shared
    monkeypatch.setattr(Store, "stream", None)
    assert bucket.model(ref, "two") == first


def test_a_fetch_goes_on_where_it_broke_off(bucket: Bucket, ref: ManifestRef) -> None:
    model = imported.load(bucket.store, ref)
    file = max(model.files, key=lambda file: file.bytes)
    target = bucket.work / "pod" / "model" / model.digest / file.path
    target.parent.mkdir(parents=True)
    whole = bucket.store.get_bytes(bucket.store.parse(file.uri)[1])
    partial = target.with_name(f".{target.name}.part")
    partial.write_bytes(bytes(1000))  # not its beginning: seen only if it is kept
    with pytest.raises(ArtifactCorrupt, match="expected"):
        bucket.model(ref)
    assert not partial.exists(), "the next attempt starts anew"
    partial.write_bytes(whole[:1000])
    bucket.model(ref)
    assert target.read_bytes() == whole


def test_two_pods_do_not_fetch_a_part_at_the_same_time(
    bucket: Bucket, ref: ManifestRef, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = imported.load(bucket.store, ref).digest
    shared.mkdir()
    report = Reporter("encode", terminal=False)
    waits, fetches = threading.Event(), threading.Event()
    tell, stream = report.update, Store.stream

    def counted(*arguments: Any, **options: Any) -> None:
        fetches.set()
        stream(*arguments, **options)

    monkeypatch.setattr(Store, "stream", counted)

    def update(**change: Any) -> None:
        tell(**change)
        if "another pod" in str(change.get("activity")):
            waits.set()

    report.update = update  # type: ignore[method-assign]
    with (shared / f"{model}.dit.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        thread = threading.Thread(
            target=imported.fetch, args=(bucket.store, ref, ["dit"], bucket.work, report)
        )
        thread.start()
        assert waits.wait(60)
        assert not fetches.wait(0.5), "while another does"
        bucket.model(ref, step=Step.ENCODE)
        assert fetches.is_set(), "but what another part needs is not held up"
    thread.join(300)
    assert (shared / model / "diffusion_pytorch_model.safetensors").is_file()
    assert report.progress.unit == "MB"
    assert 0 < report.progress.current == report.progress.total


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(total=1e9, used=1e9 - 1e6, free=1e6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


def test_a_full_disk_is_told_before_anything_is_fetched(
    bucket: Bucket, ref: ManifestRef, shared: Path, full_disk: None
) -> None:
    with pytest.raises(InfrastructureError, match="free space in") as caught:
        bucket.model(ref)
    assert caught.value.reason is Reason.DISK_FULL
    assert "needs 9.8 MB in" in caught.value.message
    assert str(shared) in caught.value.message
    assert not list(shared.rglob("*.part"))


def test_a_step_without_the_import_says_so(bucket: Bucket) -> None:
    with pytest.raises(InputError, match="imported first"):
        base_model(bucket.job(Step.ENCODE), bucket.store, bucket.work)


# -- Parts


def train(expert: str, **training: Any) -> dict[str, Any]:
    return {"step": Step.TRAIN, "expert": expert, "training": {"steps": 1, **training}}


HIGH, LOW = "high_noise_model", "low_noise_model"
ENCODERS = {"google/umt5-xxl", "models_t5_umt5-xxl-enc-bf16.safetensors", "Wan2.1_VAE.safetensors"}


CLIP = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.safetensors"


def held(folder: Path) -> set[str]:
    """Top names of the files there, the tokenizer's as its folder."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path.parent) if path.parts[0] == "google" else path.parts[0] for path in found}


@pytest.fixture
def pair(bucket: Bucket, tiny22: ModelFiles) -> ManifestRef:
    """Wan2.2, in the bucket."""
    bucket.preset = tiny22.preset.name
    bucket.upload(tiny22)
    return bucket.go().manifest


@pytest.mark.parametrize(
    ("job", "parts"),
    [
        (train("HighNoise"), {HIGH}),
        (train("LowNoise"), {LOW}),
        (train("HighNoise", previewEvery=10), {HIGH, "Wan2.1_VAE.safetensors"}),
        ({"step": Step.ENCODE}, ENCODERS),
        ({"step": Step.SAMPLE}, {HIGH, LOW, *ENCODERS}),
    ],
)
def test_a_step_fetches_the_parts_that_it_loads(
    bucket: Bucket, pair: ManifestRef, tiny22: ModelFiles, job: dict[str, Any], parts: set[str]
) -> None:
    files = bucket.model(pair, **job)
    assert held(files.folder) == parts
    for path, known in files.verified.items():
        original = tiny22.folder / path.relative_to(files.folder)
        assert known == (original.stat().st_size, file_digest(original))
        assert not path.is_file() or path.read_bytes() == original.read_bytes()


def shards(count: int) -> list[str]:
    return [
        f"diffusion_pytorch_model-{number:05d}-of-{count:05d}.safetensors"
        for number in range(1, count + 1)
    ]


LAYOUTS = {"Wan2.2-I2V-A14B": ([f"{HIGH}/", f"{LOW}/"], 6), "Wan2.1-I2V-14B-720P": ([""], 7)}


def released(bucket: Bucket, preset: str) -> ManifestRef:
    """A released model by its names, as if imported, with a few bytes in each file."""
    folders, count = LAYOUTS[preset]
    bucket.preset = preset
    names = [f"{folder}{name}" for folder in folders for name in shards(count)]
    names += [*ENCODERS - {"google/umt5-xxl"}, *layout.TOKENIZER_FILES, CLIP]
    made = []
    for number, name in enumerate(sorted(names)):
        key, data = f"{bucket.name}/{name}", bytes(range(number + 1)) * 100
        bucket.store.put_bytes(key, data)
        sha256 = hashlib.sha256(data).hexdigest()
        file = imported.ModelFile(
            path=name, uri=bucket.store.uri(key), bytes=len(data), sha256=sha256
        )
        made.append(file)
    model = imported.ImportedModel(preset=preset, files=tuple(made))
    return imported.commit(bucket.job(), bucket.store, model)


@pytest.mark.parametrize(
    ("preset", "expert"),
    [("Wan2.2-I2V-A14B", Expert.HIGH_NOISE), ("Wan2.1-I2V-14B-720P", Expert.ONLY)],
)
def test_all_shards_of_the_released_layout_come(
    bucket: Bucket, preset: str, expert: Expert
) -> None:
    files = bucket.model(released(bucket, preset), **train(expert))
    folders, count = LAYOUTS[preset]
    assert list(files.dits[expert]) == [files.folder / folders[0] / name for name in shards(count)]
    there = [path for path in files.folder.rglob("*") if path.is_file()]
    assert sorted(there) == list(files.dits[expert])
    for path in there:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == files.verified[path][1]


def test_shards_come_side_by_side(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store may give one connection a tenth of what the node's line takes."""
    ref = released(bucket, "Wan2.2-I2V-A14B")
    two, stream = threading.Barrier(2, timeout=60), Store.stream

    def met(*arguments: Any, **options: Any) -> None:
        two.wait()
        stream(*arguments, **options)

    monkeypatch.setattr(Store, "stream", met)
    bucket.model(ref, **train("HighNoise"))


def test_parts_add_up_in_a_shared_cache(
    bucket: Bucket, pair: ManifestRef, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed: list[str] = []
    stream = Store.stream

    def counted(store: Store, key: str, *arguments: Any, **options: Any) -> None:
        streamed.append(key)
        stream(store, key, *arguments, **options)

    monkeypatch.setattr(Store, "stream", counted)
    for name, job, parts in (
        ("one", {"step": Step.ENCODE}, ENCODERS),
        ("two", train("HighNoise", previewEvery=10), {HIGH, *ENCODERS}),
        ("three", train("LowNoise"), {HIGH, LOW, *ENCODERS}),
    ):
        folder = bucket.model(pair, name, **job).folder
        assert held(folder) == parts
    assert len(streamed) == len(set(streamed)), "nothing twice"
    monkeypatch.setattr(Store, "stream", None)
    assert bucket.model(pair, "four").folder == folder


def test_only_the_parts_of_the_step_must_find_room(
    bucket: Bucket, pair: ManifestRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = imported.load(bucket.store, pair).files
    free = sum(file.bytes for file in files if file.path.startswith(HIGH))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    bucket.model(pair, **train("HighNoise"))
    with pytest.raises(InfrastructureError, match=r"base model Wan2\.2-I2V-Tiny needs"):
        bucket.model(pair, "other")


def test_encoding_fetches_what_the_latent_cache_lacks(
    bucket: Bucket, ref: ManifestRef, encoded21: Run, tmp_path: Path
) -> None:
    run = encoded21.fork("imported")
    content = load_latents(run.store, run.inputs["encode"], tmp_path)
    run.inputs["import"] = ref
    model = bucket.job().model.model_dump()

    def fetched() -> set[str]:
        run.go(Step.ENCODE, model=model)
        folder = run.folder / f"{run.attempts}-encode" / "model"
        return held(folder / imported.load(bucket.store, ref).digest)

    assert fetched() == set()
    run.store.delete([content.clips[0].text.key])
    assert fetched() == ENCODERS - {"Wan2.1_VAE.safetensors"}
    run.store.delete([content.clips[0].video.key])
    assert fetched() == {"Wan2.1_VAE.safetensors", CLIP}


# -- What need not be read again


def test_what_was_verified_in_the_cache_is_not_read_again(
    bucket: Bucket, ref: ManifestRef, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "SMALL", 1)
    path = bucket.model(ref).vae
    whole = path.read_bytes()
    path.write_bytes(bytes(len(whole)))
    assert bucket.model(ref, "two").vae.read_bytes() == whole, "damaged, so fetched again"
    path.write_bytes(bytes(len(whole)))
    digest.note(path, digest.Stamp.of(path), hashlib.sha256(whole).hexdigest())
    assert bucket.model(ref, "three").vae.read_bytes() == bytes(len(whole)), "the note is trusted"


@pytest.fixture
def volume(bucket: Bucket, tiny22: ModelFiles, tmp_path: Path) -> Path:
    """Wan2.2 on a volume."""
    bucket.preset = tiny22.preset.name
    bucket.volume = tmp_path / "volume"
    shutil.copytree(tiny22.folder, bucket.volume)
    return bucket.volume


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (imported, importer, digest):
        monkeypatch.setattr(module, "file_digest", None)


@pytest.mark.usefixtures("volume")
def test_a_volume_is_hashed_by_the_import_step_alone(
    bucket: Bucket, request: pytest.FixtureRequest
) -> None:
    ref = bucket.go().manifest
    request.getfixturevalue("unread")
    files = bucket.model(ref, **train("HighNoise"))
    (dit,) = files.dits[Expert.HIGH_NOISE]
    assert files.verified[dit][1] == hashlib.sha256(dit.read_bytes()).hexdigest()
    again = bucket.go()
    assert again.manifest == ref
    assert "already verified" in again.message


def test_what_changed_on_a_volume_is_read_again(bucket: Bucket, volume: Path) -> None:
    ref = bucket.go().manifest
    (dit,) = bucket.model(ref).dits[Expert.HIGH_NOISE]
    whole, stat = dit.read_bytes(), dit.stat()
    dit.write_bytes(whole)
    assert bucket.model(ref, **train("HighNoise")).verified, "written anew, and the same"
    dit.write_bytes(bytes(len(whole)))
    os.utime(dit, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    bucket.model(ref, **train("LowNoise"))
    with pytest.raises(InputError, match="was changed since this run verified it") as caught:
        bucket.model(ref, **train("HighNoise"))
    assert caught.value.reason is Reason.MODEL_INVALID
    assert hashlib.sha256(whole).hexdigest() in caught.value.message
    dit.unlink()
    with pytest.raises(InputError, match="is gone since") as caught:
        bucket.model(ref, **train("HighNoise"))
    assert caught.value.reason is Reason.MODEL_NOT_FOUND
