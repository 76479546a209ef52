"""Annotations that reach the CRD schema: what `+kubebuilder:` comments are in Go.

Each is put into `Annotated[...]` and adds a Kubernetes extension to the field's JSON schema. Markers add up:
two rules on one field both survive, unlike two `json_schema_extra`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

RULES = "x-kubernetes-validations"


def rule(expression: str, message: str, field_path: str | None = None) -> Schema:
    """One CEL rule of a schema node. `field_path` points the error at a child field."""
    path = {"fieldPath": field_path} if field_path else {}
    return {"rule": expression, "message": message, **path}


@dataclass(frozen=True, slots=True)
class Cel:
    """A CEL rule on a field; `self` is the field's value."""

    expression: str
    message: str

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> Schema:
        schema: Schema = handler(core)
        schema[RULES] = [*schema.get(RULES, []), rule(self.expression, self.message)]
        return schema


@dataclass(frozen=True, slots=True)
class Extension:
    """Any other `x-kubernetes-*` keys of a field."""

    keys: tuple[tuple[str, Any], ...]

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> Schema:
        schema: Schema = handler(core)
        schema.update({key: list(value) if isinstance(value, tuple) else value for key, value in self.keys})
        return schema


def list_map(*keys: str) -> Extension:
    """List merged by key under server-side apply."""
    return Extension((("x-kubernetes-list-type", "map"), ("x-kubernetes-list-map-keys", keys)))


def list_set() -> Extension:
    """List of unique scalars, merged under server-side apply."""
    return Extension((("x-kubernetes-list-type", "set"),))


def preserve_unknown() -> Extension:
    """Free-form object."""
    return Extension((("x-kubernetes-preserve-unknown-fields", True),))
