"""Base models that an import step has verified: their manifest, and how they come to a pod."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError

from wan_runtime import heartbeat
from wan_runtime.artifacts import space
from wan_runtime.artifacts.manifest import NAME, TRANSFERS, Sha256, digest, read
from wan_runtime.artifacts.store import ArtifactCorrupt, Store
from wan_runtime.contract.base import Contract
from wan_runtime.contract.job import JobSpec, ManifestRef
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError
from wan_runtime.faults import described
from wan_runtime.models.digest import (
    CHUNK,
    Count,
    Stamp,
    canonical_json,
    file_digest,
    note,
    uncounted,
)
from wan_runtime.models.layout import ModelFiles, arrange, select
from wan_runtime.presets import PRESETS
from wan_runtime.process.progress import Reporter
from wan_runtime.threads import in_order

log = logging.getLogger(__name__)

CACHE_VARIABLE = "WAN_MODEL_CACHE"
"""Folder that the pods of a node share; the operator mounts it."""
LOCK_SECONDS = 1.0
"""Seconds between two tries to be the one that fetches."""


class ModelFile(Contract):
    """One file, verified."""

    path: str
    """In the layout of the official release."""
    uri: str
    """Where it is: where it was found, or below `<prefix>/models` if it was converted. Empty: in
    the mounted folder."""
    bytes: int
    sha256: Sha256
    stamp: Stamp | None = None
    """Stamp of a file in the mounted folder, from when it was read."""


class ImportedModel(Contract):
    """`<prefix>/models/<digest>/manifest.json`."""

    preset: str
    files: tuple[ModelFile, ...]
    """Sorted by path."""

    @property
    def digest(self) -> str:
        """Digest of the preset and of the files' paths, sizes and checksums, wherever the files
        lie."""
        content = [(file.path, file.bytes, file.sha256) for file in self.files]
        return hashlib.sha256(canonical_json([self.preset, content])).hexdigest()

    def parts(self, names: Iterable[str]) -> dict[str, list[ModelFile]]:
        """Files of these parts of the model."""
        files = {file.path: file for file in self.files}
        parts = select(PRESETS[self.preset], files, f"the imported {self.preset}")
        return {part: [files[path] for path in parts[part]] for part in names}

    def below(self, folder: Path) -> ModelFiles:
        """Its paths in a folder, and what is known of them."""
        found = arrange(PRESETS[self.preset], folder, [file.path for file in self.files])
        known = {folder / file.path: (file.bytes, file.sha256) for file in self.files}
        return replace(found, verified=known)

    def dump(self) -> bytes:
        text = self.model_dump_json(by_alias=True, indent=1, exclude_none=True)
        return text.encode() + b"\n"


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
        raise ArtifactCorrupt(f"{ref.uri} is no manifest of a model: {described(error)}") from error


def fetch(
    store: Store,
    ref: ManifestRef,
    needed: Iterable[str],
    work: Path,
    report: Reporter | None = None,
) -> ModelFiles:
    """The model with the parts `needed` whole and verified; fetched where they are not.

    Goes on where an earlier attempt broke off. Pods that share the folder add what they need to it,
    and do not fetch a part twice: the second waits. Raises InfrastructureError(DISK_FULL) before it
    fills the disk.
    """
    model = load(store, ref)
    place = root(work)
    folder = place / model.digest
    folder.mkdir(parents=True, exist_ok=True)
    parts = model.parts(needed)
    files = [file for members in parts.values() for file in members]
    left = {file: _left(folder / file.path, file.bytes) for file in files}
    require(folder, sum(left.values()), f"the base model {model.preset}")
    count = _counting(report, "fetching the base model", sum(left.values()))

    def take(file: ModelFile) -> None:
        count(left[file] - bring(store, file, folder / file.path, count))

    for part, members in parts.items():
        with alone(place / f"{model.digest}.{part}.lock", report):
            for _ in in_order(take, members, threads=TRANSFERS):
                pass
    return model.below(folder)


def root(work: Path) -> Path:
    """Folder of fetched models: the one that the pods of a node share, else one in the scratch
    folder."""
    shared = os.environ.get(CACHE_VARIABLE)
    return Path(shared) if shared else work / "model"


def require(folder: Path, size: int, what: str) -> None:
    """As `space.require`, of a folder below the root."""
    shared = os.environ.get(CACHE_VARIABLE)
    hint = f"free space in {shared}" if shared else "raise spec.resources.cache"
    space.require(folder, size, what, hint)


def mounted(
    store: Store,
    ref: ManifestRef,
    needed: Iterable[str],
    folder: Path,
    report: Reporter | None = None,
) -> ModelFiles:
    """The model on a volume. Of the parts `needed`, what is as the import step left it is not read
    again: that step holds no GPU while it hashes.

    Raises:
        InputError: MODEL_NOT_FOUND or MODEL_INVALID, if it is not the model that was imported.
    """
    model = load(store, ref)
    files = [file for members in model.parts(needed).values() for file in members]
    touched = [file for file in files if _stamp(folder / file.path) != file.stamp]
    count = _counting(report, "verifying the base model", sum(file.bytes for file in touched))
    for file in touched:
        found = file_digest(folder / file.path, count)
        if found != file.sha256:
            raise InputError(
                Reason.MODEL_INVALID,
                f"{folder / file.path} was changed since this run verified it: its sha256 was "
                f"{file.sha256} and is {found}. Put it back, or begin a new run",
            )
    return model.below(folder)


def _stamp(path: Path) -> Stamp:
    try:
        return Stamp.of(path)
    except FileNotFoundError as error:
        raise InputError(
            Reason.MODEL_NOT_FOUND, f"{path} is gone since this run verified it"
        ) from error


def bring(store: Store, file: ModelFile, target: Path, count: Count = uncounted) -> int:
    """Make `target` the file. The number of bytes that were fetched for it."""
    if target.is_file():
        if target.stat().st_size == file.bytes and file_digest(target) == file.sha256:
            return 0
        log.warning("%s is damaged and is fetched again", target)
        target.unlink()
    left = _left(target, file.bytes)
    fetch_file(store, file.uri, target, file.bytes, file.sha256, count)
    note(target, Stamp.of(target), file.sha256)
    return left


def fetch_file(
    store: Store, uri: str, target: Path, size: int, sha256: str | None, count: Count = uncounted
) -> str:
    """Bring an object to `target`, going on where an earlier attempt broke off; its sha256.

    `target` appears once it is whole. Raises ArtifactCorrupt if it is not what `sha256` says; the
    next attempt then starts it anew.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(target)
    if _partial_bytes(target) > size:
        partial.unlink()
    content = hashlib.sha256()
    with partial.open("a+b") as file:

        def take(chunk: bytes) -> None:
            file.write(chunk)
            content.update(chunk)
            count(len(chunk))

        file.seek(0)
        while chunk := file.read(CHUNK):
            content.update(chunk)
            heartbeat.beat()
        key, begun = store.parse(uri)[1], file.tell()
        store.for_uri(uri).stream(key, take, offset=begun, length=size - begun)
        file.flush()
        os.fsync(file.fileno())  # what is noted as verified outlives the node's end
    found, bytes_ = content.hexdigest(), partial.stat().st_size
    if bytes_ != size or sha256 not in (None, found):
        partial.unlink()
        raise ArtifactCorrupt(
            f"{uri} has {bytes_} bytes and sha256 {found}; expected {size} and {sha256}"
        )
    partial.replace(target)
    return found


def _left(target: Path, size: int) -> int:
    """Bytes to fetch."""
    if target.is_file() and target.stat().st_size == size:
        return 0
    return max(0, size - _partial_bytes(target))


def _counting(report: Reporter | None, activity: str, total: int) -> Count:
    return uncounted if report is None or not total else report.counting(activity, total)


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _partial_bytes(target: Path) -> int:
    partial = _partial(target)
    return partial.stat().st_size if partial.is_file() else 0


@contextmanager
def alone(path: Path, report: Reporter | None = None) -> Iterator[None]:
    """Inside, no other process that shares the file system is. A killed one lets go."""
    with path.open("w") as lock:
        if not _locked(lock):
            if report is not None:
                report.update(activity="waiting for another pod that fetches the base model")
            while not _locked(lock):
                heartbeat.beat()  # the other pod is watched by its own supervisor
                time.sleep(LOCK_SECONDS)
        yield


def _locked(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
