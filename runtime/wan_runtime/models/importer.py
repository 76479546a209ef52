"""The import step: base weights in a bucket or on a volume become files with known digests.

Every file is read once. What is not this preset's weights is refused by the headers alone, before
any data is read. `.pth` is converted to safetensors; whatever is safetensors already stays where it
is, and later steps verify it by its checksum.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wan_runtime.artifacts import space
from wan_runtime.artifacts.store import ObjectNotFound, Store, file_sha256
from wan_runtime.errors import InputError
from wan_runtime.job import JobSpec, ManifestRef, Reason
from wan_runtime.models import imported, shapes
from wan_runtime.models.digest import Stamp, Tell, canonical_json, file_digest
from wan_runtime.models.imported import ImportedModel, ModelFile
from wan_runtime.models.layout import select
from wan_runtime.models.source import preset_of
from wan_runtime.models.weights import write_safetensors
from wan_runtime.outcome import Outcome
from wan_runtime.parts import TOKENIZER
from wan_runtime.presets import Preset
from wan_runtime.progress import Reporter


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Verify the model of the job, convert what has to be, commit its manifest."""
    preset = preset_of(job)
    report.update(activity="looking for the base model")
    if job.model.path is not None:
        volume = Volume.list(preset, Path(job.model.path))
        index = _index(job, volume.fingerprint(preset))
        if known := _known(store, index):
            return _outcome(*known, "already verified")
        model, how = _mounted(preset, volume, report), "verified"
    else:
        source = Source.list(store, job.model.source or "")
        index = _index(job, source.fingerprint(preset))
        if known := _known(store, index):
            return _outcome(*known, "already imported")
        model, how = _fetched(job, preset, source, store, work, report), "imported"
    ref = imported.commit(job, store, model)
    store.put_bytes(index, ref.model_dump_json(by_alias=True).encode())
    return _outcome(ref, model, how)


@dataclass(frozen=True, slots=True)
class Volume:
    """The model's files in a mounted folder."""

    folder: Path
    parts: Mapping[str, tuple[str, ...]]
    stamps: Mapping[str, Stamp]
    """Of all files of the parts, by path."""

    @classmethod
    def list(cls, preset: Preset, folder: Path) -> Volume:
        if not folder.is_dir():
            raise InputError(
                Reason.MODEL_NOT_FOUND, f"model.path {folder} is not a folder in the pod"
            )
        found = (path for path in folder.rglob("*") if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in found]
        parts = select(preset, names, str(folder))
        stamps = {name: Stamp.of(folder / name) for members in parts.values() for name in members}
        return cls(folder, parts, stamps)

    def fingerprint(self, preset: Preset) -> str:
        """Changes with every write: what was hashed for one run need not be for the next."""
        stamps = {name: stamp.model_dump() for name, stamp in self.stamps.items()}
        return hashlib.sha256(canonical_json([preset.name, "volume", stamps])).hexdigest()


@dataclass(frozen=True, slots=True)
class Source:
    """What lies below an s3:// prefix."""

    uri: str
    bucket: Store
    prefix: str
    """Of keys, with the slash; empty at the bucket's root."""
    objects: Mapping[str, tuple[int, str]]
    """Path -> (bytes, ETag)"""

    @classmethod
    def list(cls, store: Store, uri: str) -> Source:
        try:
            prefix = store.parse(uri)[1]
        except ValueError as error:
            raise InputError(Reason.MODEL_NOT_FOUND, f"model.source: {error}") from error
        below, bucket = f"{prefix}/" if prefix else "", store.for_uri(uri)
        found = {
            entry.key.removeprefix(below): (entry.bytes, entry.etag or "")
            for entry in bucket.list(below)
            # Consoles leave markers of folders; no name may lead out of the folder that it goes to.
            if not entry.key.endswith("/") and ".." not in entry.key.split("/")
        }
        if not found:
            raise InputError(Reason.MODEL_NOT_FOUND, f"there is nothing below {uri}")
        return cls(uri, bucket, below, found)

    def fingerprint(self, preset: Preset) -> str:
        """Changes with every upload, so that an import stands for what is there now."""
        return hashlib.sha256(canonical_json([preset.name, self.uri, self.objects])).hexdigest()

    def read(self, name: str, offset: int, length: int) -> bytes:
        return self.bucket.get_range(self.prefix + name, offset, length)

    def sha256(self, name: str, tell: Tell) -> str:
        digest = hashlib.sha256()

        def take(chunk: bytes) -> None:
            digest.update(chunk)
            tell(len(chunk))

        self.bucket.stream(self.prefix + name, take)
        return digest.hexdigest()

    def address(self, name: str) -> str:
        return self.bucket.uri(self.prefix + name)


def _fetched(
    job: JobSpec, preset: Preset, source: Source, store: Store, work: Path, report: Reporter
) -> ImportedModel:
    parts = select(preset, source.objects, source.uri)
    for part, names in parts.items():  # the headers first: minutes before gigabytes
        if part != TOKENIZER and not _pickled(names):
            held: dict[str, tuple[int, ...]] = {}
            for name in names:
                size = source.objects[name][0]

                def read(offset: int, length: int, name: str = name) -> bytes:
                    return source.read(name, offset, length)

                held |= shapes.of_safetensors(read, size, source.address(name))
            shapes.check(preset, part.split("-")[0], ", ".join(names), held)
    files: list[ModelFile] = []
    total = sum(source.objects[name][0] for names in parts.values() for name in names)
    tell = report.counting("verifying the base model", total)
    for part, names in parts.items():
        for name in names:
            if _pickled([name]):
                files.append(_converted(job, preset, part, source, name, store, work, tell))
                continue
            size = source.objects[name][0]
            digest = source.sha256(name, tell)
            files.append(ModelFile(path=name, uri=source.address(name), bytes=size, sha256=digest))
    return _model(preset, files)


def _converted(
    job: JobSpec,
    preset: Preset,
    part: str,
    source: Source,
    name: str,
    store: Store,
    work: Path,
    tell: Tell,
) -> ModelFile:
    """A `.pth` as safetensors, at `<prefix>/models/files/<sha256>.safetensors`."""
    folder, size = work / "import", source.objects[name][0]
    folder.mkdir(parents=True, exist_ok=True)
    pickled = folder / Path(name).name
    space.require(folder, 2 * size, f"converting {name}")
    if pickled.is_file() and pickled.stat().st_size == size:
        tell(size)
    else:
        imported.fetch_file(source.bucket, source.address(name), pickled, size, None, tell)
    tensors = shapes.unpickled(pickled, name)
    shapes.check(preset, part, name, {key: tuple(each.shape) for key, each in tensors.items()})
    path = pickled.with_suffix(".safetensors")
    write_safetensors(path, tensors, {})
    del tensors
    digest = file_sha256(path)
    key = f"{job.models_prefix}/files/{digest}.safetensors"
    found = store.stat(key)
    if found is None or found.sha256 != digest:
        store.put_file(key, path, sha256=digest)
    made = ModelFile(
        path=str(Path(name).with_suffix(".safetensors")),
        uri=store.uri(key),
        bytes=path.stat().st_size,
        sha256=digest,
    )
    shutil.rmtree(folder)
    return made


def _mounted(preset: Preset, volume: Volume, report: Reporter) -> ImportedModel:
    """A volume is verified as it is: it may be read-only, and DiffSynth reads `.pth` too."""
    folder = volume.folder
    for part, members in volume.parts.items():
        if part != TOKENIZER:
            held: dict[str, tuple[int, ...]] = {}
            for name in members:
                held |= shapes.of_file(folder / name, name)
            shapes.check(preset, part.split("-")[0], ", ".join(members), held)
    total = sum(stamp.bytes for stamp in volume.stamps.values())
    tell = report.counting("verifying the base model", total)
    files = []
    for name, stamp in volume.stamps.items():
        digest = file_digest(folder / name, tell)
        file = ModelFile(path=name, uri="", bytes=stamp.bytes, sha256=digest, stamp=stamp)
        files.append(file)
    return _model(preset, files)


def _model(preset: Preset, files: Sequence[ModelFile]) -> ImportedModel:
    ordered = tuple(sorted(files, key=lambda file: file.path))
    return ImportedModel(preset=preset.name, files=ordered)


def _pickled(names: Sequence[str]) -> bool:
    return names[0].endswith(".pth")


def _known(store: Store, index: str) -> tuple[ManifestRef, ImportedModel] | None:
    """What was imported, if all of it is still there: converted files may have been removed."""
    try:
        ref = ManifestRef.model_validate_json(store.get_bytes(index))
        model = imported.load(store, ref)
    except ObjectNotFound:
        return None
    stored = [file.uri for file in model.files if file.uri]  # not those of a volume
    there = (store.for_uri(uri).stat(store.parse(uri)[1]) for uri in stored)
    return (ref, model) if all(there) else None


def _index(job: JobSpec, fingerprint: str) -> str:
    """Key of the reference to what was made of a source that looked like this."""
    return f"{job.models_prefix}/sources/{fingerprint}.json"


def _outcome(ref: ManifestRef, model: ImportedModel, how: str) -> Outcome:
    gigabytes = round(sum(file.bytes for file in model.files) / 1e9, 3)
    return Outcome(
        manifest=ref,
        message=f"{model.preset} {how}: {len(model.files)} files, {gigabytes} GB",
        summary={"files": len(model.files), "gigabytes": gigabytes, "digest": model.digest},
    )
