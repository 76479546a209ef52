"""What users are shown of data that does not fit: words of ours, never a library's."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pytest
from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core.core_schema import ErrorType

from wan_runtime import faults
from wan_runtime.contract.base import Contract

ROOT = Path(__file__).parents[2]
TURNED = {"described", "faults_of", "unreadable"}
"""Functions that make words of a ValidationError."""


class Colour(StrEnum):
    RED = "Red"
    BLUE = "Blue"


class Part(Contract):
    wide: Annotated[int, Field(ge=16, le=4096, multiple_of=16)] = 16


class All(Contract):
    number: Annotated[float, Field(gt=0, lt=9, allow_inf_nan=False)] = 1
    text: Annotated[str, Field(min_length=2, max_length=4, pattern="^[a-z]+$")] = "ab"
    colour: Colour = Colour.RED
    window: Literal["First", "Middle"] = "First"
    on: bool = True
    when: AwareDatetime | None = None
    day: datetime | None = None
    parts: Annotated[tuple[Part, ...], Field(min_length=1, max_length=2)] = (Part(),)
    by_name: dict[str, Part] = Field(default_factory=dict)
    needed: int

    @model_validator(mode="after")
    def _even(self) -> All:
        if self.needed % 2:
            raise ValueError(f"needed {self.needed} is odd")
        return self


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "needed: is missing"),
        ({"needed": 4.5}, "needed: must be a whole number, not 4.5"),
        ({"needed": "four"}, 'needed: must be a whole number, not "four"'),
        ({"needed": None}, "needed: must be a whole number, not null"),
        ({"needed": 3}, "needed 3 is odd"),
        ({"needed": 2, "more": 1}, "more: there is no such field"),
        ({"needed": 2, "number": 0}, "number: must be more than 0, not 0"),
        ({"needed": 2, "number": 9}, "number: must be less than 9, not 9"),
        ({"needed": 2, "number": float("nan")}, "number: must be a finite number, not NaN"),
        ({"needed": 2, "number": [1]}, "number: must be a number, not [1]"),
        ({"needed": 2, "text": 5}, "text: must be text, not 5"),
        ({"needed": 2, "text": "a"}, 'text: must have at least 2 characters, not "a"'),
        ({"needed": 2, "text": "abcde"}, "text: must have at most 4 characters"),
        ({"needed": 2, "text": "A1"}, 'text: must have the form ^[a-z]+$, not "A1"'),
        ({"needed": 2, "text": "\ud800"}, "text: must be text in UTF-8, not"),
        ({"needed": 2, "colour": "red"}, 'colour: must be Red or Blue, not "red"'),
        ({"needed": 2, "window": "Last"}, 'window: must be First or Middle, not "Last"'),
        ({"needed": 2, "on": "perhaps"}, 'on: must be true or false, not "perhaps"'),
        ({"needed": 2, "when": "2026-01-31T12:00:00"}, "when: must be a time with its zone, such"),
        ({"needed": 2, "day": "soon"}, "day: must be a time such as 2026-01-31T12:00:00Z, not"),
        ({"needed": 2, "parts": []}, "parts: must have at least 1 items"),
        ({"needed": 2, "parts": [{}] * 3}, "parts: must have at most 2 items"),
        ({"needed": 2, "parts": {"wide": 16}}, "parts: must be a list, not {"),
        ({"needed": 2, "parts": ["a"]}, 'parts[0]: must be an object, not "a"'),
        ({"needed": 2, "parts": [{}, {"wide": 0}]}, "parts[1].wide: must be at least 16, not 0"),
        ({"needed": 2, "parts": [{"wide": 24}]}, "parts[0].wide: must be a multiple of 16, not 24"),
        ({"needed": 2, "byName": {"a.b": {"wide": 8192}}}, "byName.a.b.wide: must be at most 4096"),
        ({"needed": 2, "byName": []}, "byName: must be an object, not []"),
        ([], "must be an object, not []"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_would(given: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        All.model_validate(given)
    assert faults.described(caught.value).startswith(words)
    below = faults.described(caught.value, "spec")
    assert below.startswith(("spec.", "spec: "))
    assert below.endswith(faults.described(caught.value))
    assert "; " not in below, "one fault is one"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b"{", "is JSON without its end: was it cut off?"),
        (b'{"needed": 2', "is JSON without its end: was it cut off?"),
        (b"<html>", "is no JSON at line 1, column 1"),
        (b'{"needed": 2}}', "is no JSON at line 1, column 14"),
        (b"\xff\xfe{", "is no JSON at line 1, column 1"),
        (b"[" * 10_000, "is JSON that is nested too deeply"),
        (b"null", "must be an object, not null"),
    ],
)
def test_text_that_is_no_json(text: bytes, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        All.model_validate_json(text)
    assert faults.described(caught.value) == words


def test_what_is_wrong_comes_before_what_is_missing_and_many_are_counted() -> None:
    class Many(BaseModel):
        a: int
        b: int
        c: int

    with pytest.raises(ValidationError) as caught:
        Many.model_validate({"c": "x"})
    assert faults.described(caught.value, limit=2) == (
        'c: must be a whole number, not "x"; a: is missing; and 1 more'
    )


def test_every_kind_of_fault_has_words() -> None:
    """Those without a template of ours say at least what the value is."""
    context = {
        "min_length": 1, "max_length": 1, "discriminator": "kind", "expected": "'a'",
        "expected_tags": "'a'", "pattern": "a", "error": "EOF", "gt": 1, "ge": 1, "lt": 1, "le": 1,
        "multiple_of": 1,
    }  # fmt: skip
    for kind in get_args(ErrorType):
        fault: Any = {"type": kind, "loc": ("a",), "msg": "of pydantic", "input": 1, "ctx": context}
        text = faults.text_of(fault)
        assert text, kind
        assert "of pydantic" not in text


@pytest.mark.parametrize(
    "given",
    ["9" * 100 + "x", object(), {"a": [1] * 99}, 10**5000, "half \ud800"],
    ids=["text", "object", "nested", "number", "half a character"],
)
def test_a_value_is_shown_in_short(given: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(bool).validate_python(given)
    text = faults.described(caught.value)
    assert len(text) < 120
    assert text.encode()


def handlers() -> Iterator[tuple[Path, ast.ExceptHandler]]:
    """Of ValidationError, in all that is shipped."""
    for folder in ("operator/wan_operator", "runtime/wan_runtime"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.ExceptHandler)
                    and node.type is not None
                    and "ValidationError" in ast.unparse(node.type)
                ):
                    yield path, node


def test_nobody_shows_what_pydantic_says() -> None:
    """A caught ValidationError is the cause of another, or is turned into words in one place."""
    found = list(handlers())
    assert len(found) > 10
    for path, handler in found:
        allowed: set[ast.AST] = set()
        for node in ast.walk(handler):
            if isinstance(node, ast.Raise) and node.cause is not None:
                allowed.add(node.cause)
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
                name = called.id if isinstance(called, ast.Name) else called
                if name in TURNED:
                    allowed.update(node.args)
        shown = [
            node.lineno
            for node in ast.walk(handler)
            if isinstance(node, ast.Name) and node.id == handler.name and node not in allowed
        ]
        assert shown == [], f"{path.relative_to(ROOT)}:{shown}"
