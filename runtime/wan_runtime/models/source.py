"""Where a job's base weights come from: a mounted folder, an imported model, or a seed. Never a
hub."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from wan_runtime.contract import results
from wan_runtime.contract.job import JobSpec, ManifestRef, ModelSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError
from wan_runtime.model_parts import needed
from wan_runtime.models import imported
from wan_runtime.models.layout import ModelFiles, arrange, locate
from wan_runtime.presets import preset_named, preset_of

if TYPE_CHECKING:
    from wan_runtime.artifacts.store import Store
    from wan_runtime.process.progress import Reporter


def base_model(
    job: JobSpec,
    store: Store,
    work: Path,
    report: Reporter | None = None,
    parts: Collection[str] | None = None,
) -> ModelFiles:
    """The job's base model on this machine: the parts that its step loads, or `parts` of them.
    As `model_files`."""
    preset_of(job)  # which `needed` looks up
    parts = needed(job) if parts is None else parts
    return model_files(job.base, results.imported(job), parts, store, work, report)


def model_files(
    model: ModelSpec,
    ref: ManifestRef | None,
    parts: Collection[str],
    store: Store,
    work: Path,
    report: Reporter | None = None,
) -> ModelFiles:
    """Parts of a base model on this machine, fetched or made if need be, and verified if the model
    was imported: `ref` is what the import committed.

    Raises:
        InputError: MODEL_NOT_FOUND with the names that are missing; MODEL_INVALID, if the volume
            holds another model than the one imported.
    """
    preset = preset_named(model.preset)
    if model.path is not None:
        folder = Path(model.path)
        if ref is not None:
            return imported.mounted(store, ref, parts, folder, report)
        from wan_runtime.models.examine import examine
        from wan_runtime.models.places import Volume

        names = examine(preset, Volume.list(folder)).values()
        return arrange(preset, folder, [name for each in names for name in each])
    if model.source is not None:
        if ref is None:
            raise InputError(
                Reason.JOB_INVALID,
                "a model of a bucket is imported first: inputs.import is missing",
            )
        return imported.fetch(store, ref, parts, work, report)
    if preset.tiny:
        from wan_runtime.models import tiny

        folder = work / "model" / preset.name
        if not folder.is_dir():
            partial = folder.with_name(f".{folder.name}.part")
            tiny.write(preset, partial)
            partial.rename(folder)
        return locate(preset, folder)
    raise InputError(
        Reason.MODEL_NOT_FOUND,
        f"{preset.name} needs model.path or model.source: only Tiny presets are made here",
    )
