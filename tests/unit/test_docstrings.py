"""Docstrings begin with a noun or a verb, those under fields and constants too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "operator/wan_operator",
    "runtime/wan_runtime/artifacts",
    "runtime/wan_runtime/contract",
    "runtime/wan_runtime/data",
    "runtime/wan_runtime/evaluation",
    "runtime/wan_runtime/models",
    "runtime/wan_runtime/planner",
    "runtime/wan_runtime/process",
    "runtime/wan_runtime/rendering",
    "runtime/wan_runtime/serving",
    "runtime/wan_runtime/training",
    "runtime/wan_runtime/web",
)
"""Folders that are checked with all below them."""
MODULES = "runtime/wan_runtime/*.py"
"""Modules of the runtime that are in no folder of their own."""

FRAGMENT = re.compile(r"(?:At|By|Of|That)\b")
"""First word of a docstring that goes on from the name above it."""


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of each statement that is only a string."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text.strip()


def fragments(source: str) -> list[tuple[int, str]]:
    """Docstrings that begin with a preposition or a conjunction."""
    return [(line, text) for line, text in docstrings(source) if FRAGMENT.match(text)]


@pytest.mark.parametrize(
    "source",
    [
        '"""Of a step."""',
        'LIMIT = 3\n"""That a rank keeps at most."""',
        'class Size:\n    width: int\n    """Of a video."""',
        'def find(name):\n    """\n    By its name.\n    """',
        'async def end():\n    """At the end: all that is left."""',
    ],
)
def test_a_fragment_is_found(source: str) -> None:
    assert len(fragments(source)) == 1


def test_a_docstring_that_begins_with_a_noun_or_a_verb_passes() -> None:
    assert fragments('"""Attention of one block."""\nLIMIT = "Of no docstring"') == []


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(sorted(ROOT.glob(MODULES)), id=MODULES),
        *(pytest.param(sorted((ROOT / name).rglob("*.py")), id=name) for name in FOLDERS),
    ],
)
def test_docstrings_begin_with_a_noun_or_a_verb(files: list[Path]) -> None:
    assert files
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in files
        for line, text in fragments(path.read_text())
    ]
    assert found == []
