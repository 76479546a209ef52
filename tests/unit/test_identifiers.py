"""Names of modules, classes, functions and variables are words of the field, none of a private
language. Fields on the wire, columns and metrics are text, and stay as they are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("operator/wan_operator", "runtime/wan_runtime")

BANNED = re.compile(
    r"(?:^|_)(asked|blam(?:e|ing)|census|gang|guests?|life|look(?:ed|ing|s)?|moments?|shown|tell|told"
    r"|trouble)(?=_|$)"
)
ALLOWED = {
    "half_life_seconds": "a term of arithmetic",
    "moment": "of AdamW",
    "moments": "of AdamW",
    "begin_moments": "of AdamW",
    "tell": "of Python's own files, in classes that stand for one",
}
"""Name in snake case -> why it is one of the field."""


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Names that a module gives; not those of others that it uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def is_private(name: str) -> bool:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return snake not in ALLOWED and BANNED.search(snake) is not None


@pytest.mark.parametrize("name", ["Gang", "GangLost", "tell_all", "_told", "LOOKED_AT", "life"])
def test_a_private_word_is_found(name: str) -> None:
    assert is_private(name)


@pytest.mark.parametrize("name", ["intelligent", "HALF_LIFE_SECONDS", "lookup", "tell", "momentum"])
def test_words_of_the_field_pass(name: str) -> None:
    assert not is_private(name)


def found() -> dict[str, list[str]]:
    """File -> its private names."""
    private: dict[str, list[str]] = {}
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            names = {file.stem, *identifiers(ast.parse(file.read_text()))}
            if bad := sorted(filter(is_private, names)):
                private[str(file.relative_to(ROOT))] = bad
    return private


def test_names_are_words_of_the_field() -> None:
    assert found() == {}
