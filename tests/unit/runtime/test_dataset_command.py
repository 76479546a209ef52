"""`wan-runtime dataset`: real folders, the real command line, a real store."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import videos
from object_store import ObjectStore
from unit.runtime.test_formats import tar
from wan_runtime import cli
from wan_runtime.artifacts.store import Store
from wan_runtime.data import push

SIZE = ("--preset", "Wan2.1-I2V-Tiny")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good clips with captions, and one that is too short."""
    folder = tmp_path / "set"
    videos.cut(folder / "a.mp4")
    videos.cut(folder / "in" / "b.mp4", "bigbuckbunny")
    videos.cut(folder / "short.mp4", frames=5)
    rows = ["video,prompt", "a.mp4,first", "in/b.mp4,second", "short.mp4,third"]
    (folder / "metadata.csv").write_text("\n".join(rows))
    for path in folder.rglob("*.mp4"):
        path.with_suffix(".txt").write_text("a caption")
    return folder


@pytest.fixture
def target(server: ObjectStore, credentials: None, request: pytest.FixtureRequest) -> list[str]:
    name = re.sub(r"\W+", "-", request.node.name)
    return [f"s3://wan/push/{name}", "--endpoint", server.endpoint]


def keys(store: Store, target: list[str]) -> list[str]:
    prefix = f"{target[0].removeprefix('s3://wan/')}/"
    return [entry.key.removeprefix(prefix) for entry in store.list(prefix)]


def test_check_prints_verdicts_and_writes_the_report(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.html"
    assert cli.main(["dataset", "check", str(folder), *SIZE, "--report", str(report)]) == 10
    out, err = capsys.readouterr()
    assert "rejected  row 3  short.mp4  TooShort: has 5 frames at 16 fps" in out
    assert "3 clips of metadata.csv for 128x96x17 at 16 fps" in out
    assert "error: ClipInvalid: clip short.mp4" in err
    assert "--skip-rejected to train without them" in err
    assert report.read_text().count("<img") == 3
    long = ["dataset", "check", str(folder), *SIZE, "--frames", "161"]
    assert cli.main(long) == 10
    assert capsys.readouterr().err.endswith("3 of 3 clips rejected: 3 TooShort\n"), "none is left"
    skip = ["dataset", "check", str(folder), *SIZE, "--skip-rejected"]
    assert cli.main(skip) == 0
    assert "1 train, 1 held out. 1 rejected: 1 TooShort" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["DiffSynth", "Folder"])
def test_a_link_out_of_the_folder_is_named(
    folder: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever made the folder could have any file of this machine uploaded by it."""
    (tmp_path / "elsewhere.mp4").write_bytes((folder / "a.mp4").read_bytes())
    (folder / ".hidden").symlink_to(tmp_path)
    (folder / "a.mp4").unlink()
    (folder / "a.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    report = tmp_path / "report.html"
    command = ["dataset", "check", str(folder), *SIZE, "--format", form, "--report", str(report)]
    assert cli.main(command) == 10
    err = capsys.readouterr().err
    assert "a.mp4 is a link that leads out of the folder: put the file itself there" in err
    assert f"No report was written to {report}" in err


def test_a_full_disk_is_no_fault_of_the_dataset(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["dataset", "check", str(folder), *SIZE, "--report", "/dev/full"]
    assert cli.main(command) == 30
    assert capsys.readouterr().err.endswith("error: No space left on device\n")


def test_a_folder_with_a_bad_clip_is_not_pushed(
    folder: Path, target: list[str], store: Store
) -> None:
    assert cli.main(["dataset", "push", str(folder), *target, *SIZE]) == 10
    assert keys(store, target) == []


def test_push_sends_what_is_good_and_only_once(
    folder: Path, target: list[str], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["dataset", "push", str(folder), *target, *SIZE, "--skip-rejected"]
    assert cli.main([*command, "--dry-run"]) == 0
    assert "3 files would be uploaded" in capsys.readouterr().out
    assert keys(store, target) == []
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert "3 files uploaded" in out
    assert f"dataset.source: {target[0]}" in out
    assert "metadata.csv still lists rejected clips: set dataset.rejectedClips: Skip" in out
    assert keys(store, target) == ["a.mp4", "in/b.mp4", "metadata.csv"]
    assert cli.main(command) == 0
    assert "0 files uploaded (0.0 MB), 3 were there already." in capsys.readouterr().out
    (folder / "metadata.csv").write_text((folder / "metadata.csv").read_text() + "\n")
    assert cli.main(command) == 0
    assert "1 file uploaded (0.0 MB), 2 were there already." in capsys.readouterr().out


def test_a_broken_push_goes_on_and_lists_nothing_before_the_end(
    folder: Path, target: list[str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["dataset", "push", str(folder), *target, *SIZE, "--skip-rejected"]
    real = Store.put_file

    def interrupted(self: Store, key: str, path: Path, *, sha256: str | None = None) -> object:
        if path.name == "b.mp4":
            raise KeyboardInterrupt
        return real(self, key, path, sha256=sha256)

    monkeypatch.setattr(push, "THREADS", 1)
    monkeypatch.setattr(Store, "put_file", interrupted)
    assert cli.main(command) == 130
    assert keys(store, target) == ["a.mp4"]
    monkeypatch.setattr(Store, "put_file", real)
    assert cli.main(command) == 0
    assert keys(store, target) == ["a.mp4", "in/b.mp4", "metadata.csv"]


def test_captions_beside_clips_go_with_them(folder: Path, target: list[str], store: Store) -> None:
    skip = ("--format", "Folder", "--skip-rejected")
    assert cli.main(["dataset", "push", str(folder), *target, *SIZE, *skip]) == 0
    assert keys(store, target) == ["a.mp4", "a.txt", "in/b.mp4", "in/b.txt", "short.txt"]


def test_shards_go_whole(tmp_path: Path, target: list[str], store: Store) -> None:
    for number, name in enumerate(("bikes", "bigbuckbunny")):
        clip = videos.cut(tmp_path / "cut.mp4", name).read_bytes()
        shard = tmp_path / "set" / f"{number}.tar"
        shard.parent.mkdir(exist_ok=True)
        shard.write_bytes(tar({"a.mp4": clip, "a.txt": "a caption"}))
    command = ["dataset", "push", str(tmp_path / "set"), *target, *SIZE, "--format", "WebDataset"]
    assert cli.main(command) == 0
    assert keys(store, target) == ["0.tar", "1.tar"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--frames", "60"], 2, "must be 4n+1: 57 or 61, not 60"),
        (["--width", "100"], 2, "must be a multiple of 16: 96 or 112, not 100"),
        (["--bucket", "96x17"], 2, "must be WIDTHxHEIGHTxFRAMES, not '96x17'"),
        (["--bucket", "128x96x16"], 2, "must be 4n+1: 13 or 17, not 16"),
        (["--bucket", "128x96x17", "--frames", "17"], 10, "leave --width, --height and --frames"),
        (["--fps", "-1"], 2, "'-1' is no number above 0"),
        (["--fps", "61"], 2, "must be from 1 to 60, not 61"),
        (["--frames", "1"], 2, "must be from 5 to 241, not 1"),
        (["--frames", "100000001"], 2, "must be from 5 to 241, not 100000001"),
        (["--width", "2048"], 2, "must be from 32 to 1920, not 2048"),
        (["--column", "text=prompt"], 10, "FIELD one of video, prompt, source, firstFrame"),
        (["--windows-per-clip", "3"], 10, "is for --window Spread: First is one window"),
        (["--format", "Musubi"], 10, "that looks like --format DiffSynth"),
        (["--format", "Musubi"], 10, "holds no *.toml: check the folder and --format"),
        (["--column", "prompt=text"], 10, "it has 'video', 'prompt': --column prompt=prompt"),
        (["--report", "/no/such/report.html"], 2, "'/no/such/report.html' is in no folder that"),
        (["--report", "/"], 2, "'/' is a folder: name a file"),
    ],
)
def test_wrong_options_are_named(
    folder: Path, options: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        sys.exit(cli.main(["dataset", "check", str(folder), *SIZE, *options]))
    assert ended.value.code == code
    assert message in capsys.readouterr().err


def test_what_a_newcomer_brings_gets_a_sentence_that_says_what_to_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A phone's clips, a GIF and a spreadsheet."""
    folder = tmp_path / "set"
    videos.cut(folder / "IMG_0001.MOV")
    videos.cut(folder / "b.mp4", "bigbuckbunny")
    (folder / "cat.gif").write_bytes(b"GIF89a")
    (folder / "captions.xlsx").write_bytes(b"PK\x03\x04")
    check = ["dataset", "check", str(folder), *SIZE, "--skip-rejected"]
    assert cli.main(check) == 10
    said = 'captions.xlsx is a spreadsheet: save it as "CSV UTF-8" under the name metadata.csv'
    assert said in capsys.readouterr().err
    text = (
        "video;prompt\r\nIMG_0001.mov;a man, cycling\r\nb.mp4;\r\ncat.gif;a cat\r\nno\tfile;x\r\n"
        "https://x.de/b.mp4;y\r\n"
    )
    (folder / "metadata.csv").write_bytes(text.encode("utf-16"))
    assert cli.main(check) == 10
    out = capsys.readouterr().out
    assert "row 1  IMG_0001.mov  NotFound: does not exist: " in out
    assert "IMG_0001.mov; did you mean IMG_0001.MOV?" in out
    assert "row 2  b.mp4  CaptionEmpty: has no caption" in out
    assert "row 3  cat.gif  Unreadable: " in out
    assert "row 4  'no\\tfile'  NotFound: does not exist: '/" in out
    assert "row 5  https://x.de/b.mp4  PathInvalid: is an address, not relative to" in out
    (folder / "metadata.csv").unlink()
    with pytest.raises(SystemExit):
        cli.main(["dataset", "check", str(folder / "captions.xlsx"), *SIZE])
    assert "is a file: name the folder that holds it" in capsys.readouterr().err
    assert cli.main([*check, "--format", "Folder"]) == 10
    assert f"{said}, for --format DiffSynth" in capsys.readouterr().err
    (folder / "captions.xlsx").unlink()
    assert cli.main([*check, "--format", "Folder"]) == 10
    assert "DiffSynth, or that of IMG_0001.MOV into IMG_0001.txt" in capsys.readouterr().err


def test_what_is_left_out_is_printed_and_in_the_report(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "cover.png").write_bytes(b"")
    report = tmp_path / "report.html"
    check = ["dataset", "check", str(folder), *SIZE, "--skip-rejected", "--report", str(report)]
    assert cli.main([*check, "--format", "Folder"]) == 0
    note = "left out: pictures, which are not trained on (1): cover.png"
    assert f"note      {note}\n" in capsys.readouterr().out
    assert f"<p>{note}</p>" in report.read_text()


def test_clips_of_a_folder_have_no_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody finds "row 5" in a folder: names are enough there."""
    (folder / "a.txt").write_text("x")
    (folder / "short.txt").write_text("x")
    check = ["dataset", "check", str(folder), *SIZE, "--skip-rejected", "--format", "Folder"]
    cli.main(check)
    out = capsys.readouterr().out
    assert "rejected  short.mp4  TooShort: has 5 frames" in out
    assert "row " not in out
    for path in [*folder.glob("*.mp4"), *folder.rglob("*/*.mp4")]:
        if path.name != "a.mp4":
            path.unlink()
    assert cli.main(check) == 10
    said = capsys.readouterr()
    assert said.out.splitlines()[-1].startswith("1 clip of a folder of 1 clip for ")
    assert "the one good clip is of one recording, 'a.mp4', and one recording must be" in said.err


def test_a_file_that_cannot_be_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(self: Path, mode: str = "r", *args: object) -> object:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)
    assert cli.main(["dataset", "check", str(folder), *SIZE]) == 10
    assert f"error: {folder}/metadata.csv: Permission denied" in capsys.readouterr().err


def test_buckets_take_what_one_size_would_not(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    buckets = ("--bucket", "128x96x17", "--bucket", "96x128x5")
    assert cli.main(["dataset", "check", str(folder), *SIZE, *buckets]) == 0
    out = capsys.readouterr().out
    assert "3 clips of metadata.csv for 128x96x17, 96x128x5 at 16 fps" in out
    assert "Train by bucket: 128x96x17 " in out


def test_columns_may_be_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (folder / "metadata.csv").read_text().replace("video,prompt", "file,text")
    (folder / "metadata.csv").write_text(text)
    columns = ("--column", "video=file", "--column", "prompt=text", "--skip-rejected")
    assert cli.main(["dataset", "check", str(folder), *SIZE, *columns]) == 0


def test_an_unreachable_or_closed_store_is_found_before_the_clips(
    folder: Path,
    target: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert cli.main(["dataset", "push", str(folder), *target, *SIZE]) == 30
    assert "error: StoreAccessDenied" in capsys.readouterr().err
    assert cli.main(["dataset", "push", str(folder), "wan/x", *target[1:], *SIZE]) == 10
    assert "'wan/x' is not s3://bucket/key" in capsys.readouterr().err
    assert cli.main(["dataset", "push", str(folder), "s3://x/y", *target[1:], *SIZE]) == 10
    assert "'x' names no bucket: 3 to 63 of the characters" in capsys.readouterr().err
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    assert cli.main(["dataset", "push", str(folder), target[0], *SIZE]) == 10
    assert "no endpoint: give --endpoint" in capsys.readouterr().err
