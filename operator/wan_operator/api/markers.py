"""Annotations that reach the CRD schema: what `+kubebuilder:` comments are in Go.

Each is put into `Annotated[...]` and adds a Kubernetes extension to the field's JSON schema.
Markers add up: two rules on one field both survive, unlike two `json_schema_extra`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Schema = dict[str, Any]
RuleReason = Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"]

RULES = "x-kubernetes-validations"


def rule(
    expression: str,
    message: str,
    field_path: str | None = None,
    *,
    reason: RuleReason | None = None,
    computed: str | None = None,
) -> Schema:
    """One CEL rule of a schema node.

    `field_path` points the error at a child field. `computed` is a CEL expression for a message
    that names values; the reference then shows `message`.
    """
    optional = {"fieldPath": field_path, "messageExpression": computed, "reason": reason}
    return {
        "rule": expression,
        "message": message,
        **{key: value for key, value in optional.items() if value is not None},
    }


@dataclass(frozen=True, slots=True)
class Cel:
    """A CEL rule on a field; `self` is the field's value."""

    expression: str
    message: str
    computed: str | None = None
    reason: RuleReason | None = None

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> Schema:
        schema: Schema = handler(core)
        own = rule(self.expression, self.message, reason=self.reason, computed=self.computed)
        schema[RULES] = [*schema.get(RULES, []), own]
        return schema


def syntax(expression: str, message: str) -> Cel:
    """Rule over a string, whose error names the string: the API server names only its type."""
    escaped = message.replace("'", "\\'")
    return Cel(expression, message, computed=f"'{escaped}; it is \"%s\"'.format([self])")


def one_of(*numbers: int) -> Cel:
    """Rule over a whole number, whose error names the number."""
    message = f"must be {', '.join(map(str, numbers[:-1]))} or {numbers[-1]}"
    expression = f"self in {list(numbers)}"
    return Cel(expression, message, computed=f"'{message}; it is %d'.format([self])")


@dataclass(frozen=True, slots=True)
class Extension:
    """Any other `x-kubernetes-*` keys of a field."""

    keys: tuple[tuple[str, Any], ...]

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> Schema:
        schema: Schema = handler(core)
        for key, value in self.keys:
            schema[key] = list(value) if isinstance(value, tuple) else value
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
