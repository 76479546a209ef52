"""Captions that are none: each is the verdict of its row, and the others keep theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unit.runtime.test_formats import put, tar
from wan_runtime.contract.dataset import Columns, DatasetFormat
from wan_runtime.data.dataset import Code
from wan_runtime.data.formats.reader import read_listing
from wan_runtime.errors import InputError

NOTHING = [
    "\u200b",
    "\u200b\ufeff",
    "\u200c\u200d",
    " \u2060\n",
    "\u3164",
    "\u2800",
    "\u00ad",
    "\ufe0f",
]
ERRORS = ["#NAME?", "#REF!", "#VALUE!", "#DIV/0!", "#NUM!", "#NULL!", "#WERT!", "#¡REF!", "#ИМЯ?",
    "#NV", "Err:502", "#######", "\ufeff#REF!"]  # fmt: skip
TEXTS = ["#1!", "#wow!", "#", "#NAME? is shown", "👩\u200d🚀", "\u200bfox", "❤\ufe0f", "A!"]


def faults(
    folder: Path, files: dict[str, str | bytes], format: DatasetFormat = "Folder"
) -> dict[str, tuple[Code, str]]:
    rows = read_listing(put(folder, files), format, Columns()).rows
    assert all(bool(row.prompt) != bool(row.fault) for row in rows)
    found = {row.video.path: row.fault for row in rows}
    return {path: (fault.code, fault.message) for path, fault in found.items() if fault}


def in_each_format(folder: Path, captions: list[str]) -> list[dict[str, tuple[Code, str]]]:
    """The faults of the same clips as a table, a folder, a captions.json and a shard."""
    names = [f"{number}.mp4" for number in range(len(captions))]
    clips: dict[str, str | bytes] = dict.fromkeys(names, b"")
    texts = {f"{number}.txt": text for number, text in enumerate(captions)}
    table = [{"video": name, "prompt": text} for name, text in zip(names, captions, strict=True)]
    listed = json.dumps(dict(zip(names, captions, strict=True)))
    return [
        faults(folder / "a", {"metadata.json": json.dumps(table)}, "DiffSynth"),
        faults(folder / "b", {**clips, **texts}),
        faults(folder / "c", {**clips, "captions.json": listed}),
        faults(folder / "d", {"0.tar": tar({**clips, **texts})}, "WebDataset"),
    ]


def test_a_caption_of_which_nothing_is_seen_is_none(tmp_path: Path) -> None:
    for found in in_each_format(tmp_path, NOTHING):
        assert [code for code, _ in found.values()] == [Code.CAPTION_EMPTY] * len(NOTHING)
        assert next(iter(found.values()))[1].endswith("it holds nothing that is seen, only U+200B")


def test_the_error_of_a_spreadsheet_is_no_caption(tmp_path: Path) -> None:
    for found in in_each_format(tmp_path, ERRORS):
        assert [code for code, _ in found.values()] == [Code.CAPTION_INVALID] * len(ERRORS)
        assert "is '#NAME?', an error of a spreadsheet: write the" in next(iter(found.values()))[1]


def test_a_caption_that_lost_letters_is_rejected(tmp_path: Path) -> None:
    for found in in_each_format(tmp_path, ["a man drinks his caf\ufffd in the rain", "\ufffd"]):
        assert [code for code, _ in found.values()] == [Code.CAPTION_INVALID] * 2
        message = next(iter(found.values()))[1]
        assert "holds U+FFFD, left of what was lost, at 'ks his caf\ufffd in the r'" in message


def test_a_clips_name_may_have_lost_letters(tmp_path: Path) -> None:
    table = '[{"video": "caf\ufffd.mp4", "prompt": "x"}]'
    assert faults(tmp_path, {"metadata.json": table}, "DiffSynth") == {}


def test_what_looks_like_these_is_a_caption(tmp_path: Path) -> None:
    assert in_each_format(tmp_path, TEXTS) == [{}, {}, {}, {}]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"x\n\xe9", "is not UTF-8 in line 2: read as Windows-1252 it is 'é': save it as UTF-8"),
        (b"{\\rtf1 a fox}", "is rich text: save it as plain text"),
        (b"a f\x00o\x00x", "is no text, or UTF-16 without its mark, in line 1: save it as UTF-8"),
        (
            b"PK\x03\x04",
            "is a workbook, a Word file or a zip archive: save it as plain text in UTF-8",
        ),
    ],
)  # fmt: skip
def test_a_file_that_is_no_text_rejects_its_clip_alone(
    tmp_path: Path, content: bytes, says: str
) -> None:
    files: dict[str, str | bytes] = {"a.mp4": b"", "a.txt": content, "b.mp4": b"", "b.txt": "x"}
    bad = Code.CAPTION_INVALID
    assert faults(tmp_path / "a", files) == {"a.mp4": (bad, f"its caption a.txt {says}")}
    shard = faults(tmp_path / "b", {"0.tar": tar(files)}, "WebDataset")
    assert shard == {"0.tar/a.mp4": (bad, f"its caption 0.tar/a.txt {says}")}
    files["set.toml"] = '[[datasets]]\nvideo_directory = "."\n'
    assert faults(tmp_path / "c", files, "Musubi") == {"a.mp4": (bad, f"its caption a.txt {says}")}


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ("{", "its caption 0.tar/a.json line 1: "),
        ("[]", "its caption 0.tar/a.json is not an object"),
        (b"\xff", "its caption 0.tar/a.json is not UTF-8 in line 1"),
    ],
)
def test_a_record_of_a_shard_that_is_wrong_rejects_its_clip_alone(
    tmp_path: Path, record: str | bytes, says: str
) -> None:
    shard = tar({"a.mp4": b"", "a.json": record, "b.mp4": b"", "b.txt": "x"})
    ((path, (code, message)),) = faults(tmp_path, {"0.tar": shard}, "WebDataset").items()
    assert (path, code) == ("0.tar/a.mp4", Code.CAPTION_INVALID)
    assert message.startswith(says)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"caption": "x"}, "its caption in captions.json is an object: give one text"),
        ([["x", "y"], "z"], "its caption in captions.json is a list of 2: give one text"),
    ],
)
def test_an_entry_that_is_no_text_rejects_its_clip_alone(
    tmp_path: Path, value: object, says: str
) -> None:
    text = json.dumps({"a.mp4": value, "b.mp4": "x"})
    found = faults(tmp_path, {"a.mp4": b"", "b.mp4": b"", "captions.json": text})
    assert found == {"a.mp4": (Code.CAPTION_INVALID, says)}


def test_a_key_of_a_shard_ends_at_the_first_dot(tmp_path: Path) -> None:
    shard = tar({"my.clip.v2.mp4": b"", "my.clip.v2.txt": "x", "b.mp4": b"", "b.txt": "y"})
    found = faults(tmp_path, {"0.tar": shard}, "WebDataset")
    said = (
        "has no caption: 0.tar/my.clip.v2.txt is not of its key: a key ends at the first dot of a "
        "name, so leave only the dot of the suffix"
    )
    assert found == {"0.tar/my.clip.v2.mp4": (Code.CAPTION_EMPTY, said)}
    shard = tar({"my.one.mp4": b"", "my.two.mp4": b""})
    with pytest.raises(InputError, match="two videos of the key 'my': a key ends at the first dot"):
        faults(tmp_path, {"0.tar": shard}, "WebDataset")


@pytest.mark.parametrize("near", ["c.mp4.txt", "C.txt", "C.MP4.TXT"])
@pytest.mark.parametrize("others", [{}, {"a.mp4": b"", "a.txt": "x"}])
def test_a_caption_of_nearly_the_name_is_suggested(
    tmp_path: Path, near: str, others: dict[str, str | bytes]
) -> None:
    files: dict[str, str | bytes] = {**others, "c.mp4": b"", near: "x"}
    said = f"has no caption: c.txt is not there: rename {near}"
    assert faults(tmp_path, files) == {"c.mp4": (Code.CAPTION_EMPTY, said)}


def test_the_caption_of_another_clip_is_not_suggested(tmp_path: Path) -> None:
    found = faults(tmp_path, {"c.mp4": b"", "C.mp4": b"", "C.txt": "x"})
    assert found == {"c.mp4": (Code.CAPTION_EMPTY, "has no caption: c.txt is not there")}


@pytest.mark.parametrize("format", ["Folder", "Musubi"])
def test_clips_that_share_a_caption_are_named(tmp_path: Path, format: DatasetFormat) -> None:
    files: dict[str, str | bytes] = {"a.mp4": b"", "a.mov": b"", "a.txt": "x"}
    if format == "Musubi":
        files["set.toml"] = '[[datasets]]\nvideo_directory = "."\n'
    found = read_listing(put(tmp_path, files), format, Columns())
    assert [row.prompt for row in found.rows] == ["x", "x"]
    assert "a.txt is the caption of 2 clips: a.mov, a.mp4" in found.notes
