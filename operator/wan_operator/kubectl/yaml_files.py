"""YAML files as kubectl reads them, and what is wrong with those that cannot be read."""

from __future__ import annotations

import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

LIMIT = 4 * 2**20
"""Bytes of one file."""
NODES = 200_000
"""Values of one file, with those that an alias repeats."""
STDIN = "-"


class DocumentError(Exception):
    """What is wrong with the input, with file, document and field."""


class _Loader(yaml.SafeLoader):
    """Refuses a field that stands twice, as kubectl does: PyYAML would take the last. Names the
    place of a date or a number that there cannot be."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            text = f"there is no date or number {str(node.value)[:40]}"
            raise yaml.MarkedYAMLError(problem=text, problem_mark=node.start_mark) from error

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                continue
            if key.value in seen:
                text = f"{key.value} stands twice"
                raise yaml.MarkedYAMLError(problem=text, problem_mark=key.start_mark)
            seen.add(key.value)
        made: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return made


def shown(file: str) -> str:
    """The name of a file in messages."""
    return "standard input" if file == STDIN else file


def yaml_documents(file: str) -> list[Any]:
    """All documents of a file, `-` being standard input. Raises DocumentError."""
    text = _content(file)
    try:
        documents = list(yaml.load_all(text, _Loader))
        if any(_count(each, NODES) <= 0 for each in documents):
            raise DocumentError(f"{shown(file)} holds more than {NODES} values: too much to read")
        return documents
    except RecursionError as error:
        raise DocumentError(f"{shown(file)} is nested too deeply to be read") from error
    except yaml.YAMLError as error:
        raise DocumentError(f"{shown(file)} is no YAML{_where(error, text)}") from error


def _content(file: str) -> bytes:
    """PyYAML finds out the encoding by itself: PowerShell writes UTF-16."""
    try:
        if file == STDIN:
            # Tests put a text in its place, which has no buffer.
            stream = getattr(sys.stdin, "buffer", None)
            data = stream.read(LIMIT + 1) if stream else sys.stdin.read(LIMIT + 1).encode()
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(LIMIT + 1)
    except OSError as error:
        raise DocumentError(f"{shown(file)} cannot be read: {error.strerror}") from error
    if len(data) > LIMIT:
        raise DocumentError(f"{shown(file)} is larger than {LIMIT // 2**20} MiB")
    return bytes(data)


def _where(error: yaml.YAMLError, text: bytes) -> str:
    """The place and the cause, in a line."""
    if b"{{" in text:
        return ": it looks like a template: give what `helm template` makes of it"
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None:
        return ": it is no text in UTF-8 or UTF-16"
    return f" at line {mark.line + 1}, column {mark.column + 1}: {problem}"


def _count(value: Any, left: int) -> int:
    """`left` without the values in `value`; 0 or less once they are too many. A few lines of
    aliases can stand for billions."""
    children = value.values() if isinstance(value, dict) else value
    left -= 1
    if isinstance(value, dict | list):
        for child in children:
            if left <= 0:
                break
            left = _count(child, left)
    return left
