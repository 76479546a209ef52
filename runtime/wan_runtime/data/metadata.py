"""Reading metadata.csv, .json and .jsonl as DiffSynth does, but with the mistakes named."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wan_runtime.artifacts.store import Store
from wan_runtime.errors import InputError
from wan_runtime.job import Columns, Reason

NAMES = ("metadata.csv", "metadata.json", "metadata.jsonl")
"""In the order in which they are looked for."""
MAX_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Row:
    """One clip as the file states it."""

    number: int
    """Counted from 1, without the header."""
    video: str
    prompt: str
    """Empty if it is missing, NaN or blank."""
    source: str
    """The recording; the video's own path if the file does not say."""


def find_metadata(store: Store, prefix: str) -> tuple[str, bytes]:
    """(name, content) of the dataset's metadata file.

    Raises InputError(DATASET_NOT_FOUND, DATASET_INVALID if it is too large).
    """
    for name in NAMES:
        key = f"{prefix}/{name}" if prefix else name
        found = store.stat(key)
        if found is None:
            continue
        if found.bytes > MAX_BYTES:
            raise _invalid(name, f"has {found.bytes} bytes; at most {MAX_BYTES} are read")
        return name, store.get_bytes(key)
    raise InputError(
        Reason.DATASET_NOT_FOUND,
        f"{store.uri(prefix)} holds none of {', '.join(NAMES)}: check dataset.source",
    )


def read_rows(name: str, data: bytes, columns: Columns) -> list[Row]:
    """Rows of a metadata file. Raises InputError(DATASET_INVALID, DATASET_EMPTY)."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _invalid(name, f"is not UTF-8 in line {line}") from error
    if name.endswith(".csv"):
        records = _csv(name, text)
    elif name.endswith(".jsonl"):
        records = _jsonl(name, text)
    else:
        records = _json(name, text)
    if not records:
        raise InputError(Reason.DATASET_EMPTY, f"{name} lists no clip")
    present = list(dict.fromkeys(key for record in records for key in record))
    for field in ("video", "prompt"):
        wanted = getattr(columns, field)
        if wanted not in present:
            raise _invalid(
                name,
                f"has no column {wanted!r}; it has {', '.join(map(repr, present))}: "
                f"set dataset.columns.{field}",
            )
    return [_row(number, record, columns) for number, record in enumerate(records, 1)]


def _row(number: int, record: Mapping[str, object], columns: Columns) -> Row:
    video = _text(record.get(columns.video))
    return Row(
        number=number,
        video=video,
        prompt=_text(record.get(columns.prompt)),
        source=_text(record.get(columns.source)) or video,
    )


def _text(value: object) -> str:
    # pandas writes a missing caption as NaN, into CSV on request as the word.
    if isinstance(value, str):
        text = value.strip()
        return "" if text.lower() == "nan" else text
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _csv(name: str, text: str) -> list[dict[str, object]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [(reader.line_num, fields) for fields in reader if fields]
    except csv.Error as error:
        raise _invalid(name, f"line {reader.line_num}: {error}") from error
    if not lines:
        return []
    header = [field.strip() for field in lines[0][1]]
    for line, fields in lines[1:]:
        if len(fields) != len(header):
            raise _invalid(
                name,
                f"line {line} has {len(fields)} fields, the header {len(header)}: "
                "put captions that hold commas into double quotes",
            )
    return [dict(zip(header, fields, strict=True)) for _, fields in lines[1:]]


def _json(name: str, text: str) -> list[dict[str, object]]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise _invalid(name, f"line {error.lineno}: {error.msg}") from error
    if not isinstance(content, list):
        raise _invalid(name, "is not a list of objects")
    return _objects(name, enumerate(content, 1), "entry")


def _jsonl(name: str, text: str) -> list[dict[str, object]]:
    entries = []
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            entries.append((line, json.loads(content)))
        except json.JSONDecodeError as error:
            raise _invalid(name, f"line {line}: {error.msg}") from error
    return _objects(name, entries, "line")


def _objects(
    name: str, entries: Iterable[tuple[int, object]], place: str
) -> list[dict[str, object]]:
    records = []
    for number, entry in entries:
        if not isinstance(entry, dict):
            raise _invalid(name, f"{place} {number} is not an object")
        records.append(entry)
    return records


def _invalid(name: str, message: str) -> InputError:
    return InputError(Reason.DATASET_INVALID, f"{name} {message}")
