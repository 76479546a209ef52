"""The files of a service's adapters on this machine. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import Store, file_sha256
from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.job import ManifestRef
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.service import AdapterSpec, AdapterUse
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError
from wan_runtime.models.absent import store_faults
from wan_runtime.models.adapters.applied import AdapterFile, AppliedAdapter
from wan_runtime.models.full_weights import expert_of
from wan_runtime.presets import Preset

FOLDER = "adapters"
"""Below the scratch folder, of ranks and supervisor alike."""
LARGEST = 5 * 2**30
"""Bytes of one file: rank 256 at 14B in float32 has 4.6 GiB. What is larger is a model, and would
take the disk and the memory of all that is served."""
SEEN = ".etag"
"""Ending of a note beside a file: the ETag of the object that it was."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """One file, and where it is from."""

    path: Path
    address: str


class AdapterFiles:
    """Fetched once, kept for as long as the worker runs."""

    def __init__(self, store: Store, folder: Path, preset: Preset) -> None:
        self._store, self._folder, self._preset = store, folder, preset
        self._digests: dict[Path, str] = {}

    def apply(self, spec: AdapterSpec, use: AdapterUse) -> AppliedAdapter:
        """The adapter as a request uses it. Blocks while it is fetched.

        Raises:
            InputError: MODEL_NOT_FOUND, if a file does not exist; MODEL_INVALID, if it is not what
                its manifest says, or there is none for the transformer that is wanted.
            InfrastructureError: of the store.
        """
        fetched = self._fetch(spec)
        chosen = by_expert(fetched, self._preset, use.expert)
        return AppliedAdapter(
            name=spec.name,
            files={
                expert: AdapterFile(
                    path=str(fetched[source].path),
                    address=fetched[source].address,
                    sha256=self._digest(fetched[source].path),
                    shared=source is Expert.ONLY,
                )
                for expert, source in chosen.items()
            },
            strength=spec.strength if use.strength is None else use.strength,
        )

    def renew(self, spec: AdapterSpec) -> bool:
        """Drop files that are others in the store by now. Returns whether there is anything to
        fetch.

        Raises:
            InputError, InfrastructureError: as `apply`.
        """
        folder = self._place(spec)
        if spec.artifact is not None:  # which is the same for ever, once it is here
            names = self._names(spec.artifact)
            return not all((folder / each).is_file() for each in names)
        changed = False
        for expert, uri in spec.files.items():
            path = folder / f"{expert}.safetensors"
            found = self._store.for_uri(uri).stat(self._store.parse(uri)[1])
            noted = path.with_suffix(SEEN)
            before = noted.read_text() if noted.is_file() else ""
            if found is not None and found.etag != before:
                path.unlink(missing_ok=True)
                self._digests.pop(path, None)
                changed = True
        return changed

    def _place(self, spec: AdapterSpec) -> Path:
        source = spec.model_dump_json(include={"artifact", "files"})
        return self._folder / hashlib.sha256(source.encode()).hexdigest()[:16]

    def _fetch(self, spec: AdapterSpec) -> dict[Expert, Fetched]:
        folder = self._place(spec)
        if spec.artifact is not None:
            return self._fetch_artifact(spec.artifact, folder)
        found = {}
        for expert, uri in spec.files.items():
            path = folder / f"{expert}.safetensors"
            found[expert] = Fetched(path, uri)
            if not path.is_file():
                bucket, (_, key) = self._store.for_uri(uri), self._store.parse(uri)
                info = bucket.stat(key)
                if info is not None and info.bytes > LARGEST:
                    size = f"{info.bytes / 2**30:.1f} GiB"
                    raise InputError(
                        Reason.MODEL_INVALID,
                        f"{uri} has {size}, and an adapter at most {LARGEST / 2**30:.0f}: a model "
                        "is named as spec.model",
                    )
                with store_faults():
                    bucket.download(key, path)
                # Tags of before: an object that was replaced meanwhile is checked again.
                path.with_suffix(SEEN).write_text((info and info.etag) or "")
        return found

    def _fetch_artifact(self, ref: ManifestRef, folder: Path) -> dict[Expert, Fetched]:
        names = self._names(ref)
        with store_faults():
            if not all((folder / each).is_file() for each in names):
                manifest.fetch(self._store, ref, folder, names)
        place = ref.uri.removesuffix(manifest.NAME)
        return {expert_of(each): Fetched(folder / each, f"{place}{each}") for each in names}

    def _names(self, ref: ManifestRef) -> tuple[str, ...]:
        with store_faults():
            names = manifest.load(self._store, ref).certified(Dialect.DIFFSYNTH)
        if not names:
            raise InputError(Reason.MODEL_INVALID, f"{ref.uri} has no DiffSynth files")
        return names

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            self._digests[path] = file_sha256(path)
        return self._digests[path]


def by_expert(
    files: Mapping[Expert, object], preset: Preset, only: Expert | None
) -> dict[Expert, Expert]:
    """Which file each transformer that an adapter works on gets: its expert's own, else the one
    that is for any. `only`: the request wants it on this expert alone.

    Raises:
        InputError: MODEL_INVALID, if it has a file for none of them.
    """
    wanted = [expert for expert in preset.experts if only in (None, expert)]
    chosen = {
        expert: source
        for expert in wanted
        for source in (Expert.ONLY, expert)  # the later one counts
        if source in files
    }
    if not chosen:
        raise InputError(
            Reason.MODEL_INVALID,
            f"it has files for {', '.join(files)}; {preset.name} wants one for "
            f"{only or ' or '.join(preset.experts)}",
        )
    return chosen
