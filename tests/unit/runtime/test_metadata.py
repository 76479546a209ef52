"""Metadata files and the split: no store, no clips."""

from __future__ import annotations

import re

import pytest

from wan_runtime.contract.dataset import Columns
from wan_runtime.contract.reasons import Reason
from wan_runtime.data.formats.metadata import read_rows
from wan_runtime.data.formats.text import decode
from wan_runtime.data.split import held_out
from wan_runtime.errors import InputError


def rows_of(name: str, text: str | bytes, **columns: str) -> list[tuple[str, str, str]]:
    data = text if isinstance(text, bytes) else text.encode()
    rows, _ = read_rows(name, decode(name, data), Columns(**columns))
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    return [(row.video.path, row.prompt, row.source) for row in rows]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.csv", 'video,prompt,source\na.mp4,"x, y",s\nb.mp4,,\n'),
        ("metadata.csv", '\ufeffprompt,video,source\r\n"x, y",a.mp4,s\r\n\r\n,b.mp4,\r\n'),
        (
            "metadata.json",
            '[{"video":"a.mp4","prompt":"x, y","source":"s"},{"video":"b.mp4","prompt":NaN}]',
        ),
        (
            "metadata.jsonl",
            '{"video":"a.mp4","prompt":"x, y","source":"s"}\n\n{"video":"b.mp4","prompt":null}\n',
        ),
    ],
)
def test_the_three_formats_say_the_same(name: str, text: str) -> None:
    assert rows_of(name, text) == [("a.mp4", "x, y", "s"), ("b.mp4", "", "b.mp4")]


def test_columns_may_have_other_names() -> None:
    text = "file,text,film\na,b,7\n"
    assert rows_of("metadata.csv", text, video="file", prompt="text", source="film") == [
        ("a", "b", "7")
    ]


@pytest.mark.parametrize(
    ("name", "text", "reason", "message"),
    [
        ("metadata.csv", "", Reason.DATASET_EMPTY, "metadata.csv lists no clip"),
        ("metadata.csv", "video,prompt\n", Reason.DATASET_EMPTY, "lists no clip"),
        ("metadata.json", "[]", Reason.DATASET_EMPTY, "lists no clip"),
        (
            "metadata.csv", "file,prompt\na,b\n", Reason.DATASET_INVALID,
            "no column 'video'; it has 'file', 'prompt': set dataset.columns.video",
        ),
        ("metadata.jsonl", '{"video":"a"}', Reason.DATASET_INVALID, "no column 'prompt'"),
        (
            "metadata.csv", "video,prompt\na,b\nc,d, and e\n", Reason.DATASET_INVALID,
            "line 3 has 3 fields, the header 2: put captions that hold commas into double quotes",
        ),
        ("metadata.csv", 'video,prompt\na,"b\n', Reason.DATASET_INVALID, "'b' is not closed"),
        ("metadata.csv", b"video,prompt\na,\xff\n", Reason.DATASET_INVALID, "UTF-8 in line 2"),
        ("metadata.json", '[{"video":', Reason.DATASET_INVALID, "line 1: "),
        ("metadata.json", '{"a": 1}', Reason.DATASET_INVALID, "is one object with the keys 'a', n"),
        ("metadata.jsonl", '{"video":"a"}\n{', Reason.DATASET_INVALID, "line 2: "),
        ("metadata.jsonl", '{"a":1}\n\n[1]', Reason.DATASET_INVALID, "line 3 is '[1]', not an"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_metadata_file_is_named(
    name: str, text: str | bytes, reason: Reason, message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        rows_of(name, text)
    assert caught.value.reason is reason


@pytest.mark.parametrize("count", [2, 3, 10, 37, 200])
@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.9, 0.99, 1.0])
def test_the_split_keeps_its_share_and_both_sides(count: int, fraction: float) -> None:
    sources = [f"film {n}" for n in range(count)]
    out = held_out(sources, train_fraction=fraction, seed=0)
    assert 1 <= len(out) <= count - 1
    assert len(out) == min(max(round(count * (1 - fraction)), 1), count - 1)
    assert out < set(sources)
    assert held_out(reversed(sources * 3), train_fraction=fraction, seed=0) == out


def test_another_seed_is_another_split() -> None:
    sources = [f"film {n}" for n in range(50)]
    drawn = {frozenset(held_out(sources, train_fraction=0.9, seed=seed)) for seed in range(20)}
    assert len(drawn) == 20


def test_growth_moves_few_recordings() -> None:
    before = held_out([f"film {n}" for n in range(100)], train_fraction=0.9, seed=0)
    after = held_out([f"film {n}" for n in range(110)], train_fraction=0.9, seed=0)
    assert len(before & after) >= 8


def test_one_recording_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="one recording"):
        held_out(["a", "a"], train_fraction=0.5, seed=0)
