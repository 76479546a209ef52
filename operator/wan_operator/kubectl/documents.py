"""WanFineTunes and WanInferenceServices from YAML files, checked without a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from wan_operator.api.markers import Schema
from wan_operator.api.v1alpha1.common import API_VERSION, ApiModel
from wan_operator.api.v1alpha1.finetune import KIND as FINETUNE
from wan_operator.api.v1alpha1.finetune import WanFineTuneSpec
from wan_operator.api.v1alpha1.inference import KIND as SERVICE
from wan_operator.api.v1alpha1.inference import WanInferenceServiceSpec
from wan_operator.crdgen.schema import structural
from wan_operator.kubectl.yaml_files import DocumentError, shown, yaml_documents
from wan_runtime.faults import described

Spec = TypeVar("Spec", bound=ApiModel)


@dataclass(frozen=True, slots=True)
class FineTune:
    """One document."""

    name: str
    spec: WanFineTuneSpec


@dataclass(frozen=True, slots=True)
class Service:
    """One document."""

    name: str
    spec: WanInferenceServiceSpec


def read_documents(files: Sequence[str]) -> list[FineTune | Service]:
    """Both kinds in `files`, `-` being standard input; other kinds are passed over.

    Types, bounds and names of fields are checked here. Rules between fields are the API server's.

    Raises:
        DocumentError: for a file or a document that cannot be read, or if there is none of them.
    """
    found = [document for name in files for document in _of_file(name)]
    if not found:
        raise DocumentError(f"no {FINETUNE} or {SERVICE} in {', '.join(map(shown, files))}")
    return found


def _of_file(file: str) -> Iterator[FineTune | Service]:
    for number, document in enumerate(yaml_documents(file), 1):
        where = f"{shown(file)}, document {number}"
        if document is None:
            continue
        items = [document]
        if isinstance(document, dict) and document.get("kind") == "List":
            items = document.get("items") or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise DocumentError(f"{where}: must be an object with apiVersion and kind")
        for item in items:
            if item.get("kind") in (FINETUNE, SERVICE):
                yield _read(item, where)


def _read(document: dict[str, Any], where: str) -> FineTune | Service:
    metadata = document.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    name = str(named.get("name") or named.get("generateName") or "")
    where = f"{where} ({document['kind']} {name or 'without a name'})"
    if document.get("apiVersion") != API_VERSION:
        raise DocumentError(
            f"{where}: apiVersion must be {API_VERSION}, not {document.get('apiVersion')}"
        )
    spec = document.get("spec")
    if not isinstance(spec, dict):
        raise DocumentError(f"{where}: spec is missing")
    if document["kind"] == SERVICE:
        return Service(name, _checked(WanInferenceServiceSpec, spec, where))
    finetune = FineTune(name, _checked(WanFineTuneSpec, spec, where))
    method = finetune.spec.method
    if (method.lora is None) == (method.full is None):
        raise DocumentError(f"{where}: spec.method: set exactly one of lora and full")
    return finetune


def _checked(model: type[Spec], spec: dict[str, Any], where: str) -> Spec:
    unknown = list(_unknown(spec, structural(model), "spec"))
    if unknown:
        raise DocumentError(f"{where}: there is no {', no '.join(unknown)}")
    try:
        return model.model_validate(spec)
    except ValidationError as error:
        raise DocumentError(f"{where}: {described(error, 'spec')}") from error


def _unknown(value: Any, schema: Schema, path: str) -> Iterator[str]:
    """Paths of fields that the schema does not name: kubectl refuses them, pydantic would not."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _unknown(item, schema.get("items", {}), f"{path}[{number}]")
    if isinstance(value, dict) and "properties" in schema:
        for name, child in value.items():
            if name not in schema["properties"]:
                yield f"{path}.{name}"
            else:
                yield from _unknown(child, schema["properties"][name], f"{path}.{name}")
