"""Folders as diffusion-pipe and ai-toolkit have them: clips with captions beside. No clip is
decoded."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from unit.runtime.test_formats import put
from wan_runtime.contract.dataset import Columns
from wan_runtime.data.formats.reader import read_listing
from wan_runtime.data.formats.rows import Listing
from wan_runtime.errors import InputError

CLIPS: dict[str, str | bytes] = {"a.mp4": "", "b.mp4": ""}


def listing(folder: Path, files: dict[str, str | bytes]) -> Listing:
    return read_listing(put(folder, CLIPS | files), "Folder", Columns())


def prompts(found: Listing) -> dict[str, str]:
    return {row.video.path: row.prompt for row in found.rows}


def faults(found: Listing) -> dict[str, str]:
    return {row.video.path: row.fault.message for row in found.rows if row.fault is not None}


def test_captions_json_stands_for_its_folder(tmp_path: Path) -> None:
    """As in diffusion-pipe 8f83dbf (utils/dataset.py): captions.json beside the clips has a list of
    captions by file name and wins over text files; a clip without an entry has no caption. There
    each caption of the list is trained on, here the first, which is noted."""
    found = listing(
        tmp_path,
        {
            "captions.json": '{"a.mp4": ["one", "another"], "gone.mp4": ["three"]}',
            "a.txt": "not this", "in/c.mp4": "", "in/c.txt": "beside",
        },
    )  # fmt: skip
    assert prompts(found) == {"a.mp4": "one", "b.mp4": "", "in/c.mp4": "beside"}
    assert faults(found) == {"b.mp4": "has no caption: captions.json has no entry 'b.mp4'"}
    assert sorted(found.files) == ["captions.json", "in/c.txt"]
    assert found.notes == (
        "of 1 clip, only the first caption in captions.json is used",
        "left out: entries of captions.json without a clip: 'gone.mp4'",
        "left out: captions of clips that have another (1): a.txt",
    )


def test_caption_prefix_begins_every_caption(tmp_path: Path) -> None:
    """As in diffusion-pipe 8f83dbf (utils/dataset.py): a [[directory]]'s own caption_prefix counts,
    else the general one; it is put before the text as it is, and an empty text file leaves the
    prefix alone. num_repeats of one directory only makes its epochs longer."""
    toml = (
        "caption_prefix = 'ohwx '\nnum_repeats = 5\n[[directory]]\npath = '/data/set'\n"
        "[[directory]]\npath = 'in'\ncaption_prefix = 'style, '\n"
    )
    files: dict[str, str | bytes] = {"set/a.mp4": "", "set/a.txt": " x\n", "set/b.mp4": ""}
    files |= {"set/b.txt": "", "in/c.mp4": "", "in/c.txt": "y", "dataset.toml": toml}
    found = listing(tmp_path, files)
    assert prompts(found) == {"in/c.mp4": "style, y", "set/a.mp4": "ohwx x", "set/b.mp4": "ohwx"}
    assert "dataset.toml" in found.files
    assert found.notes == (
        "num_repeats 5 of dataset.toml is not used: training.datasetRepeat says it",
        "caption_prefix 'style, ' of dataset.toml begins the captions of 1 clip",
        "caption_prefix 'ohwx ' of dataset.toml begins the captions of 2 clips",
        "left out: clips in no [[directory]] of dataset.toml (2): a.mp4, b.mp4",
    )


def test_the_only_directory_is_the_folder_itself(tmp_path: Path) -> None:
    toml = "[[directory]]\npath = 'D:\\data\\mine'\ncaption_prefix = 'ohwx '\n"
    found = listing(tmp_path, {"a.txt": "x", "b.txt": "y", "dataset.toml": toml})
    assert prompts(found) == {"a.mp4": "ohwx x", "b.mp4": "ohwx y"}


def test_captions_of_any_case_form_and_encoding(tmp_path: Path) -> None:
    """A name is matched without its suffix, in ai-toolkit 27a03a9 (toolkit/dataloader_mixins.py)
    and diffusion-pipe by the same letters; names from macOS are NFD."""
    decomposed = unicodedata.normalize("NFD", "café")
    found = listing(
        tmp_path,
        {
            "a.TXT": "x", "b.caption": "y".encode("utf-16"), "b.CAPTION": "not this",
            f"{decomposed}.mp4": "", "café.txt": "\ufeffz\r\nzz\n", "d.MP4": "", "d.Txt": "None",
        },
    )  # fmt: skip
    got = prompts(found)
    assert got == {
        "a.mp4": "x", "b.mp4": "y", f"{decomposed}.mp4": "z\nzz", "d.MP4": "",
    }  # fmt: skip
    assert faults(found) == {"d.MP4": "has no caption: d.Txt: 'None' stands for none"}


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    """ai-toolkit 27a03a9 (toolkit/data_loader.py) walks all folders but hidden ones and _controls;
    a video model's pictures are stills there."""
    junk = (".DS_Store", "._a.mp4", ".thumbs/a.mp4", "__MACOSX/a.mp4", "Thumbs.db", "desktop.ini")
    files: dict[str, str | bytes] = dict.fromkeys(junk, "junk")
    files |= dict.fromkeys(("p1.png", "p2.JPG", "p3.heic", "p4.webp", "p1.txt"), "x")
    files |= {"a.txt": "x", "reel.mxf": "", "reel.txt": "y", "gone.txt": "z", "notes.docx": ""}
    files |= {"_controls/a.mp4": "", "in/deep/c.gif": "", "in/deep/c.txt": "w"}
    found = listing(tmp_path, files)
    assert prompts(found) == {"a.mp4": "x", "b.mp4": "", "in/deep/c.gif": "w"}
    assert faults(found) == {"b.mp4": "has no caption: b.txt is not there"}
    assert found.notes == (
        "left out: pictures, which are not trained on (4): p1.png, p2.JPG, p3.heic and 1 more",
        "left out: files with a caption, of no kind of video that is read (1): reel.mxf",
        "left out: captions without a clip (1): gone.txt",
        "left out: other files (2): _controls/a.mp4, notes.docx",
    )


def test_a_captions_json_of_another_form_gives_way_to_text_files(tmp_path: Path) -> None:
    """Other tools write lists under that name; where every clip has its text, that is meant."""
    list_shaped = '[{"file": "a.mp4", "caption": "not this"}]'
    found = listing(tmp_path, {"captions.json": list_shaped, "a.txt": "x", "b.txt": "y"})
    assert prompts(found) == {"a.mp4": "x", "b.mp4": "y"}
    assert found.notes == (
        "left out: captions.json, which is no object of clips: the text files beside the clips win",
    )
    assert sorted(found.files) == ["a.txt", "b.txt"]


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_in_icloud_only_is_named(tmp_path: Path, count: int) -> None:
    """macOS leaves `.a.mp4.icloud` of a file whose content it has moved away."""
    away = {f"in/.{number}.mov.icloud": b"bplist" for number in range(count)}
    found = listing(tmp_path, {"a.txt": "x", "b.txt": "y", ".b.docx": "", **away})
    names = ", ".join(f"in/{number}.mov" for number in range(count))
    files = "1 file" if count == 1 else "2 files"
    assert found.notes == (f"left out: {files} in iCloud only, to be downloaded first: {names}",)


def test_captions_json_of_another_system(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "café.mp4")
    text = '{"café.mp4": ["x"], "a.mp4": [], "b.mp4": [null, "y"]}'
    found = listing(tmp_path, {decomposed: "", "captions.json": text})
    assert prompts(found) == {"a.mp4": "", "b.mp4": "", decomposed: "x"}
    assert faults(found)["a.mp4"] == "has no caption: captions.json has none for 'a.mp4'"


def test_of_names_that_look_alike_each_has_its_own_caption(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    files: dict[str, str | bytes] = {f"{name}.mp4": "" for name in names}
    files |= {f"{name}.txt": str(number) for number, name in enumerate(names)}
    got = prompts(listing(tmp_path, {**files, "a.txt": "x", "b.txt": "y"}))
    assert [got[f"{name}.mp4"] for name in names] == ["0", "1"]


def toml(text: str) -> dict[str, str | bytes]:
    return {"a.txt": "x", "set.toml": text}


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"captions.json": "[]"}, 'captions.json is no object of clips: {"a.mp4": ["its caption"]'),
        ({"captions.json": "5", "a.txt": "x"}, "captions.json is no object of clips: {"),
        ({"captions.json": '{"a.mp4": "x" "b.mp4"}'}, "captions.json line 1: a comma is missing"),
        (toml("caption_prefix = 3"), "set.toml has caption_prefix 3: it is a text in quotes"),
        (toml("[[directory]]\npath='.'\nmask_path='m'"), "has mask_path 'm': all of a picture is"),
        (toml("[[directory]]\npath='.'\ncontrol_path='m'"), "has control_path 'm': diffusion-pipe"),
        (toml("shuffle_tags = true"), "set.toml has shuffle_tags true: captions are trained on as"),
        (toml("cache_shuffle_num = 4"), "set.toml has cache_shuffle_num 4: captions are trained"),
        (toml("[[directory]]\npath = '.'\nskip_empty_caption = false"), "has skip_empty_caption f"),
        (toml("[[directory]]\ncaption_prefix = 'x'"), "a [[directory]] with path null: it is a te"),
        (
            toml("[[directory]]\npath='/x'\n[[directory]]\npath='/y'"),
            "has the [[directory]] '/x', and below dataset.source no folder is called so: write",
        ),
        (
            toml("[[directory]]\npath='.'\n[[directory]]\npath='.'\nnum_repeats = 5"),
            "set.toml has num_repeats 1, 5: every clip counts once here; remove them",
        ),
        (
            toml("[[directory]]\npath='.'\n[[directory]]\npath='.'\nnum_repeats = [5]"),
            "set.toml has num_repeats 1, [5]: every clip counts once here; remove them",
        ),
        ({**toml("min_ar = 0.5"), "b.toml": "caption_prefix=''"}, "b.toml, set.toml are several o"),
    ],
)  # fmt: skip
def test_ten_worst_folders(tmp_path: Path, files: dict[str, str | bytes], says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        listing(tmp_path, files)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("[[datasets]]\nvideo_directory = '.'", "set.toml is musubi-tuner's, for dataset.format:"),
        ("[[directory]]\npath = 'x", "left out: set.toml is no TOML: it ends within a value"),
        ("caption_prefix = ''\nframerate = 16", "of set.toml these keys are not used: 'framerate'"),
        (
            "enable_ar_bucket = true\n[[directory]]\npath = '.'\nresolutions = [512]",
            "of set.toml the sizes are not used ('enable_ar_bucket', 'resolutions'): clips are cut",
        ),
        ("size_buckets = [[832, 480, 81]]", "of set.toml the sizes are not used ('size_buckets')"),
    ],
)  # fmt: skip
def test_a_toml_that_is_not_acted_on_is_named(tmp_path: Path, text: str, note: str) -> None:
    found = listing(tmp_path, toml(text))
    assert prompts(found)["a.mp4"] == "x"
    assert any(note in each for each in found.notes), found.notes
