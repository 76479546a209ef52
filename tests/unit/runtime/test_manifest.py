"""Artifact sets: whole or not at all; equal content keeps its reference; all is verified."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from job_files import make_job, sized
from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import FileEntry, Lineage, Manifest
from wan_runtime.artifacts.store import ArtifactCorrupt, ObjectNotFound, Store
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import ManifestRef
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert, Step
from wan_runtime.contract.training import TrainingSpec
from wan_runtime.errors import InfrastructureError

LINEAGE = Lineage(config_hash="a" * 64, preset="Wan2.1-I2V-Tiny", seed=7)


def commit(store: Store, prefix: str, files: dict[str, Path], **change: object) -> ManifestRef:
    arguments = {"kind": "weights", "lineage": LINEAGE, "summary": {"steps": 3}, **change}
    return manifest.commit(store, prefix, files, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return f"m/{request.node.name}"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name * 100)
    return {"b/two.txt": tmp_path / "two", "a.txt": tmp_path / "one"}


def test_what_is_committed_is_found_loaded_and_fetched(
    store: Store, prefix: str, files: dict[str, Path], tmp_path: Path
) -> None:
    ref = commit(store, prefix, files)
    assert ref.uri == f"s3://wan/{prefix}/manifest.json"
    found = manifest.find(store, prefix)
    assert found is not None
    assert found[0] == ref
    assert found[1] == manifest.load(store, ref) == manifest.verify(store, ref)
    assert [entry.path for entry in found[1].files] == ["a.txt", "b/two.txt"]
    assert found[1].summary == {"steps": 3}
    assert found[1].lineage == LINEAGE
    got = manifest.fetch(store, ref, tmp_path / "got")
    assert got == found[1]
    assert (tmp_path / "got/a.txt").read_text() == "one" * 100
    assert (tmp_path / "got/b/two.txt").read_text() == "two" * 100


def test_a_set_in_pieces_never_lies_on_the_disk_as_a_whole(
    store: Store, prefix: str, tmp_path: Path
) -> None:
    made, got = tmp_path / "made", tmp_path / "got"
    seen: list[int] = []

    def pieces() -> Iterator[tuple[str, Path]]:
        made.mkdir()
        for number in range(20):
            path = made / f"{number:02d}"
            path.write_text(f"piece {number}")
            seen.append(len(list(made.iterdir())))
            yield path.name, path

    ref = manifest.commit_pieces(
        store, prefix, pieces(), kind="checkpoint", lineage=LINEAGE, summary={}
    )
    assert list(made.iterdir()) == []
    read = []
    for path in manifest.fetch_pieces(store, ref, got):
        read.append(path.read_text())
        seen.append(len(list(got.glob("[0-9]*"))))
    assert read == [f"piece {number}" for number in range(20)]
    assert list(got.iterdir()) == []
    assert max(seen) <= manifest.IN_FLIGHT


def test_a_set_that_does_not_fit_on_the_disk_is_refused_before_it_is_fetched(
    store: Store,
    prefix: str,
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ref = commit(store, prefix, files)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=599))
    with pytest.raises(InfrastructureError, match="needs 600 bytes in ") as caught:
        manifest.fetch(store, ref, tmp_path / "got")
    assert caught.value.reason is Reason.DISK_FULL
    assert list((tmp_path / "got").iterdir()) == []


def test_nothing_is_found_where_nothing_was_committed(store: Store, prefix: str) -> None:
    store.put_bytes(f"{prefix}/a.txt", b"upload that was cut off before its manifest")
    assert manifest.find(store, prefix) is None


def test_equal_content_keeps_its_reference(
    store: Store, prefix: str, files: dict[str, Path]
) -> None:
    first = commit(store, prefix, files)
    assert commit(store, prefix, dict(reversed(files.items()))) == first
    assert commit(store, prefix, files, summary={"steps": 4}) != first


def test_files_already_there_are_not_sent_again(
    store: Store, prefix: str, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(store, prefix, files)
    files["b/two.txt"].write_text("changed")
    sent = []
    real = Store.put_file

    def put_file(self: Store, key: str, path: Path, *, sha256: str | None = None) -> object:
        sent.append(key)
        return real(self, key, path, sha256=sha256)

    monkeypatch.setattr(Store, "put_file", put_file)
    manifest.verify(store, commit(store, prefix, files))
    assert sent == [f"{prefix}/b/two.txt"]


def test_the_manifest_comes_last(
    store: Store, prefix: str, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    del files["a.txt"]
    files["missing.txt"] = Path("/nonexistent")
    with pytest.raises(FileNotFoundError):
        commit(store, prefix, files)
    assert manifest.find(store, prefix) is None


def test_a_changed_manifest_is_refused(store: Store, prefix: str, files: dict[str, Path]) -> None:
    ref = commit(store, prefix, files)
    commit(store, prefix, files, summary={"steps": 99})
    with pytest.raises(ArtifactCorrupt, match=f"expected {ref.sha256}"):
        manifest.load(store, ref)


@pytest.mark.parametrize("damage", ["changed", "same size", "missing"])
def test_a_damaged_file_is_refused(
    store: Store, prefix: str, files: dict[str, Path], tmp_path: Path, damage: str
) -> None:
    ref = commit(store, prefix, files)
    key = f"{prefix}/a.txt"
    if damage == "missing":
        store.delete([key])
    else:
        store.put_bytes(key, b"x" if damage == "changed" else b"x" * 300)
    for read in (manifest.verify, lambda *a: manifest.fetch(*a, tmp_path / "got")):
        with pytest.raises(ArtifactCorrupt, match=r"a\.txt"):
            read(store, ref)
    assert not (tmp_path / "got/a.txt").exists()


def test_a_second_fetch_takes_what_is_there_and_mends_what_is_not(
    store: Store, prefix: str, files: dict[str, Path], tmp_path: Path
) -> None:
    ref = commit(store, prefix, files)
    manifest.fetch(store, ref, tmp_path)
    kept = (tmp_path / "a.txt").stat().st_mtime_ns
    (tmp_path / "b/two.txt").write_text("TWO" * 100)
    manifest.fetch(store, ref, tmp_path)
    assert (tmp_path / "a.txt").stat().st_mtime_ns == kept
    assert (tmp_path / "b/two.txt").read_text() == "two" * 100


def test_a_manifest_that_is_gone_or_no_manifest(store: Store, prefix: str) -> None:
    with pytest.raises(ObjectNotFound):
        manifest.load(store, ManifestRef(uri=f"s3://wan/{prefix}/manifest.json", sha256="0" * 64))
    store.put_bytes(f"{prefix}/manifest.json", b'{"version": 1, "kind": "x"}')
    with pytest.raises(ArtifactCorrupt, match="created: is missing"):
        manifest.find(store, prefix)


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../up", "a/../../b", "a//b", "./a", "manifest.json"]
)
def test_paths_that_would_leave_the_folder_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is not a plain relative path"):
        FileEntry(path=path, bytes=1, sha256="0" * 64)


def test_equal_manifests_give_equal_bytes() -> None:
    text = {
        "created": "2025-01-02T03:04:05Z",
        "kind": "k",
        "files": [],
        "summary": {"b": 1, "a": 2},
    }
    one = Manifest.model_validate_json(json.dumps({**text, "lineage": LINEAGE.model_dump()}))
    two = one.model_copy(update={"summary": {"a": 2, "b": 1}})
    assert one.dump() == two.dump()
    assert Manifest.model_validate_json(one.dump()) == one


@pytest.mark.parametrize(
    ("step", "change", "same"),
    [
        (Step.TRAIN, {"image": "other", "uid": "1" * 36, "name": "other"}, True),
        (Step.TRAIN, {"sample": {"count": 5}}, True),
        (Step.TRAIN, {"training": {"checkpointEvery": 7}}, True),
        (Step.TRAIN, {"store": {"endpoint": "http://elsewhere", "bucket": "b"}}, True),
        (Step.TRAIN, {"training": {"seed": 1}}, False),
        (Step.TRAIN, {"expert": Expert.HIGH_NOISE}, False),
        (Step.TRAIN, {"inputs": {"encode": {"uri": "s3://a/b", "sha256": "1" * 64}}}, False),
        (Step.TRAIN, {"model": {"preset": "Wan2.2-I2V-Tiny"}}, False),
        (Step.SAMPLE, {"sample": {"count": 5}}, False),
        (Step.PREPARE, {"training": {"seed": 1}}, True),
        (Step.EXPORT, {"lora": {"rank": 4}}, False),
        (Step.ENCODE, {"training": {"tiledVae": True}}, False),
        (Step.ENCODE, {"shard": {"index": 0, "count": 2}}, False),
        (Step.EXPORT, {"formats": ["ComfyUI"]}, False),
        (Step.IMPORT, {"training": {"seed": 1}}, True),
        (Step.IMPORT, {"expert": Expert.HIGH_NOISE}, False),
    ],
)
def test_the_job_hash_covers_what_shapes_the_output(
    step: Step, change: dict[str, object], same: bool
) -> None:
    before, after = make_job(step=step), make_job(step=step, **change)
    assert (manifest.job_hash(before) == manifest.job_hash(after)) is same


def test_weights_to_start_from_are_verified_again_for_another_training() -> None:
    def prepared(uri: str | None, rank: int = 4) -> str:
        job = make_job(step=Step.PREPARE, lora={"rank": rank})
        starts = None if uri is None else {Expert.ONLY: uri}
        work = job.work.model_copy(update={"starts": starts})
        return manifest.job_hash(job.model_copy(update={"work": work}))

    assert prepared(None) == prepared(None, 8), "nothing is verified"
    found = [prepared("s3://a/b.safetensors"), prepared("s3://a/c.safetensors")]
    found += [prepared("s3://a/b.safetensors", 8), prepared(None)]
    assert len(set(found)) == len(found)


def test_the_job_hash_outlives_a_release_with_more_fields() -> None:
    class Later(TrainingSpec):
        novelty: float = 0.0

    before = make_job(step=Step.TRAIN)
    work = finetune_of(before)
    later = (
        work.model_copy(update={"training": Later(**work.training.model_dump(), **change)})
        for change in ({}, {"novelty": 0.1})
    )
    same, other = (before.model_copy(update={"work": each}) for each in later)
    assert manifest.job_hash(before) == manifest.job_hash(same)
    assert manifest.job_hash(before) != manifest.job_hash(other)


def test_the_job_hash_covers_the_dataset() -> None:
    before = make_job()
    after = make_job(dataset={"buckets": [sized(128, 96, 33)]})
    assert manifest.job_hash(before) != manifest.job_hash(after)


def test_the_job_hash_is_the_same_on_any_number_of_gpus() -> None:
    """A run goes on from the checkpoints of another number."""
    spread = {"nodes": 2, "gpusPerNode": 4, "sequence": 2, "zeroStage": 2}
    training = {"batchSize": 2, "gradientAccumulation": 2}
    one = make_job(step=Step.TRAIN, training=training)
    eight = make_job(step=Step.TRAIN, training={**training, "parallelism": spread})
    assert finetune_of(eight).training.parallelism.data == 4
    assert manifest.job_hash(one) == manifest.job_hash(eight)
