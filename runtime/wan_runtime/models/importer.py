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
from wan_runtime.models.digest import canonical_json, file_digest
from wan_runtime.models.imported import ImportedModel, ModelFile
from wan_runtime.models.layout import TOKENIZER_PART, select
from wan_runtime.models.source import preset_of
from wan_runtime.models.weights import write_safetensors
from wan_runtime.outcome import Outcome
from wan_runtime.presets import Preset
from wan_runtime.progress import Reporter


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Verify the model of the job, convert what has to be, commit its manifest."""
    preset = preset_of(job)
    report.update(activity="looking for the base model", unit="files")
    if job.model.path is not None:
        model = _mounted(preset, Path(job.model.path), report)
        return _outcome(imported.commit(job, store, model), model, "verified")
    source = Source.list(store, job.model.source or "")
    index = f"{job.models_prefix}/sources/{source.fingerprint(preset)}.json"
    known = _known(store, index)
    if known is not None:
        return _outcome(*known, "already imported")
    model = _fetched(job, preset, source, store, work, report)
    ref = imported.commit(job, store, model)
    store.put_bytes(index, ref.model_dump_json(by_alias=True).encode())
    return _outcome(ref, model, "imported")


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

    def sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        self.bucket.stream(self.prefix + name, digest.update)
        return digest.hexdigest()

    def address(self, name: str) -> str:
        return self.bucket.uri(self.prefix + name)


def _fetched(
    job: JobSpec, preset: Preset, source: Source, store: Store, work: Path, report: Reporter
) -> ImportedModel:
    parts = select(preset, source.objects, source.uri)
    for part, names in parts.items():  # the headers first: minutes before gigabytes
        if part != TOKENIZER_PART and not _pickled(names):
            held: dict[str, tuple[int, ...]] = {}
            for name in names:
                size = source.objects[name][0]

                def read(offset: int, length: int, name: str = name) -> bytes:
                    return source.read(name, offset, length)

                held |= shapes.of_safetensors(read, size, source.address(name))
            shapes.check(preset, part.split("-")[0], ", ".join(names), held)
    files: list[ModelFile] = []
    total = sum(len(names) for names in parts.values())
    for part, names in parts.items():
        for name in names:
            report.update(activity="verifying the base model", current=len(files), total=total)
            if _pickled([name]):
                files.append(_converted(job, preset, part, source, name, store, work))
                continue
            size = source.objects[name][0]
            digest = source.sha256(name)
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
) -> ModelFile:
    """A `.pth` as safetensors, at `<prefix>/models/files/<sha256>.safetensors`."""
    folder, size = work / "import", source.objects[name][0]
    folder.mkdir(parents=True, exist_ok=True)
    pickled = folder / Path(name).name
    space.require(folder, 2 * size, f"converting {name}")
    if not pickled.is_file() or pickled.stat().st_size != size:
        imported.fetch_file(source.bucket, source.address(name), pickled, size, None)
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


def _mounted(preset: Preset, folder: Path, report: Reporter) -> ImportedModel:
    """A volume is verified as it is: it may be read-only, and DiffSynth reads `.pth` too."""
    if not folder.is_dir():
        raise InputError(Reason.MODEL_NOT_FOUND, f"model.path {folder} is not a folder in the pod")
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    parts = select(preset, names, str(folder))
    for part, members in parts.items():
        if part != TOKENIZER_PART:
            held: dict[str, tuple[int, ...]] = {}
            for name in members:
                held |= shapes.of_file(folder / name, name)
            shapes.check(preset, part.split("-")[0], ", ".join(members), held)
    files: list[ModelFile] = []
    total = sum(len(members) for members in parts.values())
    for name in (name for members in parts.values() for name in members):
        report.update(activity="verifying the base model", current=len(files), total=total)
        path = folder / name
        size, digest = path.stat().st_size, file_digest(path)
        files.append(ModelFile(path=name, uri="", bytes=size, sha256=digest))
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
    there = (store.for_uri(file.uri).stat(store.parse(file.uri)[1]) for file in model.files)
    return (ref, model) if all(there) else None


def _outcome(ref: ManifestRef, model: ImportedModel, how: str) -> Outcome:
    gigabytes = round(sum(file.bytes for file in model.files) / 1e9, 3)
    return Outcome(
        manifest=ref,
        message=f"{model.preset} {how}: {len(model.files)} files, {gigabytes} GB",
        summary={"files": len(model.files), "gigabytes": gigabytes, "digest": model.digest},
    )
