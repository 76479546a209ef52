"""Resources from YAML files, checked without a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from wan_operator.api.markers import Schema
from wan_operator.api.v1alpha1.common import API_VERSION
from wan_operator.crdgen.schema import structural
from wan_operator.kubectl.kind import Document, PlannedKind, Spec
from wan_operator.yaml_files import DocumentError, named, yaml_documents
from wan_runtime.faults import described, value

Kinds = Mapping[str, PlannedKind[Any, Any]]


def read_documents(files: Sequence[str], kinds: Kinds) -> list[Document[Any]]:
    """Resources of `kinds` in `files`, `-` being standard input; other kinds are passed over.

    Types, bounds and names of fields are checked here. Rules between fields are the API server's.

    Raises:
        DocumentError: for a file or a document that cannot be read, or if there is none of them.
    """
    found = [document for name in files for document in _of_file(name, kinds)]
    if not found:
        raise DocumentError(f"no {' or '.join(kinds)} in {', '.join(map(named, files))}")
    return found


def _of_file(file: str, kinds: Kinds) -> Iterator[Document[Any]]:
    for number, document in enumerate(yaml_documents(file), 1):
        where = f"{named(file)}, document {number}"
        if document is None:
            continue
        items = [document]
        if isinstance(document, dict) and document.get("kind") == "List":
            items = document.get("items") or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise DocumentError(f"{where}: must be an object with apiVersion and kind")
        for item in items:
            kind = item.get("kind")
            if isinstance(kind, str) and kind in kinds:
                yield _read(item, kinds[kind], where)


def _read(document: dict[str, Any], kind: PlannedKind[Spec, Any], where: str) -> Document[Spec]:
    name = _name(document, where)
    where = f"{where} ({document['kind']} {name or 'without a name'})"
    version = document.get("apiVersion")
    if version != API_VERSION:
        raise DocumentError(f"{where}: apiVersion: must be {API_VERSION}, not {value(version)}")
    spec = document.get("spec")
    if spec is None:
        raise DocumentError(f"{where}: spec: is missing")
    if not isinstance(spec, dict):
        raise DocumentError(f"{where}: spec: must be an object, not {value(spec)}")
    checked = _checked(kind.spec, spec, where)
    fault = kind.fault(checked)
    if fault is not None:
        raise DocumentError(f"{where}: {fault}")
    return Document(document["kind"], name, checked)


def _name(document: dict[str, Any], where: str) -> str:
    """The name, or its beginning, of a document; empty without one."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict | None):
        raise DocumentError(f"{where}: metadata: must be an object, not {value(metadata)}")
    for field in ("name", "generateName"):
        name = (metadata or {}).get(field)
        if not isinstance(name, str | None):
            raise DocumentError(f"{where}: metadata.{field}: must be text, not {value(name)}")
        if name:
            return name
    return ""


def _checked(model: type[Spec], spec: dict[str, Any], where: str) -> Spec:
    unknown = list(_unknown(spec, structural(model), "spec"))
    if unknown:
        raise DocumentError(f"{where}: there is no {', no '.join(unknown)}")
    try:
        # Strictly, as the API server does: "5" is no number, and yes none either.
        return model.model_validate_json(json.dumps(spec), strict=True)
    except ValidationError as error:
        raise DocumentError(f"{where}: {described(error, 'spec')}") from error


def _unknown(found: Any, schema: Schema, path: str) -> Iterator[str]:
    """Paths of fields that the schema does not name: kubectl refuses them, pydantic would not."""
    if isinstance(found, list):
        for number, item in enumerate(found):
            yield from _unknown(item, schema.get("items", {}), f"{path}[{number}]")
    if isinstance(found, dict) and "properties" in schema:
        for name, child in found.items():
            if name not in schema["properties"]:
                yield f"{path}.{name if isinstance(name, str) else value(name)}"
            else:
                yield from _unknown(child, schema["properties"][name], f"{path}.{name}")
