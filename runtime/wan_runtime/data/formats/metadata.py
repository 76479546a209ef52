"""Reading metadata.csv, .json and .jsonl as DiffSynth does, but with the mistakes named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from wan_runtime.contract.dataset import Columns
from wan_runtime.contract.reasons import Reason
from wan_runtime.data.formats.csv_text import read_csv
from wan_runtime.data.formats.inventory import TABLES, not_found
from wan_runtime.data.formats.json_text import json_lines, load_json, objects
from wan_runtime.data.formats.rows import Listing, Row, make_row
from wan_runtime.data.formats.suffixes import is_video
from wan_runtime.data.formats.text import invalid, keys_of, read_text, short
from wan_runtime.data.source import Source
from wan_runtime.errors import InputError

FORM = '[{"video": "a.mp4", "prompt": "what it shows"}, …]'


def read(source: Source, columns: Columns) -> Listing:
    """The rows of the dataset's metadata file."""
    there = [name for name in TABLES if source.size(name) is not None]
    if not there:
        raise not_found(source, " or ".join(TABLES), "DiffSynth")
    if len(there) > 1:
        raise invalid(" and ".join(there), "are there: leave the one that is meant")
    name = there[0]
    rows, unread = read_rows(name, read_text(source, name), columns)
    notes = (f"of {name} these columns are not read: {keys_of(unread)}",) if unread else ()
    return Listing(name, tuple(rows), (name,), notes, numbered=True)


def read_rows(name: str, text: str, columns: Columns) -> tuple[list[Row], list[str]]:
    """Rows of a metadata file, and its columns that are not read. Raises
    InputError(DATASET_INVALID, DATASET_EMPTY)."""
    names = list(columns.model_dump().values())
    records: list[tuple[int, Any]]
    if name.endswith(".csv"):
        place, records = "line", list(read_csv(name, text, names))
    elif name.endswith(".jsonl"):
        place, records = "line", list(json_lines(name, text))
    else:
        place, records = "entry", list(objects(name, enumerate(_json(name, text), 1), "entry"))
    if not records:
        raise InputError(Reason.DATASET_EMPTY, f"{name} lists no clip")
    present = list(dict.fromkeys(key for _, record in records for key in record))
    require(name, {field: getattr(columns, field) for field in ("video", "prompt")}, present)
    rows = [
        make_row(number, f"{name} {place} {at}", record, columns)
        for number, (at, record) in enumerate(records, 1)
    ]
    return rows, [key for key in present if key and key not in names]


def require(name: str, wanted: Mapping[str, str], present: list[str]) -> None:
    """Raises InputError(DATASET_INVALID) if there is no column for a field, with the likely names
    of all that are missing. `wanted`: column of each field."""
    missing = {field: column for field, column in wanted.items() if column not in present}
    if not missing:
        return
    if name.endswith(".csv") and any(map(is_video, present)):
        raise invalid(name, f"begins with {keys_of(present)}: its first line names the columns")
    likely = {key.strip().lower(): key for key in reversed(present)}
    settings = []
    for field, column in missing.items():
        names = (column.lower(), *LIKELY[field])
        alike = next((likely[each] for each in names if each in likely), None)
        settings.append(f"set dataset.columns.{field}" + (f": {alike}" if alike else ""))
    lacks = " and ".join(f"no column {column!r}" for column in missing.values())
    raise invalid(name, f"has {lacks}; it has {keys_of(present)}: {' and '.join(settings)}")


LIKELY = {
    "video": ("video", "video_path", "videos", "file_name", "filename", "file", "path", "clip"),
    "prompt": ("prompt", "caption", "text", "captions", "prompts", "description"),
}
"""Names of columns in other tools' tables."""


def _json(name: str, text: str) -> list[Any]:
    first, *others = [line.strip() for line in text.split("\n") if line.strip()] or [""]
    if first.startswith("{") and first.endswith("}") and others and others[0].startswith("{"):
        raise invalid(name, "holds JSON lines, an object a line: name it metadata.jsonl")
    content = load_json(name, text)
    if isinstance(content, list):
        return content
    if not isinstance(content, dict):
        raise invalid(name, f"is {short(json.dumps(content))}, not a list of objects: {FORM}")
    lists = [key for key, value in content.items() if isinstance(value, list)]
    inner = f"leave only the list below {lists[0]!r}" if len(lists) == 1 else f"write {FORM}"
    said = f"is one object with the keys {keys_of(content)}, not a list of objects"
    raise invalid(name, f"{said}: {inner}")
