"""Values of one row, as text."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

MISSING = frozenset(
    {
        "", "nan", "-nan", "null", "none", "n/a", "na", "<na>", "#n/a", "#n/a n/a", "#na",
        "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan",
    }
)  # fmt: skip
"""Words that pandas reads, and that it and Python write, for a value that is not there; here in
letters of any case."""
SHEET_ERROR = re.compile(r"#(?=.*[^\W\d_])[^\sa-z]{2,14}[!?]|#NV|#N/[VD]|#{3,}|Err:\d{3}")
"""What spreadsheets write for a formula that failed, in any language, and for a narrow column."""
UNSEEN = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
"""Unicode's categories of characters that draw nothing."""
BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | frozenset(
    map(chr, range(0xFE00, 0xFE10))
)
"""Characters of other categories that draw nothing by themselves."""
HALF_CHARACTER = re.compile("[\ud800-\udfff]")
LOST, AROUND = "\ufffd", 10
"""The character itself, and how many before and after it a message quotes."""
KINDS = {list: "a list", dict: "an object", bool: "true or false"}


class NoTextError(Exception):
    """A value is no text. The message goes on after its name: `is a list of 2: …`."""


def text_of(value: Any) -> str:
    """The text of a value without blanks at its ends, or a number as it is written; empty for one
    that is missing, or shows nothing.

    A list of one is its only value. Raises NoTextError, for the error of a spreadsheet too."""
    if isinstance(value, list) and len(value) == 1:
        return text_of(value[0])
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        if found := HALF_CHARACTER.search(value):
            raise NoTextError(f"holds half a character, \\u{ord(found[0]):04x}: write it anew")
        bare = _bare(value)
        if not bare or bare.lower() in MISSING:
            return ""
        if SHEET_ERROR.fullmatch(bare):
            raise NoTextError(f"is {bare!r}, an error of a spreadsheet: write the text itself")
        return value.strip()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    many = f" of {len(value)}" if isinstance(value, list) else ""
    raise NoTextError(f"is {KINDS.get(type(value), 'no text')}{many}: give one text")


def caption_of(value: Any) -> str:
    """`text_of` a caption. Raises NoTextError for one with U+FFFD too, which programs write in
    place of what they cannot decode. A file's name may hold it."""
    text = text_of(value)
    if LOST in text:
        near = text[max(0, text.index(LOST) - AROUND) :][: 2 * AROUND]
        raise NoTextError(f"holds U+FFFD, left of what was lost, at {near!r}: write it anew")
    return text


def cause_of_none(value: Any) -> str:
    """Why a value that is there counts as missing; empty if it does not, or is blank."""
    if isinstance(value, list) and len(value) == 1:
        return cause_of_none(value[0])
    if not isinstance(value, str) or not value.strip():
        return ""
    if not (bare := _bare(value)):
        return f"it holds nothing that is seen, only U+{ord(value.strip()[0]):04X}"
    return f"{bare!r} stands for none" if bare.lower() in MISSING else ""


def _bare(text: str) -> str:
    """The text without what is not seen at its ends."""
    begin, end = 0, len(text)
    while begin < end and not _seen(text[begin]):
        begin += 1
    while begin < end and not _seen(text[end - 1]):
        end -= 1
    return text[begin:end]


def _seen(character: str) -> bool:
    return unicodedata.category(character) not in UNSEEN and character not in BLANK
