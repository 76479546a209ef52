"""Values of one row, as text."""

from __future__ import annotations

import math
import re
from typing import Any

MISSING = frozenset(
    {
        "", "nan", "-nan", "null", "none", "n/a", "na", "<na>", "#n/a", "#n/a n/a", "#na",
        "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan",
    }
)  # fmt: skip
"""Words that pandas reads, and that it and Python write, for a value that is not there; here in
letters of any case."""
HALF_CHARACTER = re.compile("[\ud800-\udfff]")
KINDS = {list: "a list", dict: "an object", bool: "true or false"}


class NoTextError(Exception):
    """A value is no text. The message goes on after its name: `is a list of 2: …`."""


def text_of(value: Any) -> str:
    """The text of a value without blanks at its ends, or a number as it is written; empty for one
    that is missing.

    A list of one is its only value. Raises NoTextError."""
    if isinstance(value, list) and len(value) == 1:
        return text_of(value[0])
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        if found := HALF_CHARACTER.search(value):
            raise NoTextError(f"holds half a character, \\u{ord(found[0]):04x}: write it anew")
        text = value.strip()
        return "" if text.lower() in MISSING else text
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    many = f" of {len(value)}" if isinstance(value, list) else ""
    raise NoTextError(f"is {KINDS.get(type(value), 'no text')}{many}: give one text")


def word_for_none(value: Any) -> str:
    """The word by which a value says that it is missing; empty if there is none."""
    if isinstance(value, list) and len(value) == 1:
        return word_for_none(value[0])
    return value.strip() if isinstance(value, str) and value.strip().lower() in MISSING else ""
