"""Pydantic models -> structural schemas, the subset of OpenAPI 3.0 that the API server takes.

What cannot be said structurally is an error here, at generation, and never dropped in silence: the
API server would accept the rest and store less, or other, than the models mean.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel, TypeAdapter

from wan_operator.api.markers import RULES, Schema

ORDER = (
    "description",
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "default",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
    "required",
    "properties",
    "additionalProperties",
    "items",
    RULES,
)
"""The keywords of our output, in the order they are written."""

NOISE = {"title", "$defs", "examples"}
"""Says nothing to the API server or to readers."""

FORMATS = {"date-time", "int32", "int64"}
"""The formats that the API server checks and that we use; it ignores unknown ones."""


class Unstructural(ValueError):
    """The model says something that a structural schema cannot. The text names the field and the
    way out."""


def structural(model: type[BaseModel], *, defaults: bool = True) -> Schema:
    """The structural schema of a model.

    `defaults=False` leaves defaults out: those of a status would come back on every read, and its
    only writer would see differences that are none.
    """
    schema = TypeAdapter(model).json_schema(by_alias=True, mode="validation")
    return _Converter(schema.get("$defs", {}), defaults).convert(schema, model.__name__, ())


def explained(schema: Schema) -> Schema:
    """The schema with the defaults of scalars and lists in their descriptions, where alone `kubectl
    explain` shows them."""
    node = dict(schema)
    for inner in ("items", "additionalProperties"):
        if inner in node:
            node[inner] = explained(node[inner])
    if "properties" in node:
        node["properties"] = {name: explained(child) for name, child in node["properties"].items()}
    default = node.get("default")
    if default is not None and not isinstance(default, dict) and "description" in node:
        text = default if isinstance(default, str) else json.dumps(default)
        node["description"] = f"{node['description']} Default: {text}."
    return node


class _Converter:
    def __init__(self, definitions: Schema, defaults: bool) -> None:
        self.definitions = definitions
        self.defaults = defaults

    def convert(self, node: Schema, path: str, inside: tuple[str, ...]) -> Schema:
        """`path` is for messages; `inside` are the models around the node, to notice recursion."""
        node = {key: value for key, value in node.items() if key not in NOISE}
        if "$ref" in node:
            name = node.pop("$ref").rsplit("/", 1)[-1]
            if name in inside:
                raise Unstructural(
                    f"{path}: {name} contains itself; a structural schema cannot recurse"
                )
            return self.convert(_merged(self.definitions[name], node), path, (*inside, name))
        if "anyOf" in node:
            # T | None is T: the API server prunes an explicit null, or puts the default there.
            branches = [branch for branch in node.pop("anyOf") if branch != {"type": "null"}]
            if len(branches) > 1:
                raise Unstructural(
                    f"{path}: a union; give it one optional field a branch, and a rule, as Method "
                    f"has"
                )
            return self.convert(_merged(branches[0], node), path, inside)
        return self._typed(node, path, inside)

    def _typed(self, node: Schema, path: str, inside: tuple[str, ...]) -> Schema:
        if "const" in node:
            node["enum"] = [node.pop("const")]
        for bound in ("minimum", "maximum"):
            exclusive = f"exclusive{bound.capitalize()}"
            if exclusive in node:  # a number in JSON Schema, a flag beside the bound in OpenAPI 3.0
                node |= {bound: node[exclusive], exclusive: True}
        children = node.get("additionalProperties")
        if node.get("type") == "object":
            if isinstance(children, bool):
                del node[
                    "additionalProperties"
                ]  # closed: unknown fields are pruned; open: preserve_unknown()
                if children and "x-kubernetes-preserve-unknown-fields" not in node:
                    raise Unstructural(
                        f"{path}: any field would be pruned; mark it preserve_unknown()"
                    )
            elif children is not None:
                node["additionalProperties"] = self.convert(children, f"{path}[*]", inside)
            if "properties" in node:
                node["properties"] = {
                    name: self.convert(child, f"{path}.{name}", inside)
                    for name, child in node["properties"].items()
                }
        if node.get("type") == "array":
            if "items" not in node:
                raise Unstructural(f"{path}: a list needs one item type")
            node["items"] = self.convert(node["items"], f"{path}[]", inside)
            node.setdefault("x-kubernetes-list-type", "atomic")
        if "description" in node:
            node["description"] = unwrapped(node["description"])
        self._default(node)
        self._check(node, path)
        return {key: node[key] for key in ORDER if key in node}

    def _default(self, node: Schema) -> None:
        default = _minimal(node, node.pop("default", None))
        if not self.defaults or default in (None, [], ""):
            return
        # An empty object is worth storing only if the API server then fills in what is below it.
        if default == {} and not any(
            "default" in child for child in node.get("properties", {}).values()
        ):
            return
        node["default"] = default

    def _check(self, node: Schema, path: str) -> None:
        if unknown := node.keys() - set(ORDER):
            raise Unstructural(
                f"{path}: {', '.join(sorted(unknown))} cannot be said in a structural schema"
            )
        if "type" not in node and "x-kubernetes-preserve-unknown-fields" not in node:
            raise Unstructural(f"{path}: has no type, or values of several types")
        if "format" in node and node["format"] not in FORMATS:
            raise Unstructural(f"{path}: the API server does not check the format {node['format']}")
        if re.search(r"\(\?[=!<]", node.get("pattern", "")):
            raise Unstructural(f"{path}: look-around in the pattern; the API server has RE2")
        for rule in node.get(RULES, ()):
            field = rule.get("fieldPath", "").removeprefix(".").split(".")[0]
            if field and field not in node.get("properties", {}):
                raise Unstructural(
                    f"{path}: a rule points at {rule['fieldPath']}, which does not exist"
                )


def unwrapped(text: str) -> str:
    """A docstring's paragraphs, each on one line."""
    return "\n\n".join(" ".join(each.split()) for each in text.split("\n\n"))


def _merged(target: Schema, around: Schema) -> Schema:
    """The words around a reference win over the target's; the rules of both hold."""
    both = {**target, **around}
    if rules := [*target.get(RULES, ()), *around.get(RULES, ())]:
        both[RULES] = rules
    return both


def _minimal(schema: Schema, default: Any) -> Any:
    """`default` less nulls and less what the defaults of the fields below say anyway."""
    if not isinstance(default, dict):
        return default
    fields = schema.get("properties", {})
    kept: Schema = {}
    for name, value in default.items():
        child = fields.get(name, {})
        value = _minimal(child, value)
        empty = value in (None, [], "") or (value == {} and "properties" not in child)
        if not empty and not ("default" in child and value == child["default"]):
            kept[name] = value
    return kept
