"""The bounds of the status: what is written is cut to them, so that no write is refused for one.

Names of pods, messages of the kubelet and the numbers of a pod that runs the user's data all end up
in the status. A refused write would stop the run for want of a shorter word.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel

Schema = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)
MORE = " …"


def fitted(status: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """A dumped status within the maxLength, maxItems, maxProperties, minimum and maximum of its
    schema."""
    fit: dict[str, Any] = _fit(status, *_schema(model, by_alias=True))
    return fit


def built(model: type[Model], **values: Any) -> Model:
    """A part of the status from words that are not ours. The constructor would refuse what is too
    long."""
    return model.model_validate(_fit(values, *_schema(model, by_alias=False)))


@cache
def _schema(model: type[BaseModel], *, by_alias: bool) -> tuple[Schema, Schema]:
    """(schema, definitions)"""
    schema = model.model_json_schema(by_alias=by_alias)
    return schema, schema.get("$defs", {})


def _fit(value: Any, schema: Schema, definitions: Schema) -> Any:
    schema = _resolved(schema, definitions)
    match value:
        case str() if len(value) > schema.get("maxLength", len(value)):
            keep = schema["maxLength"]
            return value[: keep - len(MORE)] + MORE if keep > len(MORE) else value[:keep]
        case int() if not isinstance(value, bool):
            return max(schema.get("minimum", value), min(schema.get("maximum", value), value))
        case list():
            items = schema.get("items", {})
            return [_fit(each, items, definitions) for each in value[: schema.get("maxItems")]]
        case dict():
            known, others = schema.get("properties", {}), schema.get("additionalProperties")
            inner = others if isinstance(others, dict) else {}
            kept = list(value.items())[: schema.get("maxProperties")]
            return {k: _fit(each, known.get(k, inner), definitions) for k, each in kept}
    return value


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    """Without references and without the null of an optional field."""
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    for branch in schema.get("anyOf", ()):
        if branch != {"type": "null"}:
            return _resolved(branch, definitions)
    return schema
