"""The import step: base weights in a bucket or on a volume become files with known digests.

Every file is read once. What is not this preset's weights is refused by the headers alone, before
any data is read. `.pth` is converted to safetensors; whatever is safetensors already stays where it
is, and later steps verify it by its checksum.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from wan_runtime.artifacts import space
from wan_runtime.artifacts.store import ArtifactCorrupt, ObjectNotFound, Store, file_sha256
from wan_runtime.contract.job import JobSpec, ManifestRef
from wan_runtime.models import imported, shapes
from wan_runtime.models.digest import Count, Stamp, canonical_json, file_digest
from wan_runtime.models.examine import examine
from wan_runtime.models.imported import ImportedModel, ModelFile
from wan_runtime.models.pickles import header_of, unpickled
from wan_runtime.models.places import Source, Volume
from wan_runtime.models.weights import write_safetensors
from wan_runtime.presets import Preset, preset_of
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter

log = logging.getLogger(__name__)


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Verify the model of the job, convert what has to be, commit its manifest."""
    preset = preset_of(job)
    report.update(activity="looking for the base model")
    if job.base.path is not None:
        volume = Volume.list(Path(job.base.path))
        parts = examine(preset, volume)
        stamps = volume.stamps(name for names in parts.values() for name in names)
        index = _index(job, _print_of(preset, stamps))
        if known := _known(store, index):
            return _outcome(*known, "already verified")
        model, how = _mounted(preset, volume, stamps, report), "verified"
    else:
        source = Source.list(store, job.base.source or "")
        index = _index(job, source.fingerprint(preset))
        if known := _known(store, index):
            return _outcome(*known, "already imported")
        parts = examine(preset, source)
        model, how = _fetched(job, preset, parts, source, store, work, report), "imported"
    ref = imported.commit(job, store, model)
    store.put_bytes(index, ref.model_dump_json(by_alias=True).encode())
    return _outcome(ref, model, how)


def _print_of(preset: Preset, stamps: Mapping[str, Stamp]) -> str:
    """Changes with every write: what was hashed for one run need not be for the next."""
    content = {name: stamp.model_dump() for name, stamp in stamps.items()}
    return hashlib.sha256(canonical_json([preset.name, "volume", content])).hexdigest()


def _fetched(
    job: JobSpec,
    preset: Preset,
    parts: Mapping[str, tuple[str, ...]],
    source: Source,
    store: Store,
    work: Path,
    report: Reporter,
) -> ImportedModel:
    files: list[ModelFile] = []
    total = sum(source.sizes[name] for names in parts.values() for name in names)
    count = report.counting("verifying the base model", total)
    for part, names in parts.items():
        for name in names:
            if name.endswith(".pth"):
                files.append(_converted(job, preset, part, source, name, store, work, count))
                continue
            digest = source.sha256(name, count)
            file = ModelFile(
                path=name, uri=source.address(name), bytes=source.sizes[name], sha256=digest
            )
            files.append(file)
    return _model(preset, files)


def _converted(
    job: JobSpec,
    preset: Preset,
    part: str,
    source: Source,
    name: str,
    store: Store,
    work: Path,
    count: Count,
) -> ModelFile:
    """A `.pth` as safetensors, at `<prefix>/models/files/<sha256>.safetensors`."""
    folder, size = work / "converted", source.sizes[name]
    folder.mkdir(parents=True, exist_ok=True)
    pickled = folder / Path(name).name
    space.require(folder, 2 * size, f"converting {name}")
    if pickled.is_file() and pickled.stat().st_size == size:
        count(size)
    else:
        imported.fetch_file(source.bucket, source.address(name), pickled, size, None, count)
    tensors = unpickled(pickled, name)
    shapes.check(preset, part, name, header_of(tensors))
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


def _mounted(
    preset: Preset, volume: Volume, stamps: Mapping[str, Stamp], report: Reporter
) -> ImportedModel:
    """A volume is verified as it is: it may be read-only, and DiffSynth reads `.pth` too."""
    count = report.counting("verifying the base model", sum(each.bytes for each in stamps.values()))
    files = []
    for name, stamp in stamps.items():
        digest = file_digest(volume.folder / name, count)
        file = ModelFile(path=name, uri="", bytes=stamp.bytes, sha256=digest, stamp=stamp)
        files.append(file)
    return _model(preset, files)


def _model(preset: Preset, files: Sequence[ModelFile]) -> ImportedModel:
    ordered = tuple(sorted(files, key=lambda file: file.path))
    return ImportedModel(preset=preset.name, files=ordered)


def _known(store: Store, index: str) -> tuple[ManifestRef, ImportedModel] | None:
    """What was imported, if all of it is still there: converted files may have been removed."""
    try:
        ref = ManifestRef.model_validate_json(store.get_bytes(index))
        model = imported.load(store, ref)
    except ObjectNotFound:
        return None
    except (ArtifactCorrupt, ValidationError):
        log.warning("%s is no record of an import: the model is verified anew", store.uri(index))
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
