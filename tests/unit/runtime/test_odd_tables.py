"""Odd datasets of every format, made up by Hypothesis, through `wan-runtime dataset check`."""

from __future__ import annotations

import io
import json
import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import videos
from unit.runtime.test_formats import put, tar
from wan_runtime import cli

EXAMPLES = 200
LIBRARIES = re.compile(
    r"Traceback|Error\b|Expecting|codec can|tokeniz|validation error|Errno|object has no|Extra data"
    r"|Unterminated|Expected '|Invalid (value|escape|statement)|at line \d+, column|input_value"
    r"|\b[a-z_]+\.[a-z_]+\(|strict\b|not supported between|NoneType|bad checksum|truncated header"
)
"""What parsers and Python itself say."""
TEXT = st.text("abé,;\"'\n\r\t\\/.{}[]: \ud83d\ufeff\u202e0N", max_size=12) | st.sampled_from(
    ["None", "nan", "a caption"]
)
NAME = st.sampled_from(
    [
        "a.mp4", "b.mp4", "cafe\u0301.mp4", "café.mp4", "in\\a.mp4", "./a.mp4", "../a.mp4",
        "/x/a.mp4", "C:\\a.mp4", "s3://x/a.mp4", "A.MP4", "in", "", ".", "n" * 300, "a.mp4 ",
    ]
)  # fmt: skip
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | NAME
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=3,
)  # fmt: skip
KEY = st.sampled_from(["video", "prompt", "source", "input_image", "caption", "video_path"]) | TEXT
RECORD = st.dictionaries(KEY, VALUE, max_size=4) | st.fixed_dictionaries(
    {"video": NAME | VALUE, "prompt": VALUE}
)
RECORDS = st.lists(RECORD, max_size=4)
LIKED = ["video_directory", "target_frames", "num_repeats", "caption_prefix", "path", "resolution"]


def raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def csv_of(rows: list[list[str]]) -> bytes:
    return raw("".join(",".join(row) + "\n" for row in rows))


def toml_of(tables: list[tuple[str, dict[str, object]]]) -> bytes:
    lines = []
    for name, fields in tables:
        lines += [f"[[{name}]]", *(f"{key} = {json.dumps(each)}" for key, each in fields.items())]
    return raw("\n".join(lines))


CELL = TEXT | NAME | TEXT.map(lambda text: '"' + text.replace('"', '""') + '"')
CSV = st.lists(st.lists(CELL, max_size=4), max_size=4).map(
    lambda rows: csv_of([["video", "prompt"], *rows])
)
JSON = RECORDS.map(lambda records: raw(json.dumps(records)))
LINES = RECORDS.map(lambda records: raw("\n".join(map(json.dumps, records))))
TOML = st.lists(
    st.tuples(
        st.sampled_from(["datasets", "directory", "x"]),
        st.dictionaries(st.sampled_from(LIKED), SCALAR | st.lists(st.integers(0, 99)), max_size=3)
        | st.just({"video_directory": ".", "target_frames": [1, 5, 6]})
        | TEXT.map(lambda text: {"path": "x", "caption_prefix": text}),
    ),
    max_size=3,
).map(toml_of)
TAR = st.dictionaries(
    st.sampled_from(["a.mp4", "a.txt", "a.TXT", "a.json", "b.mp4", "b.json", "../c.mp4", "d.jpg"]),
    TEXT.map(raw) | RECORD.map(lambda record: raw(json.dumps(record))) | st.just(b'{"prompt":"x"}'),
    max_size=5,
).map(lambda members: tar({**members}))


@st.composite
def damaged(draw: st.DrawFn, content: st.SearchStrategy[bytes]) -> bytes:
    """The content, sometimes with bytes that are lost, others that are put in, or re-encoded."""
    data = draw(content)
    how = draw(st.integers(0, 7))
    if how == 0 and data:
        at = draw(st.integers(0, len(data)))
        return data[:at] + draw(st.binary(max_size=4)) + data[at + draw(st.integers(0, 9)) :]
    if how == 1:
        encoding = draw(st.sampled_from(["utf-16", "utf-16-le", "latin-1", "utf-8-sig", "utf-32"]))
        return data.decode("utf-8", "replace").encode(encoding, "replace")
    return data


TEXTS = st.dictionaries(
    st.sampled_from(["a.txt", "B.TXT", "b.caption", "cafe\u0301.txt", "captions.json", "c.txt"]),
    damaged(TEXT.map(raw) | RECORDS.map(lambda records: raw(json.dumps(dict(enumerate(records)))))),
    max_size=4,
)
DATASETS = st.one_of(
    st.tuples(st.just("DiffSynth"), st.fixed_dictionaries({"metadata.csv": damaged(CSV)})),
    st.tuples(st.just("DiffSynth"), st.fixed_dictionaries({"metadata.json": damaged(JSON)})),
    st.tuples(st.just("DiffSynth"), st.fixed_dictionaries({"metadata.jsonl": damaged(LINES)})),
    st.tuples(st.just("Folder"), TEXTS),
    st.tuples(st.just("Folder"), st.fixed_dictionaries({"d.toml": damaged(TOML), "a.txt": CSV})),
    st.tuples(st.just("Musubi"), st.fixed_dictionaries({"d.toml": damaged(TOML), "a.txt": CSV})),
    st.tuples(
        st.just("Musubi"),
        st.fixed_dictionaries(
            {
                "d.toml": st.just(b'[[datasets]]\nvideo_jsonl_file = "m"\n'),
                "m": damaged(LINES.map(lambda data: data.replace(b'"video"', b'"video_path"')
                                       .replace(b'"prompt"', b'"caption"'))),
            }
        ),
    ),
    st.tuples(st.just("WebDataset"), st.fixed_dictionaries({"0.tar": damaged(TAR)})),
)  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small good one."""
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    rng = np.random.default_rng(0)
    videos.write(path, iter(rng.integers(0, 255, (6, 64, 64, 3), np.uint8)))
    return path.read_bytes()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@settings(max_examples=EXAMPLES, derandomize=True, deadline=None)
@given(dataset=DATASETS)
def test_every_dataset_gets_verdicts_or_is_refused_in_words(
    clip: bytes, dataset: tuple[str, dict[str, bytes]]
) -> None:
    form, files = dataset
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "set"
        put(folder, {"a.mp4": clip, "b.mp4": b"no clip", "cafe\u0301.mp4": clip, **files})
        out, err = io.StringIO(), io.StringIO()
        options = ["--format", form, "--preset", "Wan2.1-I2V-Tiny", "--frames", "5"]
        options += ["--width", "64", "--height", "64", "--skip-rejected"]
        options += ["--report", str(Path(name) / "report.html")]
        with redirect_stdout(out), redirect_stderr(err):
            code = cli.main(["dataset", "check", str(folder), *options])
    said = out.getvalue() + err.getvalue()
    assert code in (0, 10), said
    assert not LIBRARIES.search(said.replace(name, "")), said
    said.encode()
    found = re.search(r"^(\d+) clips? of ", out.getvalue(), re.MULTILINE)
    if found is None:
        event(f"{form}: refused")
        assert re.match(r"error: Dataset\w+: .{20}", err.getvalue()), said
        return
    event(f"{form}: verdicts")
    rejected = re.findall(r"^rejected  (?:row \d+  )?.*  \w+: .{5}", out.getvalue(), re.MULTILINE)
    stated = re.search(r"(\d+) rejected: ", out.getvalue())
    assert len(rejected) == (int(stated[1]) if stated else 0), said
