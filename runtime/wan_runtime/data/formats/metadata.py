"""Reading metadata.csv, .json and .jsonl as DiffSynth does, but with the mistakes named."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping

from wan_runtime.data.formats.rows import Listing, Row, invalid, not_found, plain, read_text
from wan_runtime.data.source import Place, Source
from wan_runtime.errors import InputError
from wan_runtime.job import Columns, Reason

NAMES = ("metadata.csv", "metadata.json", "metadata.jsonl")
"""In the order in which they are looked for."""


def read(source: Source, columns: Columns) -> Listing:
    """The rows of the dataset's metadata file."""
    name = next((name for name in NAMES if source.size(name) is not None), None)
    if name is None:
        raise not_found(source, " or ".join(NAMES))
    return Listing(name, tuple(read_rows(name, read_text(source, name), columns)), (name,))


def read_rows(name: str, text: str, columns: Columns) -> list[Row]:
    """Rows of a metadata file. Raises InputError(DATASET_INVALID, DATASET_EMPTY)."""
    if name.endswith(".csv"):
        records = _csv(name, text)
    elif name.endswith(".jsonl"):
        records = [record for _, record in json_lines(name, text)]
    else:
        records = _json(name, text)
    if not records:
        raise InputError(Reason.DATASET_EMPTY, f"{name} lists no clip")
    present = list(dict.fromkeys(key for record in records for key in record))
    for field in ("video", "prompt"):
        wanted = getattr(columns, field)
        if wanted not in present:
            raise invalid(
                name,
                f"has no column {wanted!r}; it has {', '.join(map(repr, present))}: "
                f"set dataset.columns.{field}",
            )
    return [_row(number, record, columns) for number, record in enumerate(records, 1)]


def json_lines(name: str, text: str) -> Iterator[tuple[int, dict[str, object]]]:
    """(line, object) of a JSON lines file. Raises InputError(DATASET_INVALID)."""
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            yield from _objects(name, [(line, json.loads(content))], "line")
        except json.JSONDecodeError as error:
            raise invalid(name, f"line {line}: {error.msg}") from error


def _row(number: int, record: Mapping[str, object], columns: Columns) -> Row:
    video = plain(record.get(columns.video))
    return Row(
        number=number,
        video=Place(video),
        prompt=plain(record.get(columns.prompt)),
        source=plain(record.get(columns.source)) or video,
        first_frame=plain(record.get(columns.first_frame)),
        control_video=plain(record.get(columns.control_video)),
        vace_video=plain(record.get(columns.vace_video)),
    )


def _csv(name: str, text: str) -> list[dict[str, object]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [(reader.line_num, fields) for fields in reader if fields]
    except csv.Error as error:
        raise invalid(name, f"line {reader.line_num}: {error}") from error
    if not lines:
        return []
    header = [field.strip() for field in lines[0][1]]
    for line, fields in lines[1:]:
        if len(fields) != len(header):
            raise invalid(
                name,
                f"line {line} has {len(fields)} fields, the header {len(header)}: "
                "put captions that hold commas into double quotes",
            )
    return [dict(zip(header, fields, strict=True)) for _, fields in lines[1:]]


def _json(name: str, text: str) -> list[dict[str, object]]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise invalid(name, f"line {error.lineno}: {error.msg}") from error
    if not isinstance(content, list):
        raise invalid(name, "is not a list of objects")
    return [record for _, record in _objects(name, enumerate(content, 1), "entry")]


def _objects(
    name: str, entries: Iterable[tuple[int, object]], place: str
) -> Iterator[tuple[int, dict[str, object]]]:
    for number, entry in entries:
        if not isinstance(entry, dict):
            raise invalid(name, f"{place} {number} is not an object")
        yield number, entry
