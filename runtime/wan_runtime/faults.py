"""What is wrong with data that does not fit a model, in words: `dataset.fps: must be a number, not
"many"`.

The one place that turns a `ValidationError` into text for people; pydantic's own is for those who
write the models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

LIMIT = 5
"""Faults that are spelled out; more are counted."""
VALUE = 60
"""Characters of a value that are shown."""

WITHOUT_VALUE = {
    "missing": "is missing",
    "extra_forbidden": "there is no such field",
    "missing_argument": "is missing",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "string_too_long": "must have at most {max_length} characters",
    "union_tag_not_found": "must say what it is in {discriminator}",
    "invalid_key": "the names of its fields must be text",
    "recursion_loop": "must not hold itself",
}
WITH_VALUE = {
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "finite_number": "must be a finite number",
    "string_too_short": "must have at least {min_length} characters",
    "string_pattern_mismatch": "must have the form {pattern}",
    "string_unicode": "must be text in UTF-8",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "union_tag_invalid": "must be {expected_tags}",
    "int_from_float": "must be a whole number",
    "timezone_aware": "must be a time with its zone, such as 2026-01-31T12:00:00Z",
}
QUOTED = ("literal_error", "enum", "union_tag_invalid")
"""Whose choices come in Python's quotes."""
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "bool": "true or false",
    "string": "text",
    "bytes": "text",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "iterable": "a list",
    "model": "an object",
    "dict": "an object",
    "mapping": "an object",
    "dataclass": "an object",
    "date": "a date such as 2026-01-31",
    "datetime": "a time such as 2026-01-31T12:00:00Z",
    "time": "a time",
    "url": "a URL",
    "uuid": "a UUID",
}
"""First word of what pydantic calls a fault -> what the value must be."""
PLACE = re.compile(r"line (\d+) column (\d+)")


@dataclass(frozen=True, slots=True)
class Fault:
    """One of them."""

    path: str
    """`dataset.buckets[0].width`; empty: of the whole."""
    text: str
    """`must be at least 16, not 8`"""

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


def faults_of(error: ValidationError, below: str = "") -> list[Fault]:
    """All faults, what is there and wrong before what is missing: it says more.

    `below`: path of what was checked, such as `spec`.
    """
    found = sorted(error.errors(include_url=False), key=lambda fault: fault["type"] == "missing")
    places = [fault["loc"] for fault in found]
    return [
        Fault(path(place, below), text_of(fault))
        for place, fault in zip(places, found, strict=True)
        # pydantic does not count items with faults of their own.
        if fault["type"] != "too_short"
        or not any(each[: len(place)] == place for each in places if each != place)
    ]


def described(error: ValidationError, below: str = "", limit: int = LIMIT) -> str:
    """The first faults, in a line."""
    return in_a_line([str(fault) for fault in faults_of(error, below)], limit)


def in_a_line(faults: Sequence[str], limit: int = LIMIT) -> str:
    """The first of them, and how many there are more."""
    more = f"; and {len(faults) - limit} more" if len(faults) > limit else ""
    return "; ".join(faults[:limit]) + more


def path(location: tuple[int | str, ...], below: str = "") -> str:
    """`dataset.buckets[0].width`"""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return encodable((below + "".join(parts)).removeprefix("."))


def text_of(fault: ErrorDetails) -> str:
    """What is wrong and what would be right, without the path."""
    kind = fault["type"]
    context = {
        name: f"{limit:g}" if isinstance(limit, float) else limit
        for name, limit in fault.get("ctx", {}).items()
    }
    if kind in ("value_error", "assertion_error"):  # raised by a model: its words are ours
        return str(context["error"])
    if kind == "json_invalid":
        return json_text(fault["input"], str(context["error"]))
    if kind in WITHOUT_VALUE:
        return WITHOUT_VALUE[kind].format(**context)
    wanted = WITH_VALUE.get(kind)
    if wanted is None:
        noun = KINDS.get(kind.split("_")[0])
        wanted = "cannot be used" if noun is None else f"must be {noun}"
    wanted = wanted.format(**context)
    if kind in QUOTED:
        wanted = wanted.replace("'", "")
    return f"{wanted}, not {value(fault['input'])}"


def json_text(text: Any, said: str) -> str:
    """What is wrong with text that is no JSON, after what the parser said of it."""
    if not text:
        return "is empty"
    if "EOF" in said:
        return "is JSON without its end: was it cut off?"
    if "recursion" in said:
        return "is JSON that is nested too deeply"
    place = PLACE.search(said)
    where = f" at line {place[1]}, column {place[2]}" if place else ""
    return f"is no JSON{where}"


def value(given: Any) -> str:
    """As JSON, short."""
    try:
        text = json.dumps(given, ensure_ascii=False)
    except (TypeError, ValueError):  # not of JSON's kinds, or a number of thousands of digits
        text = str(given) if not isinstance(given, int) else "a number of thousands of digits"
    return encodable(text if len(text) <= VALUE else f"{text[:VALUE]}…")


def encodable(text: str) -> str:
    """The text with halves of characters escaped: JSON may hold them, and no answer can."""
    return text.encode("utf-8", "backslashreplace").decode()
