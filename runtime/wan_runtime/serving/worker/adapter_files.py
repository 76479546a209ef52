"""The files of a service's adapters on this machine. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import Store, file_sha256
from wan_runtime.errors import InputError
from wan_runtime.job import Dialect, Expert, ManifestRef, Reason
from wan_runtime.presets import Preset
from wan_runtime.serving.service import AdapterSpec, AdapterUse
from wan_runtime.serving.worker.blame import blaming
from wan_runtime.serving.worker.messages import AppliedAdapter
from wan_runtime.serving.worker.weights import expert_of

FOLDER = "adapters"
"""Below the scratch folder, of ranks and supervisor alike."""


class AdapterFiles:
    """Fetched once, kept for as long as the worker runs."""

    def __init__(self, store: Store, folder: Path, preset: Preset) -> None:
        self._store, self._folder, self._preset = store, folder, preset
        self._digests: dict[str, str] = {}

    def apply(self, spec: AdapterSpec, use: AdapterUse) -> AppliedAdapter:
        """As a request uses it. Blocks while it is fetched.

        Raises:
            InputError: MODEL_NOT_FOUND, if a file does not exist; MODEL_INVALID, if it is not what
                its manifest says, or there is none for the transformer that is wanted.
            InfrastructureError: of the store.
        """
        with blaming(f"adapter {spec.name}"):
            fetched = self._fetch(spec)
        files = by_expert(spec.name, fetched, self._preset, use.expert)
        return AppliedAdapter(
            name=spec.name,
            files={expert: str(path) for expert, path in files.items()},
            strength=spec.strength if use.strength is None else use.strength,
            sha256={expert: self._digest(path) for expert, path in files.items()},
        )

    def _fetch(self, spec: AdapterSpec) -> dict[Expert, Path]:
        source = spec.model_dump_json(include={"artifact", "files"})
        folder = self._folder / hashlib.sha256(source.encode()).hexdigest()[:16]
        if spec.artifact is not None:
            return self._fetch_artifact(spec.name, spec.artifact, folder)
        found = {}
        for expert, uri in spec.files.items():
            path = found[expert] = folder / f"{expert}.safetensors"
            if not path.is_file():
                self._store.for_uri(uri).download(self._store.parse(uri)[1], path)
        return found

    def _fetch_artifact(self, name: str, ref: ManifestRef, folder: Path) -> dict[Expert, Path]:
        names = manifest.load(self._store, ref).certified(Dialect.DIFFSYNTH)
        if not names:
            raise InputError(
                Reason.MODEL_INVALID, f"adapter {name}: {ref.uri} has no DiffSynth files"
            )
        if not all((folder / each).is_file() for each in names):
            manifest.fetch(self._store, ref, folder, names)
        return {expert_of(each): folder / each for each in names}

    def _digest(self, path: Path) -> str:
        key = str(path)
        if key not in self._digests:
            self._digests[key] = file_sha256(path)
        return self._digests[key]


def by_expert(
    name: str, files: Mapping[Expert, Path], preset: Preset, only: Expert | None
) -> dict[Expert, Path]:
    """The file for each transformer that an adapter works on: its expert's own, else the one that
    is for any. `only`: the request wants it on this expert alone.

    Raises:
        InputError: MODEL_INVALID, if it has a file for none of them.
    """
    wanted = [expert for expert in preset.experts if only in (None, expert)]
    chosen = {
        expert: files[source]
        for expert in wanted
        for source in (Expert.ONLY, expert)  # the later one counts
        if source in files
    }
    if not chosen:
        raise InputError(
            Reason.MODEL_INVALID,
            f"adapter {name} has files for {', '.join(files)}; {preset.name} wants one for "
            f"{only or ' or '.join(preset.experts)}",
        )
    return chosen
