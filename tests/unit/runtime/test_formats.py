"""Every format gives the same rows; what is wrong with one is named. Folders here, the store in
test_prepare."""

from __future__ import annotations

import io
import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.dataset import Columns, DatasetFormat
from wan_runtime.contract.reasons import Reason
from wan_runtime.data.formats import webdataset
from wan_runtime.data.formats.reader import read_listing
from wan_runtime.data.formats.rows import Row
from wan_runtime.data.source import FolderSource, Place, StoreSource
from wan_runtime.errors import InputError

CAPTIONS = {"a": "a fox, running", "b": "zwei Füchse"}


def put(folder: Path, files: dict[str, str | bytes]) -> FolderSource:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return FolderSource(folder)


def tar(members: dict[str, str | bytes], **options: int) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", **options) as archive:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def shown(row: Row) -> tuple[str, str]:
    return Path(row.video.path).stem, row.prompt


def error_of(
    folder: Path, format: DatasetFormat, files: dict[str, str | bytes], reason: Reason
) -> str:
    with pytest.raises(InputError) as caught:
        read_listing(put(folder, files), format, Columns())
    assert caught.value.reason is reason, caught.value.message
    return caught.value.message


SAME: list[tuple[DatasetFormat, dict[str, str | bytes]]] = [
    (
        "DiffSynth",
        {"metadata.csv": 'video,prompt\na.mp4,"a fox, running"\nb.mp4,zwei Füchse\n'},
    ),
    (
        "Musubi",
        {
            "set.toml": '[general]\nresolution = [960, 544]\n[[datasets]]\n'
            'video_jsonl_file = "lists/m.jsonl"\n',
            "lists/m.jsonl": "".join(
                json.dumps({"video_path": f"{name}.mp4", "caption": text}) + "\n"
                for name, text in CAPTIONS.items()
            ),
        },
    ),
    (
        "Musubi",
        {
            "set.toml": '[general]\ncaption_extension = ".cap"\n'
            '[[datasets]]\nvideo_directory = "one"\n[[datasets]]\nvideo_directory = "two"\n',
            "one/a.mp4": b"", "one/a.cap": " a fox, running\n", "one/deeper/x.mp4": b"",
            "two/b.MOV": b"", "two/b.cap": "\ufeffzwei Füchse", "two/b.txt": "not this",
        },
    ),
    (
        "Folder",
        {
            "in/a.mp4": b"", "in/a.txt": "a fox, running\n", "b.webm": b"", "b.txt": "zwei Füchse",
            "in/cover.jpg": b"", "in/._a.mp4": b"", "in/._a.txt": b"\xff", ".trash/c.mp4": b"",
        },
    ),
    (
        "WebDataset",
        {
            "0.tar": tar(
                {"./x/._a.mp4": b"", "./x/a.txt": "a fox, running\n", "./x/a.mp4": b"0" * 90_000}
            ),
            "1.tar": tar({"b.mp4": b"1", "b.json": json.dumps({"prompt": "zwei Füchse"})}),
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("format", "files"), SAME, ids=lambda value: str(value)[:12])
def test_all_formats_say_the_same(
    tmp_path: Path, format: DatasetFormat, files: dict[str, str | bytes]
) -> None:
    listing = read_listing(put(tmp_path, files), format, Columns())
    assert dict(map(shown, listing.rows)) == CAPTIONS
    assert [row.number for row in listing.rows] == [1, 2]
    assert {row.source for row in listing.rows} == {row.video.path for row in listing.rows}
    assert all((tmp_path / name).is_file() for name in listing.files)
    assert read_listing(FolderSource(tmp_path), format, Columns()).digest() == listing.digest()
    other = replace(listing.rows[1], prompt="zwei Hasen")
    assert replace(listing, rows=(listing.rows[0], other)).digest() != listing.digest()


def test_optional_columns_are_read(tmp_path: Path) -> None:
    record = {
        "video": "a.mp4", "prompt": "x", "source": "film", "input_image": "a.png",
        "control_video": "c.mp4", "vace_video": "v.mp4",
    }  # fmt: skip
    files: dict[str, str | bytes] = {
        "metadata.jsonl": json.dumps(record),
        "0.tar": tar({"a.mp4": b"0", "a.json": json.dumps(record)}),
        "d.toml": '[[datasets]]\nvideo_jsonl_file = "m.jsonl"\n[[datasets]]\n'
        'video_directory = "v"\ncontrol_directory = "c"\n',
        "m.jsonl": json.dumps(
            {"video_path": "a.mp4", "caption": "x", "control_path": "c.mp4", **record}
        ),
        "v/a.mp4": b"",
    }
    source = put(tmp_path, files)
    for format in ("DiffSynth", "WebDataset", "Musubi"):
        row = read_listing(source, format, Columns()).rows[0]  # type: ignore[arg-type]
        assert (row.prompt, row.source, row.first_frame) == ("x", "film", "a.png")
        assert row.control_video == "c.mp4"
        assert row.vace_video == ("" if format == "Musubi" else "v.mp4")
    assert read_listing(source, "Musubi", Columns()).rows[1].control_video == "c/a.mp4"
    named = Columns(prompt="source", first_frame="vace_video")
    assert read_listing(source, "WebDataset", named).rows[0].prompt == "film"
    assert read_listing(source, "WebDataset", named).rows[0].first_frame == "v.mp4"


def test_a_member_is_read_from_its_place(tmp_path: Path) -> None:
    long = f"{'deep/' * 30}{'n' * 120}"
    content = {f"{long}.mp4": b"first", "b.mp4": bytes(range(256)) * 500, "b.txt": "x"}
    for number, format in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        source = put(tmp_path, {f"{number}.tar": tar(content, format=format)})
    listing = read_listing(source, "WebDataset", Columns())
    assert len(listing.rows) == 4
    for row, data in zip(listing.rows, list(content.values())[:2] * 2, strict=True):
        with source.opened(row.video, tmp_path / "scratch.mp4") as (path, got):
            assert path.read_bytes() == data
            assert got.bytes == len(data)
        assert not path.exists()
    assert listing.rows[1].video.path == "0.tar/b.mp4"


def test_clips_are_not_read_with_the_headers(tmp_path: Path) -> None:
    members = {f"{n}.mp4": b"0" * 2**20 for n in range(8)} | {f"{n}.txt": "x" for n in range(8)}
    source = put(tmp_path, {"0.tar": tar(members)})
    read: list[int] = []
    real = source.read

    def counted(path: str, offset: int = 0, length: int | None = None) -> bytes:
        data = real(path, offset, length)
        read.append(len(data))
        return data

    source.read = counted  # type: ignore[method-assign]
    assert len(webdataset.read(source, Columns()).rows) == 8
    assert sum(read) < 2**20
    assert len(read) <= 10


TWO = tar({"a.mp4": b"0", "b.mp4": b"1"})
"""The second member's header begins at byte 1024."""


def link(name: str, target: str) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, target
        archive.addfile(info)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("format", "files", "message"),
    [
        ("WebDataset", {"0.tar": tar({"../up.mp4": b"x"})}, "0.tar holds '../up.mp4', which leave"),
        ("WebDataset", {"0.tar": tar({"/abs.mp4": b"x"})}, "'/abs.mp4', which is not relative"),
        ("WebDataset", {"0.tar": link("a.mp4", "/etc/passwd")}, "'a.mp4', which is no plain file"),
        ("WebDataset", {"0.tar": b"x" * 2000}, "0.tar is no whole tar archive"),
        ("WebDataset", {"0.tar": tar({"a.mp4": b"0" * 9000})[:4000]}, "0.tar is no whole tar"),
        ("WebDataset", {"0.tar": TWO[:1024] + b"?" + TWO[1025:]}, "0.tar is no whole tar archive"),
        ("WebDataset", {"0.tar": TWO[:1024]}, "0.tar is no whole tar archive"),
        ("WebDataset", {"0.tar": tar({"a.mp4": b"", "a.mov": b""})}, "two videos of the key 'a'"),
        ("Musubi", {"a.toml": "", "b.toml": ""}, "a.toml, b.toml are several"),
        ("Musubi", {"a.toml": "= 3"}, "a.toml is no TOML in line 1, '= 3'"),
        ("Musubi", {"a.toml": "[general]\n"}, "a.toml has no [[datasets]]"),
        (
            "Musubi", {"a.toml": '[[datasets]]\nbatch_size = 1\n'},
            "a.toml, dataset 1, has neither video_jsonl_file nor video_directory",
        ),
        (
            "Musubi", {"a.toml": '[[datasets]]\nvideo_directory = "/data/x"\n'},
            "has video_directory '/data/x', which is not relative to dataset.source",
        ),
        ("Musubi", {"a.toml": '[[datasets]]\nvideo_directory = "x"\n'}, "x, which holds no video"),
        (
            "Musubi", {"a.toml": '[[datasets]]\nvideo_jsonl_file = "x.jsonl"\n'},
            "names x.jsonl, which does not exist",
        ),
        (
            "Musubi",
            {"a.toml": '[[datasets]]\nvideo_jsonl_file = "m"\n', "m": '{"video_path": "a"}'},
            "m line 1 lacks caption; its keys: 'video_path'",
        ),
        (
            "Musubi",
            {
                "a.toml": '[[datasets]]\nvideo_directory = "x"\ncaption_extension = "txt"\n',
                "x/a.mp4": b"",
            },
            "has caption_extension 'txt'; it begins with a dot",
        ),
        (
            "Musubi",
            {"a.toml": '[[datasets]]\nvideo_directory = "x"\nresolution = "720p"\n'},
            "a.toml, dataset 1, has resolution '720p'",
        ),
        (
            "Musubi",
            {"a.toml": '[[datasets]]\nvideo_directory = "x"\nresolution = [960, 544, 3]\n'},
            "has resolution [960, 544, 3]: it is one number, or [width, height]",
        ),
        (
            "Musubi",
            {"a.toml": '[[datasets]]\nvideo_directory = "x"\ntarget_frames = 81\n'},
            "has target_frames 81: it is a list of numbers",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    tmp_path: Path, format: DatasetFormat, files: dict[str, str | bytes], message: str
) -> None:
    found = error_of(tmp_path, format, files, Reason.DATASET_INVALID)
    assert message in found, found


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "It holds nothing at all"),
        ({"metadata.csv": ""}, "1 .csv: that looks like dataset.format: DiffSynth"),
        ({"a.toml": "", "m.jsonl": ""}, "that looks like dataset.format: Musubi"),
        ({"a.mp4": "", "a.txt": "", "b.mp4": ""}, "2 .mp4, 1 .txt: that looks like dataset.format"),
        ({"0.tar": ""}, "1 .tar: that looks like dataset.format: WebDataset"),
        ({"README": "", "a.png": ""}, "It holds 1 without suffix, 1 .png"),
    ],
)
def test_another_format_is_recognised(tmp_path: Path, files: dict[str, str], says: str) -> None:
    tmp_path.joinpath("set").mkdir()
    for format in ("DiffSynth", "Musubi", "Folder", "WebDataset"):
        if format in says or (format == "Folder" and "a.txt" in files):
            continue
        found = error_of(tmp_path / "set", format, {**files}, Reason.DATASET_NOT_FOUND)  # type: ignore[arg-type]
        assert says in found
        assert "check dataset.source and dataset.format" in found


def test_a_folder_of_nearly_that_name_is_named(tmp_path: Path) -> None:
    for name in ("demo", "film"):
        tmp_path.joinpath(name).mkdir()
    found = error_of(tmp_path / "dmeo", "DiffSynth", {}, Reason.DATASET_NOT_FOUND)
    assert found.endswith(f"It holds nothing at all; there is a folder {tmp_path}/demo")
    found = error_of(tmp_path / "cartoons", "DiffSynth", {}, Reason.DATASET_NOT_FOUND)
    assert found.endswith("It holds nothing at all")


@pytest.mark.parametrize(
    ("prefix", "says"),
    [
        (
            "sets/demo/metadata.csv",
            "it is a file: end dataset.source with the folder that it is in",
        ),
        ("sets/dmeo", "there is a folder s3://wan/sets/demo"),
        ("sets/cartoons", "It holds nothing at all"),
    ],
)
def test_in_a_bucket_likewise(store: Store, prefix: str, says: str) -> None:
    for name in ("demo", "film"):
        store.put_bytes(f"sets/{name}/metadata.csv", b"video,prompt\n")
    with pytest.raises(InputError) as caught:
        read_listing(StoreSource(store, prefix), "DiffSynth", Columns())
    assert caught.value.message.endswith(says)


def test_a_dataset_of_no_clip_is_empty(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"0.tar": tar({"a.txt": "no clip"})}
    assert error_of(tmp_path, "WebDataset", files, Reason.DATASET_EMPTY) == (
        "there is no clip in 1 shard"
    )


def test_a_clip_without_a_caption_keeps_its_row(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"a.mp4": b"", "a.txt": "x", "b.mp4": b""}
    rows = read_listing(put(tmp_path, files), "Folder", Columns()).rows
    assert [row.prompt for row in rows] == ["x", ""]


@pytest.mark.parametrize("text", ["directory = 3", "directory = [1]", "[tool]\na = 1", "= not"])
def test_another_tools_toml_does_not_disturb_a_folder(tmp_path: Path, text: str) -> None:
    files: dict[str, str | bytes] = {"a.mp4": b"", "a.txt": "x", "other.toml": text}
    assert len(read_listing(put(tmp_path, files), "Folder", Columns()).rows) == 1


def test_links_out_of_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    source = put(tmp_path / "set", {"a.mp4": b"x"})
    (tmp_path / "set" / "b.mp4").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match=re.escape("b.mp4 is a link that leads out of the")):
        list(source.files())
    assert source.size("../secret") is None
    with (
        pytest.raises(Exception, match=re.escape("does not exist")),
        source.opened(Place("../secret"), tmp_path / "scratch"),
    ):
        pass
