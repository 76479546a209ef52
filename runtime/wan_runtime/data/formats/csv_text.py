"""CSV as pandas takes it, with what is wrong named."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from wan_runtime.data.formats.text import invalid, short

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""Each with its name. Spreadsheets write semicolons where the comma is the decimal point."""
OTHER_DELIMITERS = "|¦^~\x1f"
OPENING, CLOSING = "“„‟”«»＂", "”“‟«»＂"
"""Quotes that look like `"`, and are letters of a field."""
QUOTED = r'"((?:[^"]++|"")*+)"'


def read_csv(name: str, text: str, wanted: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """(line, fields by the column's name) of each record below the header.

    The delimiter is the one that gives the header most of the `wanted` columns. As with pandas,
    fields that a record lacks at its end are empty. Records of empty fields are left out.
    Raises InputError(DATASET_INVALID).
    """
    if stated := re.match(r"sep=([,;\t])\n", text):  # Excel's own
        text = "\n" + text[stated.end() :]
    delimiter = _delimiter(text, wanted)
    records = _records(name, text, delimiter)
    header = [field.strip() for field in next(records, (0, []))[1]]
    if len(header) == 1 and (other := next((c for c in OTHER_DELIMITERS if c in header[0]), "")):
        said = f"has {other!r} between its fields: commas, semicolons and tabs are read"
        raise invalid(name, said)
    for column in wanted:
        if header.count(column) > 1:
            raise invalid(name, f"has {header.count(column)} columns {column!r}: rename the others")
    read = []
    for line, fields in records:
        if quote := _split_quote(fields):
            said = f'{quote} is no ": write " around a field that holds {DELIMITERS[delimiter]}'
            raise invalid(name, f"line {line}: {said}")
        if any(field.strip() for field in fields[len(header) :]):
            raise invalid(name, f"line {line} {_too_long(fields, header, delimiter)}")
        fields += [""] * (len(header) - len(fields))
        read.append((line, dict(zip(header, fields, strict=False))))
    return read


def _delimiter(text: str, wanted: Sequence[str]) -> str:
    """The one that splits the header into most wanted columns; of these, into most columns."""
    first = text.lstrip("\n").split("\n", 1)[0]

    def suits(delimiter: str) -> tuple[int, int]:
        header = [field.strip(' "') for field in first.split(delimiter)]
        return len(set(wanted) & set(header)), len(header)

    return max(DELIMITERS, key=suits)


def _records(name: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line of its beginning, fields) of each record that is not empty."""
    end = f"[^\\S\n{delimiter}]*(?=[{delimiter}\n]|\\Z)"
    field = re.compile(f'{QUOTED}{end}|(?!")([^{delimiter}\n]*)')
    at, line = 0, 1
    while at < len(text):
        begin, fields = line, []
        while True:
            found = field.match(text, at)
            if found is None:
                raise invalid(name, f"line {line}: {_bad_quote(text, at)}")
            fields.append(found[2] if found[1] is None else found[1].replace('""', '"'))
            line += found[0].count("\n")
            at = found.end()
            if not text.startswith(delimiter, at):
                break
            at += 1
        at, line = at + 1, line + 1
        if any(each.strip() for each in fields):
            yield begin, fields


def _bad_quote(text: str, at: int) -> str:
    closed = re.compile(QUOTED).match(text, at)
    if closed is None:
        return f"the quote before {short(text[at + 1 : at + 80])} is not closed"
    rest = short(text[closed.end() : closed.end() + 80].split("\n")[0])
    return f"{rest} follows a closing quote: write quotes within a field twice"


def _split_quote(fields: Sequence[str]) -> str:
    """The quote of another kind that begins a field and whose partner ends a later one: what was
    meant as one is split. Empty if there is none."""
    bare = [field.strip() for field in fields]
    for number, field in enumerate(bare):
        opens = field.startswith(tuple(OPENING)) and not set(CLOSING) & set(field[1:])
        if opens and any(each.endswith(tuple(CLOSING)) for each in bare[number + 1 :]):
            return field[0]
    return ""


def _too_long(fields: Sequence[str], header: Sequence[str], delimiter: str) -> str:
    said = f"has {len(fields)} fields, the header {len(header)}"
    if any(re.match(r'\s+"', field) for field in fields):
        return f"{said}: leave out the blank before a quote"
    return f"{said}: put captions that hold {DELIMITERS[delimiter]} into double quotes"
