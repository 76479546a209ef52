"""What the API server does with a resource before it stores it, without a cluster: fields that it
does not know are refused, defaults are filled in, and the rules of the CRD are checked.

Types and bounds are checked by the models that the CRDs are made of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field

from wan_operator.api.markers import RULES, Schema
from wan_operator.api.v1alpha1.common import ApiModel
from wan_operator.api.v1alpha1.syntax import LabelValue, ObjectName, keys_of
from wan_operator.crdgen.crd import Definition
from wan_operator.crdgen.schema import structural
from wan_operator.kubectl.cel import CelError, compiled
from wan_runtime.faults import value as json_of

Raw = dict[str, Any]

_OLD_SELF = re.compile(r"\boldSelf\b")
_GENERATED = "x" * 5
"""Stands for what the API server ends a generateName with."""
_LONGEST_BASE = 63 - len(_GENERATED)


class Metadata(ApiModel):
    """Metadata of an object, as far as users write it."""

    name: ObjectName
    labels: Annotated[dict[str, LabelValue], keys_of("labels")] = Field(default={})
    annotations: Annotated[dict[str, str], keys_of("annotations")] = Field(default={})


_OTHER_METADATA = (
    "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers",
    "generateName", "generation", "managedFields", "namespace", "ownerReferences",
    "resourceVersion", "selfLink", "uid",
)  # fmt: skip


def schema_of(definition: Definition) -> Schema:
    """Schema of a whole object of the kind, but for its status, which the API server drops."""
    schema = definition.schema()
    metadata = structural(Metadata)
    metadata["properties"] |= {name: {} for name in _OTHER_METADATA}
    return {
        **schema,
        "properties": {**schema["properties"], "metadata": metadata, "status": {}},
    }


def unknown_fields(found: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """Paths of fields that the schema does not name: kubectl refuses them, pydantic would not."""
    if isinstance(found, list):
        for number, item in enumerate(found):
            yield from unknown_fields(item, schema.get("items", {}), f"{path}[{number}]")
    if isinstance(found, dict) and "properties" in schema:
        for name, child in found.items():
            below = _below(path, name if isinstance(name, str) else json_of(name))
            if name not in schema["properties"]:
                yield below
            else:
                yield from unknown_fields(child, schema["properties"][name], below)


def stored(document: Raw, schema: Schema) -> Raw:
    """The object that the API server would store, if it took it: without nulls, which count as left
    out, with the defaults, and with a name where only its beginning is given."""
    made: Raw = _defaulted(json.loads(json.dumps(document)), schema)
    metadata = made.get("metadata")
    if isinstance(metadata, dict) and not metadata.get("name"):
        base = metadata.get("generateName")
        if isinstance(base, str) and base:
            metadata["name"] = base[:_LONGEST_BASE] + _GENERATED
    return made


def _defaulted(found: Any, schema: Schema) -> Any:
    if isinstance(found, list):
        return [_defaulted(item, schema.get("items", {})) for item in found]
    if not isinstance(found, dict):
        return found
    fields = schema.get("properties", {})
    others = schema.get("additionalProperties", {})
    made = {name: child for name, child in found.items() if child is not None}
    for name, field in fields.items():
        if "default" in field:
            made.setdefault(name, field["default"])
    return {name: _defaulted(child, fields.get(name, others)) for name, child in made.items()}


def broken_rules(found: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """What the rules of a new object and its lists without duplicates refuse, as the API server
    words it.

    Args:
        found: what was stored, of the schema's types.
    """
    rules = schema.get(RULES, ())
    typed = _typed(found, schema) if rules else found
    for each in rules:
        # Without an object before it there is nothing to compare with.
        if not _OLD_SELF.search(each["rule"]) and not _holds(each["rule"], typed):
            yield f"{_below(path, each.get('fieldPath', ''))}: {_message(each, typed)}"
    if isinstance(found, list):
        yield from _duplicates(found, schema, path)
        for number, item in enumerate(found):
            yield from broken_rules(item, schema.get("items", {}), f"{path}[{number}]")
    if isinstance(found, dict):
        fields, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        for name, child in found.items():
            if name in fields:
                yield from broken_rules(child, fields[name], _below(path, name))
            else:
                yield from broken_rules(child, others, f"{path}[{name}]")


def _typed(found: Any, schema: Schema) -> Any:
    """What rules are handed, as the API server does: doubles in fields of numbers, where 1 is
    written too, for CEL adds no integer to a double; and no field of which the schema says nothing,
    such as the status."""
    if isinstance(found, list):
        return [_typed(item, schema.get("items", {})) for item in found]
    if isinstance(found, dict):
        fields, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        return {
            name: _typed(child, fields.get(name, others))
            for name, child in found.items()
            if fields.get(name, True)
        }
    return float(found) if schema.get("type") == "number" else found


def _holds(rule: str, found: Any) -> bool:
    try:
        return bool(compiled(rule)({"self": found}))
    except CelError:
        return False


def _message(rule: Schema, found: Any) -> str:
    """The computed one, or the fixed one where that cannot be computed or has several lines."""
    if "messageExpression" in rule:
        try:
            message = str(compiled(rule["messageExpression"])({"self": found}))
        except CelError:
            message = ""
        if message and "\n" not in message:
            return message
    return str(rule["message"])


def _duplicates(found: Sequence[Any], schema: Schema, path: str) -> Iterator[str]:
    """Items that stand twice in a list that the API server merges by item or by key."""
    kind = schema.get("x-kubernetes-list-type")
    if kind not in ("set", "map"):
        return
    keys = schema.get("x-kubernetes-list-map-keys", ())
    seen: list[Any] = []
    for number, item in enumerate(found):
        named = {key: item.get(key) for key in keys} if kind == "map" else item
        if named in seen:
            yield f"{path}[{number}]: Duplicate value: {json_of(named)}"
        seen.append(named)


def _below(path: str, field: str) -> str:
    """Path of a field, which may begin with the dot of a rule's fieldPath, below another."""
    field = field.removeprefix(".")
    return f"{path}.{field}" if path and field else path or field
