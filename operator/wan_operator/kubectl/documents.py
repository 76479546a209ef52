"""Resources from YAML files, checked without a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from pydantic import ValidationError

from wan_operator.api.markers import Schema
from wan_operator.api.v1alpha1.common import API_VERSION, GROUP, ApiModel
from wan_operator.kinds import KINDS as DEFINED
from wan_operator.kubectl.admission import Metadata, broken_rules, schema_of, stored, unknown_fields
from wan_operator.kubectl.kind import Document, PlannedKind
from wan_operator.yaml_files import DocumentError, named, yaml_documents
from wan_runtime.faults import described, in_a_line, value

Kinds = Mapping[str, PlannedKind[Any, Any]]
Model = TypeVar("Model", bound=ApiModel)


def read_documents(files: Sequence[str], kinds: Kinds) -> list[Document[Any]]:
    """Resources of `kinds` in `files`, `-` being standard input; other kinds are passed over.

    Raises:
        DocumentError: for a file or a document that cannot be read, for a resource that the API
            server would refuse or of a kind that the group does not have, or if there is none.
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
            kind, version = item.get("kind"), item.get("apiVersion")
            if isinstance(kind, str) and kind in kinds:
                yield _read(item, kinds[kind], where)
            elif isinstance(version, str) and version.startswith(f"{GROUP}/"):
                known = ", ".join(kinds)
                raise DocumentError(f"{where}: kind: must be one of {known}, not {value(kind)}")


def _read(document: dict[str, Any], kind: PlannedKind[Any, Any], where: str) -> Document[Any]:
    """The resource as the API server would store it. Raises DocumentError with what it would say,
    as early as it would say it."""
    name = _name(document, where)
    where = f"{where} ({document['kind']} {name or 'without a name'})"
    version = document.get("apiVersion")
    if version != API_VERSION:
        raise DocumentError(f"{where}: apiVersion: must be {API_VERSION}, not {value(version)}")
    schema = _schema(document["kind"])
    _refuse(where, (f'unknown field "{_seen(path)}"' for path in unknown_fields(document, schema)))
    made = stored(document, schema)
    if "spec" not in made:
        raise DocumentError(f"{where}: spec: is missing")
    _checked(Metadata, made.get("metadata", {}), "metadata", where)
    spec = _checked(kind.spec, made["spec"], "spec", where)
    _refuse(where, broken_rules(made, schema))
    return Document(document["kind"], name, spec)


@cache
def _schema(kind: str) -> Schema:
    return schema_of(DEFINED[kind].definition)


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


def _refuse(where: str, faults: Iterable[str]) -> None:
    found = [*faults]
    if found:
        raise DocumentError(f"{where}: {in_a_line(found)}")


def _seen(path: str) -> str:
    """The path with its characters of which nothing is seen, such as U+00A0, escaped."""
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in path)


def _checked(model: type[Model], part: Any, field: str, where: str) -> Model:
    try:
        # Strictly, as the API server does: "5" is no number, and yes none either.
        return model.model_validate_json(json.dumps(part), strict=True)
    except ValidationError as error:
        raise DocumentError(f"{where}: {described(error, field)}") from error
