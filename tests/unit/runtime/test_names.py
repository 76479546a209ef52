"""Names in a table that are written otherwise than the file's own, and paths that leave it."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from unit.runtime.test_formats import put
from wan_runtime.artifacts.store import Store
from wan_runtime.data import names as names_module
from wan_runtime.data.names import Names
from wan_runtime.data.source import FolderSource, Source, StoreSource, path_fault
from wan_runtime.errors import InputError

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.fixture(params=["folder", "bucket"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """Some files, in a folder or in a bucket."""
    files: list[str] = [
        "C0.MP4", "in/a.mp4", "two/a.mp4", f"{NFD}.mp4", f"{NFD}/{NFC}.mov", f"x{NFC}{NFD}.mp4",
        f"x{NFD}{NFC}.mp4", f"{NFC}1.mp4", f"{NFD}1.mp4", "in/b\\c.mp4", "in/b/c.mp4", "only.mkv",
        f"in/{NFC}.mp4",
    ]  # fmt: skip
    if request.param == "folder":
        return put(tmp_path, dict.fromkeys(files, b"x"))
    store: Store = request.getfixturevalue("store")
    for path in files:
        store.put_bytes(f"names/{path}", b"x")
    return StoreSource(store, "names")


def test_a_name_is_found_in_the_form_that_the_file_has(source: Source) -> None:
    names = Names(source)
    assert names.find("in/a.mp4") == "in/a.mp4"
    assert names.find("in\\a.mp4") == "in/a.mp4"
    assert names.find(f"{NFC}.mp4") == f"{NFD}.mp4"
    assert names.find(f"{NFC}/{NFC}.mov") == f"{NFD}/{NFC}.mov", "of each folder another form"
    assert names.find(f"{NFC}\\{NFD}.mov") == f"{NFD}/{NFC}.mov"


def test_a_name_is_found_among_any_number_of_files(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names_module, "LISTED", 0)
    names = Names(source)
    assert names.find(f"{NFC}.mp4") == f"{NFD}.mp4"
    assert names.find(f"in\\{NFD}.mp4") == f"in/{NFC}.mp4"
    assert names.find("other.mp4") is None


def test_of_several_alike_only_the_exact_name_is_meant(source: Source) -> None:
    names = Names(source)
    assert names.find(f"{NFC}1.mp4") == f"{NFC}1.mp4"
    assert names.find(f"{NFD}1.mp4") == f"{NFD}1.mp4"
    assert names.find("in/b\\c.mp4") == "in/b\\c.mp4", "a file may be called so"
    both = f"x{NFC}{NFC}.mp4"
    assert names.find(both) is None
    assert "; several files look like it: 'xcaf\\xe9cafe\\u0301.mp4', 'xcafe" in names.hint(both)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("c0.mp4", "; did you mean C0.MP4?"),
        ("clips\\.\\\\C0.MP4", "; did you mean C0.MP4?"),
        ("/data/me/only.mkv", "; did you mean only.mkv?"),
        ("C:\\Users\\me\\Only.mkv", "; did you mean only.mkv?"),
        ("only", "; did you mean only.mkv?"),
        ("only.mp4", "; did you mean only.mkv?"),
        ("a.mp4", "; files of this name are in/a.mp4, two/a.mp4"),
        ("in", "; it is a folder, not a file"),
        (".", ""),
        ("only%2Emkv", "; did you mean only.mkv?"),
        ("https://x.de/set/C0%2eMP4", "; did you mean C0.MP4?"),
        ("other.mp4", ""),
    ],
)
def test_what_may_be_meant_is_said(source: Source, path: str, hint: str) -> None:
    names = Names(source)
    assert path_fault(path) or names.find(path) is None
    assert names.hint(path) == hint


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("in/a.mp4", None),
        ("in\\a.mp4", None),
        ("./in//a.mp4", None),
        ("é" * 125 + ".mp4", None),
        ("", "names no file"),
        (".", "names no file"),
        ("/data/a.mp4", "is not relative to dataset.source, but a path of some machine"),
        ("C:\\data\\a.mp4", "is not relative to dataset.source, but a path of some machine"),
        ("c:/data/a.mp4", "is not relative to dataset.source, but a path of some machine"),
        ("\\\\server\\a.mp4", "is not relative to dataset.source, but a path of some machine"),
        ("https://x/a.mp4", "is an address, not relative to dataset.source: put the file there"),
        ("s3://x/a.mp4", "is an address, not relative to dataset.source: put the file there"),
        ("../a.mp4", "leaves dataset.source"),
        ("\\data\\a.mp4", "is not relative to dataset.source, but a path of some machine"),
        ("in\\..\\..\\a.mp4", "leaves dataset.source"),
        ("a\0.mp4", "leaves dataset.source"),
        ("a" * 256, "is no path: a name has at most 255 bytes, a path 900"),
        ("é" * 128, "is no path: a name has at most 255 bytes, a path 900"),
        ("in/" * 300 + "a", "is no path: a name has at most 255 bytes, a path 900"),
        ("a\udce9.mp4", "is not UTF-8: rename it"),
    ],
)
def test_a_path_that_cannot_be_below_the_root_is_named(path: str, fault: str | None) -> None:
    assert path_fault(path) == fault


def test_a_folder_that_cannot_be_read_as_names_is_named(tmp_path: Path) -> None:
    source = put(tmp_path, {"a.mp4": b""})
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert source.size("loop") is None
    assert source.size("n" * 5000) is None
    assert [found.path for found in source.files()] == ["a.mp4"]
    (tmp_path / "caf\udce9.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=r"the file name 'caf\\udce9.mp4' is not UTF-8: rename it"):
        list(FolderSource(tmp_path).files())


def test_a_file_that_is_in_icloud_only_is_named(tmp_path: Path) -> None:
    source = put(tmp_path, {"in/.A clip.mov.icloud": b"bplist", "b.mp4": b"x"})
    for written in ("in/A clip.mov", "in\\a clip.MOV"):
        assert Names(source).hint(written) == "; it is in iCloud only: download it first"
    assert Names(source).hint("c.mp4") == ""
