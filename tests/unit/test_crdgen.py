"""Models to CRDs: each rule of the conversion on a model of its own, then the files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from wan_operator.api.markers import (
    RULES,
    Cel,
    Schema,
    list_map,
    list_set,
    preserve_unknown,
    rule,
)
from wan_operator.conditions.runs import CONDITION_TYPES, REASONS
from wan_operator.crdgen.crd import Definition
from wan_operator.crdgen.files import generate
from wan_operator.crdgen.manifest import chart_template
from wan_operator.crdgen.schema import Unstructural, explained, structural
from wan_operator.kinds import KINDS

ROOT = Path(__file__).parents[2]
DEFINITIONS = [kind.definition for kind in KINDS.values()]


class Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True
    )


def field(annotation: Any, default: Any = ...) -> Schema:
    """What a field of this type becomes."""
    namespace: dict[str, Any] = {"__annotations__": {"x": annotation}}
    if default is not ...:
        namespace["x"] = default
    schema: Schema = structural(type("One", (Model,), namespace))["properties"]["x"]
    return schema


class Leaf(Model):
    """A leaf."""

    size: Annotated[int, Field(ge=1)] = 3
    note: str | None = None


class Empty(Model):
    labels: dict[str, str] = {}
    words: list[str] = []
    note: str | None = None


class Branch(Model):
    leaf: Leaf = Leaf()
    maybe: Leaf | None = None


class Tree(Model):
    branch: Branch = Branch(maybe=Leaf())
    empty: Empty = Empty()
    big: Leaf = Leaf(size=9)


class Loop(Model):
    again: Loop | None = None


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (bool, {"type": "boolean"}),
        (str | None, {"type": "string"}),
        (Literal["A", "B"], {"type": "string", "enum": ["A", "B"]}),
        (Literal["A"], {"type": "string", "enum": ["A"]}),
        (
            Annotated[float, Field(gt=0, le=1)],
            {"type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 1},
        ),
        (
            Annotated[float, Field(ge=0, lt=1)],
            {"type": "number", "minimum": 0, "maximum": 1, "exclusiveMaximum": True},
        ),
        (
            Annotated[str, Field(min_length=1, max_length=9, pattern="^a+$")],
            {"type": "string", "pattern": "^a+$", "minLength": 1, "maxLength": 9},
        ),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (
            Annotated[dict[str, Any], preserve_unknown()],
            {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        ),
        (
            list[str],
            {"type": "array", "x-kubernetes-list-type": "atomic", "items": {"type": "string"}},
        ),
        (
            Annotated[list[str], list_set(), Field(max_length=2)],
            {
                "type": "array",
                "maxItems": 2,
                "x-kubernetes-list-type": "set",
                "items": {"type": "string"},
            },
        ),
    ],
    ids=str,
)
def test_types(annotation: Any, schema: Schema) -> None:
    converted = field(annotation)
    assert converted == schema
    assert list(converted) == list(schema), "the order of keywords is fixed"


def test_lists_merged_by_key() -> None:
    schema = field(Annotated[list[Leaf], list_map("size")])
    assert schema["x-kubernetes-list-type"] == "map"
    assert schema["x-kubernetes-list-map-keys"] == ["size"]
    assert schema["items"]["properties"]["size"] == {"type": "integer", "minimum": 1, "default": 3}


def test_references_are_inlined_everywhere() -> None:
    schema = structural(Tree)
    assert "$ref" not in str(schema)
    branch = schema["properties"]["branch"]["properties"]
    assert branch["leaf"]["properties"]["size"]["default"] == 3


def test_words_at_the_field_win_over_those_of_its_model() -> None:
    class Words(Model):
        plain: Leaf
        own: Leaf
        """Its own words."""

    fields = structural(Words)["properties"]
    assert fields["plain"]["description"] == "A leaf."
    assert fields["own"]["description"] == "Its own words."


def test_what_has_no_default_is_required() -> None:
    class Some(Model):
        needed_most: str
        optional: str | None = None
        filled: str = "x"

    schema = structural(Some)
    assert schema["required"] == ["neededMost"]
    assert schema["properties"]["filled"]["default"] == "x"
    assert "default" not in schema["properties"]["optional"]


def test_defaults_say_only_what_the_fields_below_do_not() -> None:
    """An object is filled in from the outside in: `{}` is enough for the rest to follow."""
    fields = structural(Tree)["properties"]
    assert fields["branch"]["default"] == {"maybe": {}}
    assert fields["branch"]["properties"]["leaf"]["default"] == {}
    assert "default" not in fields["branch"]["properties"]["maybe"]
    assert fields["big"]["default"] == {"size": 9}
    assert "default" not in fields["empty"], "nothing below it would be filled in"
    assert "default" not in fields["empty"]["properties"]["labels"]
    assert "default" not in fields["empty"]["properties"]["words"]


def test_defaults_of_scalars_and_lists_are_explained() -> None:
    class Each(Model):
        size: int = 3
        """Size in pixels."""
        on: bool = False
        """Whether it is on."""
        name: Literal["A", "B"] = "A"
        """Name of it."""
        words: list[str] = Field(default=["a", "b"])
        """Words of it."""
        maybe: int | None = None
        """Number. Default: the other's."""
        leaf: Leaf = Leaf()
        leaves: list[Leaf] = Field(default=[])
        """Leaves of it."""
        silent: int = 4

    fields = explained(structural(Each))["properties"]
    assert {name: field.get("description") for name, field in fields.items()} == {
        "size": "Size in pixels. Default: 3.",
        "on": "Whether it is on. Default: false.",
        "name": "Name of it. Default: A.",
        "words": 'Words of it. Default: ["a", "b"].',
        "maybe": "Number. Default: the other's.",
        "leaf": "A leaf.",
        "leaves": "Leaves of it.",
        "silent": None,
    }
    assert fields["size"]["default"] == 3

    class Noted(Model):
        note: str = "x"
        """Note."""

    class Around(Model):
        each: list[Noted]
        by_name: dict[str, Noted]

    fields = explained(structural(Around))["properties"]
    for inside in (fields["each"]["items"], fields["byName"]["additionalProperties"]):
        assert inside["properties"]["note"]["description"] == "Note. Default: x."


def test_a_description_has_one_line_for_each_paragraph() -> None:
    class Wrapped(Model):
        """First
        paragraph.

        Second
        paragraph.
        """

    assert structural(Wrapped)["description"] == "First paragraph.\n\nSecond paragraph."


def test_false_and_zero_are_defaults() -> None:
    assert field(bool, False)["default"] is False
    assert field(int, 0)["default"] == 0


def test_a_status_has_no_defaults() -> None:
    assert "default" not in str(structural(Tree, defaults=False))


def test_rules_of_field_model_and_reference_add_up() -> None:
    class Ruled(Model):
        model_config = ConfigDict(json_schema_extra={RULES: [rule("a", "of the model")]})
        size: Annotated[
            int, Cel("b", "first"), Cel("c", "second", computed="'x'", reason="FieldValueForbidden")
        ] = 1

    class Around(Model):
        inner: Annotated[Ruled, Cel("d", "of the field")]
        maybe: Annotated[int, Cel("e", "inside")] | None = None

    fields = structural(Around)["properties"]
    assert [each["rule"] for each in fields["inner"][RULES]] == ["a", "d"]
    assert [each["rule"] for each in fields["maybe"][RULES]] == ["e"]
    assert fields["inner"]["properties"]["size"][RULES] == [
        {"rule": "b", "message": "first"},
        {
            "rule": "c",
            "message": "second",
            "messageExpression": "'x'",
            "reason": "FieldValueForbidden",
        },
    ]


@pytest.mark.parametrize(
    ("annotation", "complaint"),
    [
        (Loop, "contains itself"),
        (int | str, "a union"),
        (Leaf | Empty, "a union"),
        (set[str], "uniqueItems cannot be said"),
        (tuple[int, str], "needs one item type"),
        (Any, "has no type"),
        (Literal[1, "a"], "has no type"),
        (dict[str, Any], "preserve_unknown"),
        (list[Any], r"One\.x\[\]: has no type"),
        (
            Annotated[str, Field(json_schema_extra={"format": "duration"})],
            "not check the format",
        ),
        (Annotated[str, Field(json_schema_extra={"pattern": "a(?=b)"})], "RE2"),
        (
            Annotated[Leaf, Field(json_schema_extra={RULES: [rule("a", "b", ".nothing")]})],
            "which does not exist",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_said_is_an_error_that_names_the_field(
    annotation: Any, complaint: str
) -> None:
    with pytest.raises(Unstructural, match=complaint) as error:
        field(annotation)
    assert str(error.value).startswith("One.x")


# -- Our own models


def nodes(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in schema:
            yield from nodes(schema[inner], f"{path}[]")


@pytest.mark.parametrize("top", ["spec", "status"])
@pytest.mark.parametrize("kind", DEFINITIONS, ids=lambda kind: kind.name)
def test_everything_is_bounded(kind: Definition, top: str) -> None:
    """Else an object may outgrow etcd, and rules over it the server's cost budget. A date-time
    bounds itself."""
    bounds = {
        "string": {"maxLength", "enum", "format"},
        "array": {"maxItems"},
        "integer": {"maximum", "enum"},
        "number": {"maximum"},
    }
    unbounded = [
        path
        for path, node in nodes(kind.schema()["properties"][top], top)
        if not node.keys() & bounds.get(node["type"], node.keys())
        or ("additionalProperties" in node and "maxProperties" not in node)
    ]
    assert unbounded == []


@pytest.mark.parametrize("kind", DEFINITIONS, ids=lambda kind: kind.name)
def test_everything_that_users_write_is_explained(kind: Definition) -> None:
    """Elements of lists and maps are explained by their list."""
    silent = [
        path
        for path, node in nodes(kind.schema()["properties"]["spec"], "spec")
        if not path.endswith("[]") and "description" not in node
    ]
    assert silent == []


def test_the_reference_has_every_field_condition_and_reason() -> None:
    text = generate()["docs/api.md"]
    sections = re.split(r"^### ", text, flags=re.MULTILINE)
    # Below these, another section has the fields.
    referred = tuple(
        f"{each.splitlines()[0]}." for each in sections if "\nIt has the fields of [" in each
    )
    for kind in DEFINITIONS:
        assert (ROOT / kind.example).is_file()
        for top in ("spec", "status"):
            for path, node in nodes(kind.schema()["properties"][top], top):
                name = path.rsplit(".", 1)[-1].removesuffix("[]")
                assert f"`{name}`" in text or path == top
                if "properties" in node and not path.startswith(referred):
                    assert f"\n### {path}\n" in text
                for each in node.get(RULES, ()):
                    assert " ".join(each["message"].split()) in text
    for word in (*CONDITION_TYPES, *REASONS):
        assert f"| `{word}` |" in text
    assert "\n    " not in text, "Markdown takes indented text for code"


def test_braces_would_be_read_by_helm() -> None:
    class Braces(Model):
        """Use {{ name }}."""

    odd = Definition(
        name="Odd", plural="odds", short="o", spec=Braces, status=Leaf, name_limit=9,
        columns=(), example=DEFINITIONS[0].example,
    )  # fmt: skip
    with pytest.raises(ValueError, match="read by Helm"):
        chart_template(odd)
