"""Weights of metrics that no image holds, from a folder of the store."""

from __future__ import annotations

import hashlib
from pathlib import Path

from wan_runtime.artifacts.errors import ObjectNotFound
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.evaluation import EvaluationWork
from wan_runtime.contract.metric_names import METRICS, MetricName, Weights
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InputError
from wan_runtime.models.digest import canonical_json


def check(spec: EvaluationWork, store: Store) -> None:
    """Find out before a GPU works for it whether the store has all weights that are wanted, and
    whether what decides can be measured.

    Raises:
        InputError: MODEL_NOT_FOUND with the files that are missing.
    """
    wanted = _wanted(spec)
    if spec.metric_weights is not None:
        missing = [
            f"{each.folder}/{name}"
            for each in wanted.values()
            for name in each.files
            if _at(store, spec.metric_weights).stat(_key(store, spec, each, name)) is None
        ]
        if missing:
            files = ", no ".join(dict.fromkeys(missing))
            text = f"metricWeights {spec.metric_weights} has no {files}"
            raise InputError(Reason.MODEL_NOT_FOUND, text)
    elif deciding := [name for name in wanted if name in spec.decisive]:
        name = deciding[0]
        raise InputError(
            Reason.MODEL_NOT_FOUND,
            f"{' and '.join(spec.naming(name))} names {name}, which needs "
            f"{METRICS[name].mounted}: name their folder in metricWeights, or take another metric",
        )


def fetch(spec: EvaluationWork, store: Store, folder: Path) -> dict[MetricName, str]:
    """Bring the weights of all metrics into their folders. Returns a digest for each metric.

    Raises:
        InputError: MODEL_NOT_FOUND, if a file is gone.
    """
    digests = {}
    brought: dict[str, str | None] = {}
    for name, weights in _wanted(spec).items():
        if spec.metric_weights is None:
            continue
        place = folder / weights.folder
        place.mkdir(parents=True, exist_ok=True)
        found = {}
        for file in weights.files:
            key = _key(store, spec, weights, file)
            if key not in brought:  # another metric may have the same
                try:
                    got = _at(store, spec.metric_weights).download(key, place / file)
                except ObjectNotFound as error:
                    raise InputError(Reason.MODEL_NOT_FOUND, error.message) from error
                brought[key] = got.sha256
            found[file] = brought[key]
        digests[name] = hashlib.sha256(canonical_json(found)).hexdigest()
    return digests


def _wanted(spec: EvaluationWork) -> dict[MetricName, Weights]:
    found = {name: METRICS[name].weights for name in spec.metrics}
    return {name: weights for name, weights in found.items() if weights is not None}


def _at(store: Store, uri: str) -> Store:
    try:
        return store.for_uri(uri)
    except ValueError as error:
        raise InputError(Reason.MODEL_NOT_FOUND, f"metricWeights {error}") from error


def _key(store: Store, spec: EvaluationWork, weights: Weights, file: str) -> str:
    assert spec.metric_weights is not None
    folder = store.parse(spec.metric_weights)[1].strip("/")
    return "/".join(part for part in (folder, weights.folder, file) if part)
