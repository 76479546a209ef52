"""JSON and JSON lines, with what is wrong in words of ours."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from wan_runtime.data.formats.text import LONGEST, invalid, short

PYTHON = ("None", "True", "False", "nan", "undefined")
SAID = (
    ("Extra data", "another value follows the first"),
    ("Unterminated string", "a string is not closed: a quote is missing, or one too many"),
    ("Invalid control", "a string holds a line break or a tab: write \\n or \\t"),
    ("Invalid \\", "a string holds a backslash: write / in paths, and \\\\ elsewhere"),
    ("Expecting ':'", "a colon is missing"),
    ("Expecting ','", 'a comma is missing, or a quote in a string: write \\" there'),
)
"""Beginnings of the parser's own messages, and what they mean."""


class _Twice(Exception):
    """A key stands twice in one object."""


def load_json(name: str, text: str, line: int | None = None) -> Any:
    """The value in a JSON text. `line`: number of the one line that it is.

    Raises InputError(DATASET_INVALID)."""
    at = "" if line is None else f"line {line}: "
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        number = error.lineno if line is None else line
        raise invalid(name, f"line {number}: {_fault(text, error)}") from error
    except _Twice as error:
        raise invalid(name, f"{at}has the key {error.args[0]!r} twice in one object") from error
    except RecursionError as error:
        raise invalid(name, f"{at}is nested too deeply") from error
    except ValueError as error:  # int() refuses it
        raise invalid(name, f"{at}holds a number of thousands of digits") from error


def json_lines(name: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of a JSON lines file. Raises InputError(DATASET_INVALID)."""
    if text.lstrip().startswith("["):
        raise invalid(name, "is one list: JSON lines have an object a line, and a list is .json")
    lines = ((line, content) for line, content in enumerate(text.split("\n"), 1))
    values = ((line, load_json(name, each, line)) for line, each in lines if each.strip())
    return objects(name, values, "line")


def objects(
    name: str, entries: Iterable[tuple[int, Any]], place: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The entries, each of them an object. `place`: of an entry, for people.

    Raises InputError(DATASET_INVALID)."""
    for number, entry in entries:
        if not isinstance(entry, dict):
            given = short(json.dumps(entry))
            raise invalid(name, f"{place} {number} is {given}, not an object of names and values")
        yield number, entry


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for key, value in pairs:
        if key in record:  # the last would be taken in silence
            raise _Twice(key)
        record[key] = value
    return record


def _fault(text: str, error: json.JSONDecodeError) -> str:
    rest = text[error.pos :].lstrip()
    if not text.strip():
        return "is empty"
    if not rest:
        return "ends in the middle of a value"
    cause = next((said for begin, said in SAID if error.msg.startswith(begin)), "is no JSON")
    before = text[: error.pos].rstrip()
    if rest.startswith("'"):
        cause = "strings and keys stand in double quotes"
    elif rest[0] in "]}" and before.endswith(","):
        cause = "a comma before a closing bracket is one too many"
    elif rest.startswith(PYTHON):
        cause = "the words of JSON are null, true and false"
    return f"{cause}, at {short(rest[: LONGEST + 1])}"
