"""The TOML of musubi-tuner v0.3.4: what it means there, and what is made of it. No clip is
decoded."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from unit.runtime.test_formats import put
from wan_runtime.contract.dataset import Bucket, Columns
from wan_runtime.data.dataset import Code
from wan_runtime.data.formats.reader import read_listing
from wan_runtime.data.formats.rows import Listing
from wan_runtime.errors import InputError

DATASET = '[[datasets]]\nvideo_directory = "v"\n'


def listing(folder: Path, toml: str, files: dict[str, str | bytes] | None = None) -> Listing:
    there: dict[str, str | bytes] = {"v/a.mp4": "", "v/a.txt": "x", "set.toml": toml}
    return read_listing(put(folder, there | (files or {})), "Musubi", Columns())


def test_every_kind_of_video_of_a_folder_is_a_clip(tmp_path: Path) -> None:
    """Its VIDEO_EXTENSIONS (src/musubi_tuner/dataset/media_utils.py) hold .wmv, .flv and capitals;
    folders in the folder are not looked into."""
    names = ["b.wmv", "c.flv", "d.MPG", "e.WEBM", "f.m4v"]
    files: dict[str, str | bytes] = {f"v/{name}": "" for name in names}
    files |= {f"v/{name[0]}.txt": name for name in names} | {"v/in/g.mp4": "", "v/h.mxf": ""}
    found = listing(tmp_path, DATASET, files | {"v/h.txt": "y", "v/i.png": ""})
    assert [row.prompt for row in found.rows] == ["x", *names]
    assert found.notes == (
        "left out: pictures, which are not trained on (1): v/i.png",
        "left out: files with a caption, of no kind of video that is read (1): v/h.mxf",
    )


@pytest.mark.parametrize(
    ("frames", "lengths", "notes"),
    [
        ([25], (25,), []),
        (
            [1, 25, 45],
            (25, 45),
            ["left out: target_frames 1 of set.toml, dataset 1: a single pict"],
        ),
        ([10], (9,), ["target_frames 10 of set.toml, dataset 1 is 9: lengths are 4n+1, rounded"]),
        ([10, 11, 9], (9,), ["target_frames 10 of", "target_frames 11 of"]),
        (
            [4, 48],
            (45,),
            ["left out: target_frames 4 of", "target_frames 48 of set.toml, dataset 1"],
        ),
    ],
)
def test_lengths_are_rounded_down_as_there(
    tmp_path: Path, frames: list[int], lengths: tuple[int, ...], notes: list[str]
) -> None:
    """VideoDataset (src/musubi_tuner/dataset/image_video_dataset.py) rounds each of target_frames
    down to 4n+1; 1 is a still."""
    found = listing(tmp_path, f"{DATASET}target_frames = {frames}\n")
    wanted = found.rows[0].wanted
    assert wanted is not None
    assert wanted.lengths == lengths
    buckets = [Bucket(width=64, height=64, frames=length) for length in (5, *lengths)]
    assert found.rows[0].allowed(buckets) == buckets[1:]
    assert len(found.notes) == len(notes)
    assert all(each.startswith(note) for each, note in zip(found.notes, notes, strict=True))


def test_keys_without_effect_are_noted(tmp_path: Path) -> None:
    """num_repeats repeats all clips of a dataset: of the only one it makes epochs longer."""
    toml = f"[general]\nbatch_size = 2\nnum_repeats = 10\n{DATASET}source_fps = 30.0\n"
    assert listing(tmp_path, toml).notes == (
        "num_repeats 10 of set.toml is not used: training.datasetRepeat says it",
        "of set.toml these keys are not used, the run's spec and the clips' timestamps say it: "
        "batch_size, source_fps",
    )


def test_control_videos_have_the_name_of_the_clip_or_its_stem(tmp_path: Path) -> None:
    """VideoDirectoryDatasource (src/musubi_tuner/dataset/datasources.py) looks for the same file
    name, then for another suffix."""
    files: dict[str, str | bytes] = {"v/b.mp4": "", "v/b.txt": "y", "c/a.mp4": "", "c/b.mov": ""}
    found = listing(tmp_path, f'{DATASET}control_directory = "c"\n', files)
    assert [row.control_video for row in found.rows] == ["c/a.mp4", "c/b.mov"]
    found = listing(tmp_path, f'{DATASET}control_directory = "."\n', {"b.webm": ""})
    assert [row.control_video for row in found.rows] == ["a.mp4", "b.webm"]


def test_the_root_may_be_the_folder(tmp_path: Path) -> None:
    found = listing(tmp_path, '[[datasets]]\nvideo_directory = "."\n', {"b.mp4": "", "b.txt": "y"})
    assert [(row.video.path, row.prompt) for row in found.rows] == [("b.mp4", "y")]


def test_captions_that_are_missing_have_their_verdicts(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"v/b.mp4": "", "v/c.mp4": "", "v/c.txt": " \n"}
    found = listing(tmp_path, DATASET, files)
    assert [row.fault and row.fault.message for row in found.rows] == [
        None, "has no caption: v/b.txt is not there", "has no caption: v/c.txt is empty",
    ]  # fmt: skip
    lines = [{"video_path": "v/a.mp4", "caption": each} for each in (None, "NULL", ["x", "y"], 7)]
    jsonl = {"m.jsonl": "\n".join(json.dumps({**line, "fps": 16}) for line in lines)}
    found = listing(tmp_path, '[[datasets]]\nvideo_jsonl_file = "m.jsonl"\n', {**jsonl})
    assert [row.prompt for row in found.rows] == ["", "", "", "7"]
    assert [row.fault and row.fault.code for row in found.rows] == [
        None, Code.CAPTION_EMPTY, Code.CAPTION_INVALID, None,
    ]  # fmt: skip
    assert found.notes == ("of m.jsonl these keys are not read: 'fps'",)


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        (
            '[[datasets]]\nimage_directory = "p"\n',
            "dataset 1, has image_directory 'p': single pictures are not trained on; remove this",
        ),
        (f"{DATASET}target_frames = [1]", "has target_frames [1], which are single pictures: they"),
        (f"{DATASET}num_repeats = 2\n{DATASET}", "set.toml has num_repeats 2, 1: every clip count"),
        (
            f'{DATASET}frame_extraction = "uniform"\nframe_sample = 4',
            "has frame_extraction 'uniform': set dataset.window: Spread with windowsPerClip: 4, an",
        ),
        (f'{DATASET}frame_extraction = "uniform"', "'uniform': set dataset.window: First, and rem"),
        (
            f'{DATASET}frame_extraction = "chunk"',
            "'chunk': set dataset.window: Spread with windowsPerClip: 2 or more, and remove it",
        ),
        (f'{DATASET}frame_extraction = "full"', "'full': set dataset.buckets with the lengths tha"),
        (f'{DATASET}frame_extraction = "tail"', "frame_extraction 'tail', which musubi-tuner has"),
        (f'{DATASET}caption_extention = ".txt"', "the key 'caption_extention', which musubi-"),
        (f'{DATASET}caption_extention = ".txt"', "know here: did you mean caption_extension?"),
        ("[[dataset]]\n", "set.toml has no [[datasets]]; at its top level: 'dataset'"),
        ("datasets = [1]", "set.toml, dataset 1, is 1, no [[datasets]]"),
        (
            '[[datasets]]\nvideo_directory = "C:\\Users"',
            "is no TOML in line 2, 'video_directory = \"C:\\\\Users\"': in double quotes a \\ has",
        ),
        ("[[datasets]]\nvideo_directory = 'C:\\v'", "'C:\\\\v', which is not relative to dataset."),
        ("[[datasets]]\nvideo_directory = 3", "has video_directory 3: it is a path in quotes"),
        ("[[datasets]]\nvideo_directory = ''\n", "has video_directory '': it is a path in quotes,"),
        (f"x = {'[' * 9999}", "set.toml is no TOML that is read here: it is nested too deeply"),
        ("x = [", "set.toml is no TOML: it ends within a value"),
    ],
)  # fmt: skip
def test_ten_worst_tomls(tmp_path: Path, toml: str, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        listing(tmp_path, toml)


@pytest.mark.parametrize(
    ("key", "path", "write"),
    [
        ("video_directory", "/data/my/set/v", ": write 'v'"),
        ("video_directory", "D:\\\\set\\\\in\\\\v", ": write 'in/v'"),
        ("video_directory", "/data/ROOT", ": write '.'"),
        ("video_directory", "/data/other", "of some machine"),
        ("video_jsonl_file", "/data/m.jsonl", ": write 'm.jsonl'"),
    ],
)
def test_a_path_of_another_machine_says_what_to_write(
    tmp_path: Path, key: str, path: str, write: str
) -> None:
    toml = f'[[datasets]]\n{key} = "{path.replace("ROOT", tmp_path.name)}"\n'
    with pytest.raises(InputError, match=f"{re.escape(write)}$"):
        listing(tmp_path, toml, {"in/v/a.mp4": "", "m.jsonl": ""})


@pytest.mark.parametrize(
    ("jsonl", "says"),
    [
        ('{"video": "a.mp4", "caption": "x"}', "line 1 lacks video_path; its keys: 'video', 'capt"),
        ("{}", "m.jsonl line 1 lacks video_path; its keys: none"),
        ('{"video_path": "a.mp4", "caption": "x"', "m.jsonl line 1: ends in the middle of a value"),
        ('[{"video_path": "a.mp4"}]', "m.jsonl is one list: JSON lines have an object a line"),
        (b"\xff\xfe{", "m.jsonl begins as UTF-16 and does not go on so"),
    ],
)
def test_a_list_that_is_wrong_is_named(tmp_path: Path, jsonl: str | bytes, says: str) -> None:
    toml = '[[datasets]]\nvideo_jsonl_file = "m.jsonl"\n'
    with pytest.raises(InputError, match=re.escape(says)):
        listing(tmp_path, toml, {"m.jsonl": jsonl})
