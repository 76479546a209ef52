"""Base models that an import step has verified: their manifest, and how they come to a pod."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from wan_runtime.artifacts import space
from wan_runtime.artifacts.manifest import NAME, Sha256, digest, read
from wan_runtime.artifacts.store import ArtifactCorrupt, Store, file_sha256
from wan_runtime.job import Contract, JobSpec, ManifestRef
from wan_runtime.models.digest import canonical_json, note
from wan_runtime.progress import Reporter

CACHE_VARIABLE = "WAN_MODEL_CACHE"
"""Folder that the pods of a node share; the operator mounts it."""


class ModelFile(Contract):
    """One file, verified."""

    path: str
    """In the layout of the official release."""
    uri: str
    """Where it is: where it was found, or below `<prefix>/models` if it was converted. Empty: in
    the mounted folder."""
    bytes: int
    sha256: Sha256


class ImportedModel(Contract):
    """`<prefix>/models/<digest>/manifest.json`."""

    preset: str
    files: tuple[ModelFile, ...]
    """Sorted by path."""

    @property
    def digest(self) -> str:
        """Of what the model is, wherever its files lie."""
        content = [(file.path, file.bytes, file.sha256) for file in self.files]
        return hashlib.sha256(canonical_json([self.preset, content])).hexdigest()

    def dump(self) -> bytes:
        return self.model_dump_json(by_alias=True, indent=1).encode() + b"\n"


def commit(job: JobSpec, store: Store, model: ImportedModel) -> ManifestRef:
    """Write the manifest. Equal models of equal sources have one."""
    data = model.dump()
    where = hashlib.sha256(data).hexdigest()[:8]  # the same files may lie in two places
    key = f"{job.models_prefix}/{model.digest}/{where}/{NAME}"
    store.put_bytes(key, data, content_type="application/json")
    return ManifestRef(uri=store.uri(key), sha256=digest(data))


def load(store: Store, ref: ManifestRef) -> ImportedModel:
    """Raises ArtifactCorrupt if it is not what was committed, ObjectNotFound if it is gone."""
    try:
        return ImportedModel.model_validate_json(read(store, ref))
    except ValidationError as error:
        raise ArtifactCorrupt(f"{ref.uri} is no manifest of a model: {error}") from error


def fetch(store: Store, ref: ManifestRef, work: Path, report: Reporter | None = None) -> Path:
    """Folder with all files of the model, each whole and verified; fetched where it is not.

    Goes on where an earlier attempt broke off. Two pods that share the folder do not fetch twice:
    the second waits. Raises InfrastructureError(DISK_FULL) before it fills the disk.
    """
    model = load(store, ref)
    shared = os.environ.get(CACHE_VARIABLE)
    root = Path(shared) if shared else work / "model"
    folder = root / model.digest
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(root / f"{model.digest}.lock", report):
        missing = [file for file in model.files if not _is_there(folder / file.path, file)]
        left = sum(file.bytes - _partial_bytes(folder / file.path) for file in missing)
        hint = f"free space in {root}" if shared else "raise spec.resources.cache"
        space.require(folder, left, f"the base model {model.preset}", hint)
        for number, file in enumerate(missing):
            if report is not None:
                report.update(
                    activity="fetching the base model",
                    current=number,
                    total=len(missing),
                    unit="files",
                )
            fetch_file(store, file.uri, folder / file.path, file.bytes, file.sha256)
            note(folder / file.path, file.sha256)
    return folder


def fetch_file(store: Store, uri: str, target: Path, size: int, sha256: str | None) -> str:
    """Bring an object to `target`, going on where an earlier attempt broke off; its sha256.

    `target` appears once it is whole. Raises ArtifactCorrupt if it is not what `sha256` says; the
    next attempt then starts it anew.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(target)
    if _partial_bytes(target) > size:
        partial.unlink()
    with partial.open("ab") as file:
        key = store.parse(uri)[1]
        store.for_uri(uri).stream(key, file.write, offset=file.tell(), length=size - file.tell())
    found = file_sha256(partial)
    if partial.stat().st_size != size or sha256 not in (None, found):
        bytes_ = partial.stat().st_size
        partial.unlink()
        raise ArtifactCorrupt(
            f"{uri} has {bytes_} bytes and sha256 {found}; expected {size} and {sha256}"
        )
    partial.replace(target)
    return found


def _is_there(path: Path, file: ModelFile) -> bool:
    return path.is_file() and path.stat().st_size == file.bytes


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _partial_bytes(target: Path) -> int:
    partial = _partial(target)
    return partial.stat().st_size if partial.is_file() else 0


@contextmanager
def _alone(path: Path, report: Reporter | None) -> Iterator[None]:
    """Inside, no other process that shares the file system is. A killed one lets go."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if report is not None:
                report.update(activity="waiting for another pod that fetches the base model")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
