"""A base model with full weights in place of its transformers."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import ManifestRef, ModelSpec
from wan_runtime.model_parts import dit_part
from wan_runtime.models.full_weights import FullWeights
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.source import model_files
from wan_runtime.process.progress import Reporter


def tuned_files(
    weights: FullWeights | None,
    model: ModelSpec,
    ref: ManifestRef | None,
    parts: Collection[str],
    store: Store,
    work: Path,
    report: Reporter | None = None,
) -> ModelFiles:
    """Parts of a base model, as `model_files`, with `weights` in place of the transformers that
    they replace, which are not fetched. Raises as `model_files` and `FullWeights.over`."""
    replaced = {dit_part(expert) for expert in weights.shards} if weights else set()
    own = [part for part in parts if part not in replaced]
    base = model_files(model, ref, own, store, work, report)
    return weights.over(base, store, work) if weights else base
