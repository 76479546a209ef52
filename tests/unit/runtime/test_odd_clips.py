"""Clips of every kind, whole or damaged: each gets a verdict, and what is accepted can be read.

`WAN_ODD_CLIPS` says how many are made.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from hypothesis import HealthCheck, Phase, assume, event, given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray
from PIL import Image

from wan_runtime.contract.dataset import Bucket, DatasetSpec
from wan_runtime.data.captions import estimate
from wan_runtime.data.clips import check_clip, read_clip
from wan_runtime.data.dataset import Clip, Code
from wan_runtime.data.filters import Chain
from wan_runtime.data.review import review
from wan_runtime.data.source import FolderSource
from wan_runtime.process.progress import Reporter

EXAMPLES = int(os.environ.get("WAN_ODD_CLIPS", "100"))
BUCKET = Bucket(width=48, height=32, frames=5)
KINDS = [
    ("mp4", "libx264", "yuv420p"), ("mp4", "libx264", "yuvj420p"), ("mkv", "libx264", "yuv444p"),
    ("mov", "libx264", "yuv422p10le"), ("ts", "libx264", "yuv420p"), ("flv", "libx264", "yuv420p"),
    ("avi", "libx264", "yuv420p"), ("mp4", "libx264rgb", "rgb24"), ("mkv", "ffv1", "yuv420p"),
    ("mkv", "ffv1", "gray"), ("mkv", "ffv1", "gray10le"), ("mkv", "ffv1", "yuva444p10le"),
    ("mkv", "ffv1", "bgra"), ("mkv", "ffv1", "gbrap12le"), ("mkv", "ffv1", "yuv410p"),
    ("mov", "qtrle", "argb"), ("mov", "prores_ks", "yuv422p10le"), ("avi", "mjpeg", "yuvj422p"),
    ("avi", "mpeg4", "yuv420p"), ("mpg", "mpeg2video", "yuv420p"), ("ts", "mpeg2video", "yuv422p"),
    ("wmv", "wmv2", "yuv420p"), ("gif", "gif", "rgb8"), ("avi", "rawvideo", "bgr24"),
    ("webm", "libvpx", "yuv420p"), ("avi", "huffyuv", "rgb24"),
]  # fmt: skip
UNIT = some.sampled_from([-65536, 0, 65536])
FIELD = some.sampled_from(["tff", "bff", "prog"])
TAG = some.integers(0, 22)
ASPECTS = [Fraction(*each) for each in ((2, 1), (1, 1), (12, 11), (64, 45), (1, 2), (1, 300))]
RATES = [1, 8, 12, 16, 25, 30, 60, 240, Fraction(24000, 1001), Fraction(30000, 1001)]


@dataclass(frozen=True)
class Odd:
    """What a clip is made of."""

    kind: tuple[str, str, str]
    size: tuple[int, int]
    count: int
    rate: Fraction | int
    aspect: Fraction
    matrix: tuple[int, ...] | None
    tags: tuple[int, int, int, int]
    fields: tuple[str, ...]
    times: tuple[int, ...] | None
    title: bytes
    cut: float
    damage: tuple[tuple[float, int], ...]


def rarely(strange: some.SearchStrategy[Any], usual: Any) -> some.SearchStrategy[Any]:
    """One in five, so that most clips have one or two strange things, and some are accepted."""
    return some.sampled_from([False] * 4 + [True]).flatmap(
        lambda chosen: strange if chosen else some.just(usual)
    )


def odd() -> some.SearchStrategy[Odd]:
    corner = some.tuples(UNIT, UNIT, some.just(0), UNIT, UNIT, some.just(0), some.just(0),
                         some.just(0), some.just(1 << 30))  # fmt: skip
    wild = some.tuples(*[some.integers(-(2**31), 2**31 - 1)] * 9)
    moments = some.lists(some.integers(0, 60), min_size=24, max_size=24, unique=True)
    return some.builds(
        Odd,
        kind=some.sampled_from(KINDS),
        size=some.tuples(some.integers(46, 97), some.integers(30, 97)),
        count=rarely(some.integers(1, 24), 12),
        rate=rarely(some.sampled_from(RATES), 16),
        aspect=rarely(some.sampled_from(ASPECTS), Fraction(1)),
        matrix=rarely(corner | wild, None),
        tags=rarely(some.tuples(TAG, TAG, TAG, some.integers(0, 2)), (2, 2, 2, 0)),
        fields=rarely(some.lists(FIELD, min_size=1, max_size=4).map(tuple), ("prog",)),
        times=rarely(moments.map(sorted).map(tuple), None),
        title=rarely(some.binary(max_size=8).map(lambda data: data.replace(b"\0", b"")), b""),
        cut=rarely(some.floats(0, 1), 1.0),
        damage=rarely(some.lists(some.tuples(some.floats(0, 1), some.integers(0, 255)),
                                 max_size=12).map(tuple), ()),
    )  # fmt: skip


def make(odd: Odd, folder: Path) -> Path:
    """The clip as a file. Raises what an encoder that does not want it raises."""
    suffix, codec, form = odd.kind
    path = folder / f"clip.{suffix}"
    width, height = odd.size
    if form not in ("gray", "gray10le", "bgra", "rgb24", "bgr24", "argb"):
        width, height = width // 4 * 4, height // 4 * 4
    with av.open(str(path), "w", metadata_encoding="latin-1") as container:
        container.metadata["title"] = odd.title.decode("latin-1")
        stream: Any = container.add_stream(codec, rate=odd.rate)
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = width, height, form, 1
        stream.sample_aspect_ratio = odd.aspect
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = (
            odd.tags
        )
        if codec.startswith("libx264") and odd.fields != ("prog",):
            stream.options = {"flags": "+ilme+ildct"}
        if odd.matrix is not None:
            stream.set_display_matrix(odd.matrix)
        for number in range(odd.count):
            frame = picture(number, width, height).reformat(format=form)
            chain = Chain(frame, ("setfield", odd.fields[number % len(odd.fields)]))
            chain.push(frame)
            frame = next(chain.ready())
            frame.pts = number if odd.times is None else odd.times[number]
            frame.time_base = 1 / Fraction(odd.rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    for place, byte in odd.damage:
        data[int(place * (len(data) - 1))] = byte
    path.write_bytes(data[: int(odd.cut * len(data))])
    return path


def picture(number: int, width: int, height: int) -> av.VideoFrame:
    """A smooth one, so that it may be compared when it is reduced."""
    down, across = np.mgrid[:height, :width]
    image = np.stack(
        [255 * across // width, 255 * down // height, np.full_like(down, 80 * (number % 4))],
        axis=-1,
    )
    return av.VideoFrame.from_ndarray(image.astype(np.uint8), format="rgb24")


def coarse(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Without the grain of a palette."""
    return np.asarray(Image.fromarray(image).resize((12, 8), Image.Resampling.BOX)).astype(int)


@contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="odd-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def verdict(path: Path, window: str) -> Clip:
    """As `dataset check` gives it."""
    (path.parent / "metadata.csv").write_text(f"video,prompt\n{path.name},a caption\n")
    spec = DatasetSpec.model_validate(
        {"source": "", "buckets": [BUCKET], "fps": 16, "window": window, "windowsPerClip": 2}
    )
    report = Reporter("dataset", terminal=False)
    found = review(FolderSource(path.parent), spec, path.parent / "scratch", estimate, report)
    return found.dataset.clips[0]


@settings(
    max_examples=EXAMPLES, derandomize=True, database=None, deadline=None,
    suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink),
)  # fmt: skip
@given(odd(), some.sampled_from(["First", "Middle", "Spread"]))
def test_every_clip_has_a_verdict_that_holds(odd: Odd, window: str) -> None:
    with scratch() as folder:
        try:
            path = make(odd, folder)
        except (av.FFmpegError, OverflowError):
            assume(False)
        clip = verdict(path, window)
        event(str(clip.code))
        assert "not foreseen" not in clip.message
        assert clip.message or clip.code is Code.ACCEPTED
        if clip.code is not Code.ACCEPTED:
            return
        wanted = {"frames": 5, "fps": 16.0, "width": BUCKET.width, "height": BUCKET.height}
        facts = check_clip(path, **wanted, window=window, windows=2)  # type: ignore[arg-type]
        assert facts.starts == clip.starts
        for number, start in enumerate(clip.starts):
            frames = read_clip(path, **wanted, start=start)  # type: ignore[arg-type]
            assert frames.shape == (5, BUCKET.height, BUCKET.width, 3)
            if odd.damage:  # some decoders then show what is left in memory
                continue
            for frame, checked in zip(frames, facts.window(number, 5), strict=True):
                apart = np.abs(coarse(frame) - coarse(checked)).mean()
                assert apart < 6, "the frame before is 20 away"
