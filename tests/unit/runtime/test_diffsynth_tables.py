"""Metadata as DiffSynth's own dataset class reads it, on the same files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas
import pytest
from diffsynth.core.data.unified_dataset import UnifiedDataset
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from wan_runtime.contract.dataset import Columns
from wan_runtime.data.formats.cells import MISSING
from wan_runtime.data.formats.metadata import read_rows
from wan_runtime.data.formats.rows import Row
from wan_runtime.data.formats.text import decode
from wan_runtime.errors import InputError


def theirs(path: Path) -> list[dict[str, Any]]:
    return list(UnifiedDataset(base_path=str(path.parent), metadata_path=str(path)).data)


def ours(path: Path) -> list[Row]:
    return read_rows(path.name, decode(path.name, path.read_bytes()), Columns())[0]


def same(mine: str, cell: Any) -> bool:
    """Whether a text is what DiffSynth has. pandas makes numbers of columns that may be numbers."""
    if not mine or pandas.isna(cell):
        return not mine and (pandas.isna(cell) or str(cell).strip().lower() in MISSING)
    if isinstance(cell, str):
        return mine == re.sub("\r\n?", "\n", cell).strip()
    return float(mine) == float(cell)


TABLE = [
    {"video": "a.mp4", "prompt": 'a "quoted", long\ncaption', "input_image": None},
    {"video": "b.mp4", "prompt": "None", "input_image": "b.png"},
    {"video": "c.mp4", "prompt": "ünïcode", "input_image": "N/A"},
    {"video": "d.mp4", "prompt": None, "input_image": ""},
]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.json", "metadata.jsonl"])
def test_the_rows_of_a_table_that_pandas_wrote(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".csv"):
        pandas.DataFrame(TABLE).to_csv(path, index=False)
    elif name.endswith(".json"):
        path.write_text(json.dumps(TABLE))
    else:
        path.write_text("\n".join(map(json.dumps, TABLE)))
    for mine, row in zip(ours(path), theirs(path), strict=True):
        assert same(mine.video.path, row["video"])
        assert same(mine.prompt, row["prompt"])
        assert same(mine.first_frame, row["input_image"])


def test_words_that_pandas_takes_for_missing_are_missing() -> None:
    from pandas._libs.parsers import STR_NA_VALUES

    assert {word.lower() for word in STR_NA_VALUES} == MISSING


FIELD = st.text(alphabet='ab,"; é\n\r\t7', max_size=6)
QUOTED = FIELD.map(lambda text: '"' + text.replace('"', '""') + '"')
PIECE = FIELD | QUOTED | st.sampled_from([",", ",", "\n", "\n", "\r\n", " ", "N/A", "None", "nan"])
COLUMNS = ("video", "prompt")
BODIES = st.lists(PIECE, max_size=12).map("".join)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(body=BODIES)
def test_any_csv_gives_the_rows_of_diffsynth_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, body: str
) -> None:
    """Where pandas reads a text as rows of two fields, so do we, or we say why not.

    After a blank line that ends in a carriage return alone, pandas 3.1.1 loses an empty first field
    of the next line, and its other fields move."""
    assume("\r," not in body)
    path = tmp_path_factory.getbasetemp() / "metadata.csv"
    path.write_bytes(f"video,prompt\n{body}".encode())
    rows, refusal = [], ""
    try:
        rows = ours(path)
    except InputError as error:
        refusal = error.message
        event(f"refused: {refusal.split(': ')[-1]}")
    if refusal:
        assert "line " in refusal or refusal == "metadata.csv lists no clip"
        return
    try:
        frame = pandas.read_csv(path)
        records = theirs(path)
    except pandas.errors.ParserError:
        event("pandas refuses")  # rows of unequal length
        return
    if not isinstance(frame.index, pandas.RangeIndex):
        event("pandas takes the first field for an index")
        return
    records = [each for each in records if not all(same("", each[key]) for key in COLUMNS)]
    event("both read")
    kept = [row for row in rows if row.video.path or row.prompt]
    assert len(kept) == len(records)
    for mine, row in zip(kept, records, strict=True):
        assert same(mine.video.path, row["video"])
        assert same(mine.prompt, row["prompt"])
