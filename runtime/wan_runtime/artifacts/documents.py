"""JSON documents in committed sets."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import ArtifactCorrupt, Store
from wan_runtime.contract.base import Contract
from wan_runtime.contract.job import ManifestRef
from wan_runtime.faults import described

T = TypeVar("T", bound=Contract)


def read(store: Store, ref: ManifestRef, name: str, kind: type[T]) -> T:
    """The document `name` of a set, verified.

    Raises:
        ArtifactCorrupt: if the set has none, or another than was committed, or it is no `kind`.
        ObjectNotFound: if it is gone.
    """
    listed = {entry.path: entry for entry in manifest.load(store, ref).files}
    if name not in listed:
        raise ArtifactCorrupt(f"{ref.uri} lists no {name}: it is another kind of set")
    source = store.for_uri(ref.uri)
    key = store.parse(ref.uri)[1].removesuffix(manifest.NAME) + name
    data = source.get_bytes(key)
    if manifest.digest(data) != listed[name].sha256:
        raise ArtifactCorrupt(f"{source.uri(key)} differs from the checksum in {ref.uri}")
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        text = f"{source.uri(key)} is none of ours: {described(error)}"
        raise ArtifactCorrupt(text) from error


def written(content: Contract, path: Path) -> Path:
    """Write a document to be committed. Returns its path."""
    path.write_text(content.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")
    return path
