"""What becomes of one clip never touches the others: whatever it raises is its verdict."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

import coloured
import videos
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.dataset import Bucket, DatasetSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.data import checker, pixels
from wan_runtime.data.captions import estimate
from wan_runtime.data.dataset import Clip, Code, Concern, Dataset
from wan_runtime.data.filters import Chain
from wan_runtime.data.review import review
from wan_runtime.data.source import FolderSource
from wan_runtime.errors import InfrastructureError, InputError
from wan_runtime.process.progress import Reporter

BUCKET = Bucket(width=128, height=96, frames=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three good clips, one with all that may lie beside it."""
    for number in range(3):
        videos.cut(tmp_path / f"{number}.mp4", start=10 * number, frames=8)
    videos.cut(tmp_path / "control.mp4", "bigbuckbunny", frames=8)
    Image.new("RGB", (160, 120)).save(tmp_path / "first.png")
    rows = ["video,prompt,input_image,control_video", "0.mp4,a,,", "1.mp4,b,first.png,control.mp4",
            "2.mp4,c,,"]  # fmt: skip
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    return tmp_path


def checked(folder: Path) -> Dataset:
    spec = DatasetSpec.model_validate({"source": "", "buckets": [BUCKET], "fps": 16})
    report = Reporter("dataset", terminal=False)
    return review(FolderSource(folder), spec, folder / "scratch", estimate, report).dataset


def raises(error: BaseException, name: str) -> Callable[..., Any]:
    """`check_clip` and its like, which fail for one file."""

    def reader(path: Path, **wanted: Any) -> Any:
        if path.name == name:
            raise error
        return real(path, **wanted)

    real = checker.check_clip
    return reader


@pytest.mark.parametrize(
    "error",
    [
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        ValueError("x"),
        KeyError("x"),
        AssertionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_clip_raises_is_its_verdict(
    folder: Path,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(checker, "check_clip", raises(error, "0.mp4"))
    with caplog.at_level(logging.DEBUG):
        clips = checked(folder).clips
    assert [clip.code for clip in clips] == [Code.UNREADABLE, Code.ACCEPTED, Code.ACCEPTED]
    assert clips[0].message == "is not read, for a cause not foreseen: encode it anew"
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert record.levelno == logging.DEBUG


@pytest.mark.parametrize(
    ("reader", "name", "code"),
    [
        ("read_picture", "first.png", Code.FIRST_FRAME_INVALID),
        ("check_clip", "control.mp4", Code.CONTROL_VIDEO_INVALID),
    ],
)
def test_whatever_a_file_beside_a_clip_raises_too(
    folder: Path, reader: str, name: str, code: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checker, reader, raises(ValueError("x"), name))
    clips = checked(folder).clips
    assert [clip.code for clip in clips] == [Code.ACCEPTED, code, Code.ACCEPTED]
    assert f"{name} is not read, for a cause not foreseen:" in clips[1].message


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        MemoryError(),
        InfrastructureError(Reason.STORE_UNREACHABLE, "x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_machine_lacks_is_no_verdict(
    folder: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checker, "check_clip", raises(error, "0.mp4"))
    with pytest.raises(type(error)):
        checked(folder)


def test_what_was_changed_is_told(folder: Path) -> None:
    images = [videos.pixels("bikes")[40, :192, 2 * n : 2 * n + 256] for n in range(16)]
    woven = []
    for first, second in zip(images[::2], images[1::2], strict=True):
        frame = first.copy()
        frame[1::2] = second[1::2]
        woven.append(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p"))
    chain = Chain(woven[0], ("setfield", "tff"))
    flagged = []
    for frame in woven:
        chain.push(frame)
        flagged += chain.ready()
    options = {"x264-params": "tff=1"}
    coloured.encode(folder / "0.mp4", flagged, codec="libx264", options=options)
    levels = np.linspace(0, 255, 24).reshape(8, 3)
    frame = coloured.patches(levels, "yuv420p10le", 9, full=False, size=(160, 120))
    coloured.encode(folder / "1.mkv", coloured.still(frame, 8), colorspace=9, color_trc=18)
    table = (folder / "metadata.csv").read_text().replace("1.mp4", "1.mkv")
    (folder / "metadata.csv").write_text(table)
    dataset = checked(folder)
    told = [{warned.code: warned.message for warned in clip.warnings} for clip in dataset.clips]
    assert told[0][Concern.INTERLACED].startswith("is interlaced: deinterlaced")
    assert told[1][Concern.HDR].startswith("is HDR (HLG): tone-mapped to BT.709")
    assert not {Concern.INTERLACED, Concern.HDR} & told[2].keys()
    assert Dataset.model_validate_json(dataset.model_dump_json(by_alias=True)) == dataset


def test_a_clip_that_an_earlier_release_accepted_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"in/a.{'x' * 240}"  # may be no file's name here
    clip = Clip(
        row=1, path=path, uri="", key="", prompt="p", source="s", code=Code.ACCEPTED,
        sha256="a" * 64, bucket=BUCKET,
    )  # fmt: skip
    monkeypatch.setattr(pixels, "bring", lambda store, file, path: path.write_bytes(b"no video"))
    store: Store = None  # type: ignore[assignment]
    with pytest.raises(InputError) as caught:
        pixels.frames_of(store, clip, 16, tmp_path)
    assert caught.value.reason is Reason.CLIP_INVALID
    assert caught.value.message.startswith(f"{path} does not open as a video: ")
    assert not list(tmp_path.iterdir())
