"""Where a job's base weights come from: a mounted folder, the store, or a seed. Never a hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wan_runtime.errors import InputError
from wan_runtime.job import JobSpec, Reason
from wan_runtime.models.layout import ModelFiles, locate
from wan_runtime.presets import PRESETS, Preset

if TYPE_CHECKING:
    from wan_runtime.artifacts.store import Store


def preset_of(job: JobSpec) -> Preset:
    """The job's preset.

    Raises:
        InputError: MODEL_INVALID, for a name that this runtime does not know.
    """
    if job.model.preset not in PRESETS:
        known = ", ".join(PRESETS)
        raise InputError(
            Reason.MODEL_INVALID, f"no preset is called {job.model.preset!r}; there are {known}"
        )
    return PRESETS[job.model.preset]


def base_model(job: JobSpec, store: Store, work: Path) -> ModelFiles:
    """Files of the job's base model on this machine, fetched or made if need be.

    Raises:
        InputError: MODEL_NOT_FOUND with the names that are missing.
    """
    preset = preset_of(job)
    if job.model.path is not None:
        folder = Path(job.model.path)
        if not folder.is_dir():
            raise InputError(
                Reason.MODEL_NOT_FOUND, f"model.path {folder} is not a folder in the pod"
            )
        return locate(preset, folder)
    folder = work / "model" / preset.name
    if job.model.source is not None:
        _fetch(job.model.source, store, folder)
    elif preset.tiny:
        from wan_runtime.models import tiny

        tiny.write(preset, folder)
    else:
        raise InputError(
            Reason.MODEL_NOT_FOUND,
            f"{preset.name} needs model.path or model.source: only Tiny presets are made here",
        )
    return locate(preset, folder)


def _fetch(source: str, store: Store, folder: Path) -> None:
    """Bring every object below `source` into `folder`; those there in full size are kept."""
    try:
        _, prefix = store.parse(source)
    except ValueError as error:
        raise InputError(Reason.MODEL_NOT_FOUND, f"model.source: {error}") from error
    bucket = store.for_uri(source)
    below = f"{prefix}/" if prefix else ""
    found = 0
    for entry in bucket.list(below):
        name = entry.key.removeprefix(below)
        if not name or name.endswith("/"):
            continue
        found += 1
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                Reason.MODEL_INVALID, f"{source} holds an object with an unsafe name: {entry.key!r}"
            )
        if not target.is_file() or target.stat().st_size != entry.bytes:
            bucket.download(entry.key, target, bytes=entry.bytes)
    if not found:
        raise InputError(Reason.MODEL_NOT_FOUND, f"there is nothing below {source}")
