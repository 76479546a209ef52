"""Sets of files that exist as a whole or not at all.

A set is its files and a `manifest.json`, written last. Readers trust only what a manifest lists.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from wan_runtime.artifacts import space
from wan_runtime.artifacts.store import ArtifactCorrupt, ObjectNotFound, Store, file_sha256
from wan_runtime.contract.base import Contract
from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.job import Certificate, JobSpec, ManifestRef
from wan_runtime.contract.steps import Expert
from wan_runtime.contract.verdict import Verdict
from wan_runtime.faults import described
from wan_runtime.threads import in_order

log = logging.getLogger(__name__)

NAME = "manifest.json"
TRANSFERS = 4
"""Files moved at a time."""
IN_FLIGHT = TRANSFERS + 1
"""Files of a set in pieces that exist at a time: those moved, and the one being made or read."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _relative(path: str) -> str:
    # Others may write to the store too: the paths of a manifest must not leave the target folder.
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or str(pure) != path or path == NAME:
        raise ValueError(f"{path!r} is not a plain relative path")
    return path


class FileEntry(Contract):
    """One file of a set."""

    path: Annotated[str, AfterValidator(_relative)]
    """Below the manifest's own prefix."""
    bytes: int
    sha256: Sha256


class Lineage(Contract):
    """What a set was made from."""

    config_hash: Sha256
    """`job_hash` of the job that made it."""
    preset: str
    """Name of the base model; empty if it was made without one."""
    expert: Expert = Expert.ONLY
    base_weights: Sha256 | None = None
    """Digest of the base model."""
    base_precision: Literal["FP8"] | None = None
    """What the frozen base weights were rounded to in training; None: nothing."""
    dataset: Sha256 | None = None
    """Digest of the dataset's manifest or, in the dataset's own, of the rows that it states."""
    image: str = ""
    """Runtime image."""
    seed: int | None = None
    inputs: dict[str, ManifestRef] = Field(default_factory=dict)

    @classmethod
    def of(
        cls,
        job: JobSpec,
        *,
        base_weights: str | None = None,
        base_precision: Literal["FP8"] | None = None,
        dataset: str | None = None,
        seed: int | None = None,
    ) -> Lineage:
        """Lineage of what `job` makes; what the job itself says is taken from there."""
        return cls(
            config_hash=job_hash(job),
            preset="" if job.model is None else job.model.preset,
            expert=job.expert,
            image=job.image,
            base_weights=base_weights,
            base_precision=base_precision,
            dataset=dataset,
            seed=seed,
            inputs=dict(job.inputs),
        )


class Manifest(Contract):
    """manifest.json."""

    version: Literal[1] = 1
    kind: str
    """What the set is: `dataset`, `latents`, `checkpoint`, `weights`, `samples`; of an evaluation
    `clips`, `videos`, `scores`, `ratings`, `evaluation`."""
    created: datetime
    files: tuple[FileEntry, ...]
    """Sorted by path."""
    lineage: Lineage
    summary: dict[str, int | float | str] = Field(default_factory=dict)
    certificates: tuple[Certificate, ...] = ()
    """Certificates of exported weights, one for each format."""
    verdict: Verdict | None = None
    """What an evaluation found."""

    def dump(self) -> bytes:
        """Equal manifests give equal bytes."""
        # Written as they were before there was the field.
        without: dict[str, Any] = {} if self.verdict is not None else {"verdict": True}
        if self.lineage.base_precision is None:
            without["lineage"] = {"base_precision"}
        content = self.model_dump(mode="json", by_alias=True, exclude=without)
        return (json.dumps(content, sort_keys=True, indent=1) + "\n").encode()

    def certified(self, dialect: Dialect) -> tuple[str, ...]:
        """Paths of the weights in one format; empty if they were not exported for it."""
        return next((each.files for each in self.certificates if each.format is dialect), ())

    def same_content(self, other: Manifest) -> bool:
        """Equal but for the time of creation."""
        return self.model_copy(update={"created": other.created}) == other


def digest(data: bytes) -> str:
    """Hex sha256."""
    return hashlib.sha256(data).hexdigest()


def job_hash(job: JobSpec) -> str:
    """Hex sha256 of what the job says of that which its step commits."""
    return hashlib.sha256(json.dumps(job.identity, sort_keys=True).encode()).hexdigest()


def commit(
    store: Store,
    prefix: str,
    files: Mapping[str, Path],
    *,
    kind: str,
    lineage: Lineage,
    summary: Mapping[str, int | float | str],
    certificates: tuple[Certificate, ...] = (),
    verdict: Verdict | None = None,
) -> ManifestRef:
    """Upload `files` (path below `prefix` -> local file), then the manifest.

    Files already there with an equal checksum are not sent again. If an equal set is already
    committed, its manifest stays as it is and its reference is returned.
    """
    entries = in_order(
        lambda item: _upload(store, prefix, *item), sorted(files.items()), threads=TRANSFERS
    )
    return _seal(store, prefix, entries, kind, lineage, summary, certificates, verdict)


def commit_pieces(
    store: Store,
    prefix: str,
    pieces: Iterable[tuple[str, Path]],
    *,
    kind: str,
    lineage: Lineage,
    summary: Mapping[str, int | float | str],
) -> ManifestRef:
    """As `commit`, for files that are made one after another and would not fit on the disk
    together: each is deleted once it is uploaded, and the next is made when there is room for it.
    At most IN_FLIGHT of them exist at a time.
    """

    def move(piece: tuple[str, Path]) -> FileEntry:
        entry = _upload(store, prefix, *piece)
        piece[1].unlink()
        return entry

    entries = in_order(move, pieces, threads=TRANSFERS)
    return _seal(store, prefix, entries, kind, lineage, summary)


def _seal(
    store: Store,
    prefix: str,
    entries: Iterable[FileEntry],
    kind: str,
    lineage: Lineage,
    summary: Mapping[str, int | float | str],
    certificates: tuple[Certificate, ...] = (),
    verdict: Verdict | None = None,
) -> ManifestRef:
    manifest = Manifest(
        kind=kind,
        created=datetime.now(UTC),
        files=tuple(sorted(entries, key=lambda entry: entry.path)),
        lineage=lineage,
        summary=dict(summary),
        certificates=certificates,
        verdict=verdict,
    )
    present = find(store, prefix)
    if present is not None and present[1].same_content(manifest):
        return present[0]
    data = manifest.dump()
    key = f"{prefix}/{NAME}"
    store.put_bytes(key, data, content_type="application/json")
    return ManifestRef(uri=store.uri(key), sha256=digest(data))


def find(store: Store, prefix: str) -> tuple[ManifestRef, Manifest] | None:
    """The set committed at `prefix`, if any. Raises ArtifactCorrupt for an unreadable manifest."""
    key = f"{prefix}/{NAME}"
    try:
        data = store.get_bytes(key)
    except ObjectNotFound:
        return None
    ref = ManifestRef(uri=store.uri(key), sha256=digest(data))
    return ref, _parse(ref, data)


def committed(store: Store, job: JobSpec) -> tuple[ManifestRef, Manifest] | None:
    """What an earlier attempt committed for this job, whole; None if there is nothing, or what is
    there is damaged."""
    found = find(store, job.output_prefix)
    if found is None or found[1].lineage.config_hash != job_hash(job):
        return None
    try:
        verify(store, found[0])
    except ArtifactCorrupt as error:
        log.warning("the committed output is damaged and is made again: %s", error)
        return None
    return found


def load(store: Store, ref: ManifestRef) -> Manifest:
    """The manifest that `ref` names, of any bucket of the store's endpoint.

    Raises ArtifactCorrupt if it is not the one that was committed, ObjectNotFound if it is gone.
    """
    return _parse(ref, read(store, ref))


def read(store: Store, ref: ManifestRef) -> bytes:
    """The bytes that `ref` names. Raises as `load` does."""
    data = store.for_uri(ref.uri).get_bytes(store.parse(ref.uri)[1])
    if digest(data) != ref.sha256:
        raise ArtifactCorrupt(f"{ref.uri} has sha256 {digest(data)}; expected {ref.sha256}")
    return data


def fetch(
    store: Store, ref: ManifestRef, dest: Path, only: Collection[str] | None = None
) -> Manifest:
    """Download a whole set, or the paths in `only`, into `dest`, each file verified. Files already
    there and right are kept.

    Raises ArtifactCorrupt if a file is missing or differs.
    """
    manifest = load(store, ref)
    dest.mkdir(parents=True, exist_ok=True)
    entries = [entry for entry in manifest.files if only is None or entry.path in only]
    missing = (entry.bytes for entry in entries if not (dest / entry.path).is_file())
    space.require(dest, sum(missing), f"fetching {ref.uri}")
    for _ in _downloads(store, ref, entries, dest):
        pass
    return manifest


def fetch_pieces(store: Store, ref: ManifestRef, dest: Path) -> Iterator[Path]:
    """The files of a set in the order of their paths, verified, each deleted when the next is
    asked for. At most IN_FLIGHT of them exist at a time. Raises as `fetch` does.
    """
    for path in _downloads(store, ref, load(store, ref).files, dest):
        yield path
        path.unlink()


def _downloads(
    store: Store, ref: ManifestRef, entries: Iterable[FileEntry], dest: Path
) -> Iterator[Path]:
    source, prefix = store.for_uri(ref.uri), _prefix(store, ref)
    return in_order(
        lambda entry: _download(source, prefix, entry, dest), entries, threads=TRANSFERS
    )


def verify(store: Store, ref: ManifestRef) -> Manifest:
    """Compare sizes and recorded checksums of all files, unread. Raises ArtifactCorrupt."""
    manifest = load(store, ref)
    source, prefix = store.for_uri(ref.uri), _prefix(store, ref)
    for entry in manifest.files:
        key = f"{prefix}/{entry.path}"
        found = source.stat(key)
        if found is None:
            raise ArtifactCorrupt(f"{source.uri(key)} is missing; {ref.uri} lists it")
        if (found.bytes, found.sha256) != (entry.bytes, entry.sha256):
            raise ArtifactCorrupt(
                f"{source.uri(key)} has {found.bytes} bytes and sha256 {found.sha256}; "
                f"its manifest says {entry.bytes} and {entry.sha256}"
            )
    return manifest


def _upload(store: Store, prefix: str, path: str, file: Path) -> FileEntry:
    entry = FileEntry(path=path, bytes=file.stat().st_size, sha256=file_sha256(file))
    key = f"{prefix}/{path}"
    found = store.stat(key)
    if found is None or (found.bytes, found.sha256) != (entry.bytes, entry.sha256):
        store.put_file(key, file, sha256=entry.sha256)
    return entry


def _download(store: Store, prefix: str, entry: FileEntry, dest: Path) -> Path:
    target = dest / entry.path
    if (
        target.is_file()
        and target.stat().st_size == entry.bytes
        and file_sha256(target) == entry.sha256
    ):
        return target
    key = f"{prefix}/{entry.path}"
    try:
        store.download(key, target, sha256=entry.sha256, bytes=entry.bytes)
    except ObjectNotFound as error:
        raise ArtifactCorrupt(f"{store.uri(key)} is missing; its manifest lists it") from error
    return target


def _prefix(store: Store, ref: ManifestRef) -> str:
    return store.parse(ref.uri)[1].removesuffix(f"/{NAME}")


def _parse(ref: ManifestRef, data: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise ArtifactCorrupt(f"{ref.uri} is no manifest: {described(error)}") from error
