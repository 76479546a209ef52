"""Suffixes of videos: those of the containers that the decoder opens, and of other trainers."""

from __future__ import annotations

import re
from pathlib import Path

import av
import imageio
import numpy as np
import pytest

from unit.runtime.test_formats import put
from wan_runtime.contract.dataset import Columns
from wan_runtime.data.clips import check_clip
from wan_runtime.data.formats.reader import read_listing
from wan_runtime.data.formats.suffixes import VIDEO_SUFFIXES, is_junk, is_video

MUXERS = {
    "mp4": (".mp4", ".m4v"), "mov": (".mov", ".qt"), "3gp": (".3gp",), "3g2": (".3g2",),
    "f4v": (".f4v",), "ismv": (".ismv",), "matroska": (".mkv", ".mk3d"), "webm": (".webm",),
    "avi": (".avi",), "mpegts": (".ts", ".mts", ".m2ts", ".m2t"), "mpeg": (".mpg", ".mpeg"),
    "vob": (".vob", ".dvd"), "flv": (".flv",), "gif": (".gif",), "asf": (".asf", ".wmv"),
    "ogv": (".ogv", ".ogg"),
}  # fmt: skip
"""What writes files of a suffix, by FFmpeg's names."""
CODECS = {"webm": "libvpx-vp9", "ogv": "libvpx", "gif": "gif", "asf": "wmv2", "mpeg": "mpeg2video"}


def write(path: Path, muxer: str) -> None:
    codec = CODECS.get(muxer, "mpeg2video" if muxer in ("mpegts", "vob") else "libx264")
    with av.open(str(path), "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for level in range(12):
            image = np.full((64, 64, 3), 20 * level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("muxer", MUXERS)
def test_every_suffix_opens(tmp_path: Path, muxer: str) -> None:
    for suffix in MUXERS[muxer]:
        path = tmp_path / f"clip{suffix}"
        write(path, muxer)
        assert is_video(path.name)
        facts = check_clip(path, frames=5, fps=16, width=64, height=64)
        assert facts.frames == 5, suffix


def test_each_suffix_is_of_a_container_that_is_opened() -> None:
    assert {suffix for known in MUXERS.values() for suffix in known} == VIDEO_SUFFIXES


@pytest.mark.parametrize(
    "suffixes",
    [
        ".mp4 .webm .avi .mkv .mov .flv .wmv .m4v .mpg .mpeg",
        ".mp4 .avi .mov .webm .mkv .wmv .m4v .flv",
        ".mp4 .avi .mov .wmv .mkv .flv .webm .gif",
    ],
    ids=["musubi-tuner v0.3.4", "ai-toolkit 27a03a9", "diffsynth 2.1.12"],
)
def test_the_lists_of_other_trainers_are_covered(suffixes: str) -> None:
    """musubi_tuner/dataset/media_utils.py, toolkit/data_loader.py, diffsynth/core/data."""
    assert set(suffixes.split()) <= VIDEO_SUFFIXES


def test_what_diffusion_pipe_takes_and_no_decoder_here_is_named(tmp_path: Path) -> None:
    """diffusion-pipe 8f83dbf (utils/common.py) takes all that imageio counts as videos: raw
    streams, audio and formats of old games too."""
    theirs = {each.extension.lower() for each in imageio.config.video_extensions}
    others = sorted(theirs - VIDEO_SUFFIXES)
    files: dict[str, str | bytes] = {"clip.mp4": "", "clip.txt": "x"}
    for suffix in others:
        files |= {f"of{suffix}/of{suffix}": "", f"of{suffix}/of.txt": "x"}
    notes = read_listing(put(tmp_path, files), "Folder", Columns()).notes
    assert len(notes) == 1
    said = f"left out: files with a caption, of no kind of video that is read ({len(others)}): "
    assert notes[0].startswith(said)


@pytest.mark.parametrize(
    "path", ["._a.mp4", ".a.mp4", ".trash/a.mp4", "__MACOSX/a.mp4", "x/@eaDir/a.mp4", "Thumbs.db"]
)
def test_what_systems_leave_is_no_video(path: str) -> None:
    assert is_junk(path)
    assert not is_video(path)


def test_the_guide_lists_the_suffixes() -> None:
    text = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text()
    listed = re.search(r"a clip is what ends in ([^A-Z]*), in letters of any case", text)
    assert listed is not None
    assert set(re.findall(r"`(\.\w+)`", listed[1])) == VIDEO_SUFFIXES
