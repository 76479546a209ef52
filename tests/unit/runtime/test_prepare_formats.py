"""Step prepare on datasets of every format, and the files beside clips: real clips, real store."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import videos
from prepare_bench import Bench, Row
from unit.runtime.test_formats import tar
from wan_runtime.contract.reasons import Reason
from wan_runtime.data.clips import read_picture
from wan_runtime.data.dataset import Code, bring
from wan_runtime.data.picture import cut, read
from wan_runtime.data.pixels import first_frame_of

pytest_plugins = ["prepare_fixtures"]


def put(bench: Bench, files: dict[str, bytes | str]) -> None:
    for path, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        bench.store.put_bytes(f"{bench.prefix}/{path}", data)


def picture(path: Path, width: int = 200, height: int = 100, level: int = 90) -> bytes:
    image = np.full((height, width, 3), level, np.uint8)
    Image.fromarray(image).save(path)
    return path.read_bytes()


def test_a_folder_of_clips_with_captions(bench: Bench, good: list[bytes]) -> None:
    files: dict[str, bytes | str] = {f"in/{n}.mp4": data for n, data in enumerate(good)}
    put(bench, files | {f"in/{n}.txt": f"clip {n}" for n in range(4)})
    clips = bench.dataset(bench.run(format="Folder")).clips
    assert [clip.prompt for clip in clips] == [f"clip {n}" for n in range(4)]
    assert {clip.code for clip in clips} == {Code.ACCEPTED}


def test_musubi_lists(bench: Bench, good: list[bytes]) -> None:
    lines = [json.dumps({"video_path": f"./c/{n}.mp4", "caption": f"clip {n}"}) for n in range(4)]
    files: dict[str, bytes | str] = {f"c/{n}.mp4": data for n, data in enumerate(good)}
    toml = '[[datasets]]\nvideo_jsonl_file = "m.jsonl"\n'
    put(bench, files | {"set.toml": toml, "m.jsonl": "\n".join(lines)})
    dataset = bench.dataset(bench.run(format="Musubi"))
    assert dataset.metadata == "set.toml"
    assert [clip.path for clip in dataset.clips] == [f"c/{n}.mp4" for n in range(4)]


def test_clips_in_shards_are_fetched_from_their_place(
    bench: Bench, good: list[bytes], tmp_path: Path
) -> None:
    shards: dict[str, bytes | str] = {
        f"{shard}.tar": tar(
            {f"{n}.mp4": good[n] for n in pair}
            | {f"{n}.json": json.dumps({"prompt": f"clip {n}", "source": "ab"[shard]})
               for n in pair}
        )
        for shard, pair in enumerate([(0, 1), (2, 3)])
    }  # fmt: skip
    put(bench, shards)
    dataset = bench.dataset(bench.run(format="WebDataset"))
    assert [clip.path for clip in dataset.clips] == [
        "0.tar/0.mp4", "0.tar/1.mp4", "1.tar/2.mp4", "1.tar/3.mp4",
    ]  # fmt: skip
    assert (len(dataset.train), len(dataset.held_out)) == (2, 2)
    for clip, data in zip(dataset.clips, good, strict=True):
        assert clip.uri == f"s3://wan/{bench.prefix}/{clip.path[:5]}"
        bring(bench.store, clip, tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == data
    assert list((bench.work / "clips").iterdir()) == []


def test_names_of_other_systems_mean_the_object_that_there_is(
    bench: Bench, good: list[bytes], tmp_path: Path
) -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    keys = [f"in/{decomposed}.mp4", "in/b.mp4"]
    image = picture(tmp_path / "first.png")
    put(bench, dict(zip(keys, good, strict=False)) | {f"{decomposed}.png": image})
    rows = ["video;prompt;input_image", "in\\café.mp4;x;café.png", "in/b.mp4;y;None", "IN/b.mp4;z;"]
    put(bench, {"metadata.csv": "\n".join(rows)})
    outcome = bench.run(rejectedClips="Skip")
    dataset = bench.dataset(outcome)
    assert [clip.key for clip in dataset.clips[:2]] == [f"{bench.prefix}/{key}" for key in keys]
    assert [clip.path for clip in dataset.clips[:2]] == keys
    bring(bench.store, dataset.clips[0], tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == good[0]
    first = dataset.clips[0].first_frame
    assert first is not None
    assert first.key == f"{bench.prefix}/{decomposed}.png"
    assert dataset.clips[2].message.endswith("/IN/b.mp4; did you mean in/b.mp4?")
    note = "1 path holds a backslash, read as / where no file is named so"
    assert dataset.notes == (note,)
    assert note in outcome.message


def test_the_wrong_format_says_what_is_there(bench: Bench, four: list[Row]) -> None:
    error = bench.fail(format="WebDataset")
    assert error.reason is Reason.DATASET_NOT_FOUND
    assert "4 .mp4, 1 .json: that looks like dataset.format: DiffSynth" in error.message


def test_files_beside_clips_are_checked_and_recorded(
    bench: Bench, four: list[Row], good: list[bytes], tmp_path: Path
) -> None:
    image = picture(tmp_path / "first.png")
    put(bench, {"first.png": image, "control.mp4": good[0], "vace.mp4": good[1]})
    beside = {
        "input_image": "./first.png", "control_video": "control.mp4", "vace_video": "vace.mp4",
    }  # fmt: skip
    bench.put({}, [{**four[0], **beside}, *four[1:]])
    clips = bench.dataset(bench.run()).clips
    first, control, vace = clips[0].first_frame, clips[0].control_video, clips[0].vace_video
    assert first is not None
    assert control is not None
    assert vace is not None
    assert first.path == "first.png"
    assert (control.bytes, control.key) == (len(good[0]), f"{bench.prefix}/control.mp4")
    assert vace.uri == f"s3://wan/{bench.prefix}/vace.mp4"
    assert clips[1].first_frame is None
    frames = np.zeros((5, 96, 128, 3), np.uint8)
    got = first_frame_of(bench.store, clips[0], frames, tmp_path / "pixels")
    assert got.shape == (96, 128, 3)
    assert np.abs(got.astype(int) - 90).max() <= 1
    own = first_frame_of(bench.store, clips[1], frames, tmp_path / "pixels")
    assert own is not None
    assert own.max() == 0


@pytest.mark.parametrize(
    ("column", "path", "code", "message"),
    [
        ("input_image", "gone.png", Code.FIRST_FRAME_INVALID, "its first frame gone.png does not"),
        ("input_image", "../x.png", Code.FIRST_FRAME_INVALID, "leaves dataset.source"),
        (
            "input_image",
            "no.png",
            Code.FIRST_FRAME_INVALID,
            "is no picture of a known kind: send a JPEG",
        ),
        ("input_image", "tiny.png", Code.FIRST_FRAME_INVALID, "is 60x60, too small for 128x96"),
        ("control_video", "no.png", Code.CONTROL_VIDEO_INVALID, "does not open as a video"),
        ("vace_video", "gone.mp4", Code.VACE_VIDEO_INVALID, "its vace video gone.mp4 does not"),
    ],
)
def test_a_bad_file_beside_a_clip_has_its_verdict(
    bench: Bench, four: list[Row], tmp_path: Path, column: str, path: str, code: Code, message: str
) -> None:
    put(bench, {"no.png": "no picture", "tiny.png": picture(tmp_path / "t.png", 60, 60)})
    bench.put({}, [*four[:3], {**four[3], column: path}])
    clip = bench.dataset(bench.run(rejectedClips="Skip")).clips[3]
    assert clip.code is code
    assert message in clip.message


def test_a_turned_picture_is_upright(tmp_path: Path) -> None:
    image = Image.fromarray(videos.pixels("bikes")[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by 90 degrees
    image.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    got = read_picture(tmp_path / "turned.png", width=640, height=272)
    assert np.array_equal(got, np.asarray(image))
    got = read_picture(tmp_path / "turned.png", width=192, height=208)
    served = cut(read(tmp_path / "turned.png"), 192, 208)
    assert np.array_equal(got, np.asarray(served))
