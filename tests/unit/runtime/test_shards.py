"""Shards of WebDataset as other tools write them. No clip is decoded."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from unit.runtime.test_formats import put, tar
from wan_runtime.contract.dataset import Columns
from wan_runtime.data.formats.reader import read_listing
from wan_runtime.data.formats.rows import Listing
from wan_runtime.errors import InputError


def listing(
    folder: Path, members: dict[str, str | bytes], columns: Columns | None = None
) -> Listing:
    return read_listing(put(folder, {"0.tar": tar(members)}), "WebDataset", columns or Columns())


def test_suffixes_count_in_lower_case(tmp_path: Path) -> None:
    """webdataset e0953f9 (tariterators.py) gives keys in lower case: .TXT is txt."""
    members: dict[str, str | bytes] = {
        "A.MP4": "", "A.TXT": "x", "b.Webm": "", "b.JSON": '{"prompt": "y"}', "c.gif": "",
        "c.caption": "z",
    }  # fmt: skip
    found = listing(tmp_path, members)
    assert [(row.video.path, row.prompt) for row in found.rows] == [
        ("0.tar/A.MP4", "x"), ("0.tar/b.Webm", "y"), ("0.tar/c.gif", "z"),
    ]  # fmt: skip
    assert found.notes == ()


def test_the_key_of_captions_in_json_is_named(tmp_path: Path) -> None:
    """video2dataset and img2dataset write `caption`."""
    record = json.dumps({"caption": "x", "url": "http://x", "duration": 3})
    members: dict[str, str | bytes] = {"a.mp4": "", "a.json": record, "b.mp4": "", "b.json": record}
    says = "the .json of 1 shard has no column 'prompt'; it has 'caption', 'url', 'duration': set "
    with pytest.raises(InputError, match=re.escape(f"{says}dataset.columns.prompt: caption")):
        listing(tmp_path, members)
    found = listing(tmp_path, members, Columns(prompt="caption"))
    assert [row.prompt for row in found.rows] == ["x", "x"]
    assert found.notes == ("of their .json these keys are not read: 'duration', 'url'",)


def test_what_is_left_out_or_lacks_a_caption_is_named(tmp_path: Path) -> None:
    members: dict[str, str | bytes] = {
        "a.mp4": "", "a.txt": "x", "b.mp4": "", "b.jpg": "", "c.mp4": "", "c.txt": " ",
        "d.mp4": "", "d.json": '{"text": "y"}', "e.npy": "", "e.txt": "z", "f.mp4": "",
        "f.txt": "NaN", "__MACOSX/a.mp4": "", "._a.mp4": "",
    }  # fmt: skip
    put(tmp_path, {"README.md": "", "stray.mp4": ""})
    found = listing(tmp_path, members)
    assert [row.fault and row.fault.message for row in found.rows] == [
        None,
        "has no caption: beside it are jpg",
        "has no caption: its .txt is empty",
        "has no caption: of its .json, prompt is empty or not there",
        "has no caption: 'NaN' stands for none",
    ]
    assert found.notes == (
        "left out: samples without a video (1): 0.tar/e",
        "left out: members of other kinds: 1 .jpg, 1 .npy",
        "of their .json these keys are not read: 'text'",
        "left out: other files (2): README.md, stray.mp4",
    )


TWO: dict[str, str | bytes] = {"a.mp4": "", "a.txt": "x"}


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"0.tar.gz": gzip.compress(tar(TWO))}, "0.tar.gz is compressed, and clips are read from"),
        ({"0.tar": tar(TWO), "1.tgz": b"x"}, "1.tgz is compressed"),
        ({"0.tar": gzip.compress(tar(TWO))}, "0.tar is compressed"),
        ({"0.tar": tar({**TWO, "a.TXT": "y"})}, "0.tar holds two captions of the key 'a'"),
        ({"0.tar": tar({"a.json": "{}", "a.JSON": "{}"})}, "0.tar holds two captions of the key '"),
        ({"0.tar": tar({"caf\udce9.mp4": ""})}, "0.tar holds 'caf\\udce9.mp4', which is not UTF-8"),
        ({"0.tar": tar({"a" * 300 + ".mp4": ""})}, "is no path: a name has at most 255 bytes"),
        ({"0.tar": tar(TWO) + tar({"b.mp4": "", "b.txt": "y"})}, "0.tar goes on after its end"),
        ({"0.tar": b"x" * 1024}, "0.tar is no whole tar archive: after byte 0 it is cut off or da"),
        ({"0.tar": tar(TWO)[:1536]}, "0.tar is no whole tar archive: after byte 1536 it is cut of"),
    ],
)  # fmt: skip
def test_ten_worst_shards(tmp_path: Path, files: dict[str, str | bytes], says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        read_listing(put(tmp_path, files), "WebDataset", Columns())
