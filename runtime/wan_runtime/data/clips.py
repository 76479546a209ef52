"""Decoding clips: the checks of `prepare`, and the pixels for the encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wan_runtime.data import picture as still
from wan_runtime.data.buckets import fitting
from wan_runtime.data.dataset import Code
from wan_runtime.data.frames import Shown, crop_box, exact_rate, fits, resample
from wan_runtime.data.window import starts_of
from wan_runtime.job import Bucket, WindowKind

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,gif,asf,ogg"
"""Containers that are opened. Not playlists: they make FFmpeg open other files."""
STILL = 128
"""Pixels at the longer side of what is looked at for cuts, bars and the like."""
MAX_PIXELS = 2**26
"""Of a frame: a file of a few bytes may claim any size."""


@dataclass(slots=True)
class Facts:
    """What a clip is, as far as it was looked at."""

    width: int = 0
    """Pixels as displayed, rotation applied."""
    height: int = 0
    pixel_aspect: float = 1.0
    """Width of a pixel as displayed over its height."""
    fps: float = 0.0
    duration: float = 0.0
    """Seconds."""
    frames: int = 0
    """At the target rate, at most the number wanted."""
    starts: tuple[int, ...] = (0,)
    """First frame of each window, at the target rate."""
    stills: list[NDArray[np.uint8]] = field(default_factory=list, repr=False)
    """[H, W, 3] of each frame of the windows, in order, STILL pixels at the longer side."""
    decoded: int = field(default=0, repr=False)
    declared: int = field(default=0, repr=False)
    """Frames by the container's own count; 0 if it has none."""

    def window(self, number: int, frames: int) -> NDArray[np.uint8]:
        """[F, H, W, 3]: the stills of one window."""
        kept = sorted({start + index for start in self.starts for index in range(frames)})
        at = kept.index(self.starts[number])
        return np.stack(self.stills[at : at + frames])


class ClipRejected(Exception):
    """A clip fails a check."""

    def __init__(self, code: Code, message: str, facts: Facts) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.facts = facts


def survey(path: Path, *, fps: float, limit: int | None) -> Facts:
    """What a clip is, before it is known what it is cut to.

    `limit`: of the frames at the target rate, counted in `frames`; None: all. Raises
    ClipRejected."""
    facts = Facts()
    for frame in islice(_timeline(path, fps, facts), limit):
        if not facts.frames:
            _measure(frame, facts)
        facts.frames += 1
    _check_length(facts, 1, fps)
    return facts


def choose(facts: Facts, buckets: Sequence[Bucket], fps: float) -> Bucket:
    """Of the buckets that a surveyed clip fills, the one that crops least; of these the longest.
    Buckets of one length are told apart by the first frame alone.

    Raises ClipRejected(TOO_SMALL, TOO_SHORT) if it fills none."""
    large_enough = fitting(buckets, facts.width, facts.height, facts.pixel_aspect)
    if not large_enough:
        sizes = ", ".join(dict.fromkeys(f"{each.width}x{each.height}" for each in buckets))
        raise ClipRejected(
            Code.TOO_SMALL,
            f"is {facts.width}x{facts.height}, too small for {sizes}: enlarging teaches blur",
            facts,
        )
    lengths = {each.frames for each in large_enough}
    if len(lengths) == 1:
        return large_enough[0]
    _check_length(facts, min(lengths), fps)
    return next(each for each in large_enough if each.frames <= facts.frames)


def check_clip(
    path: Path,
    *,
    frames: int,
    fps: float,
    width: int,
    height: int,
    window: WindowKind = "First",
    windows: int = 1,
    total: int | None = None,
) -> Facts:
    """Decode as much of a clip as training would use, and find its windows. Raises ClipRejected.

    `total`: frames of the whole clip at the target rate, if they are counted already."""
    facts = Facts()
    if window != "First":  # where they begin depends on where the clip ends
        total = total or _count(path, fps, frames)
        facts.starts = starts_of(window, windows, total=total, frames=frames)
    kept = {start + index for start in facts.starts for index in range(frames)}
    needed = facts.starts[-1] + frames
    last: av.VideoFrame | None = None
    for index, frame in enumerate(islice(_timeline(path, fps, facts), needed)):
        if index == 0:
            _check_picture(frame, facts, width, height)
        if index in kept:
            again = frame is last and bool(facts.stills)
            facts.stills.append(facts.stills[-1] if again else _still(frame, width, height))
            last = frame
        facts.frames += 1
    _check_length(facts, needed, fps)
    return facts


def _count(path: Path, fps: float, frames: int) -> int:
    """Frames of the whole clip at the target rate, at least those that are needed."""
    facts = survey(path, fps=fps, limit=None)
    _check_length(facts, frames, fps)
    return facts.frames


def read_clip(
    path: Path, *, frames: int, fps: float, width: int, height: int, start: int = 0
) -> NDArray[np.uint8]:
    """`frames` frames at `fps` from number `start` on: uint8 [frames, height, width, 3], RGB.

    Resampled by timestamp, turned as the metadata ask, cut to the centre and scaled down with
    antialiasing. Raises ClipRejected.
    """
    facts = Facts()
    pixels = np.empty((frames, height, width, 3), np.uint8)
    last: av.VideoFrame | None = None
    for index, frame in enumerate(islice(_timeline(path, fps, facts), start + frames)):
        facts.frames += 1
        if index < start:
            continue
        if frame is last:  # a slow source shows one frame at several moments
            pixels[index - start] = pixels[index - start - 1]
        else:
            _check_picture(frame, facts, width, height)
            pixels[index - start] = fit(_upright(frame), width, height, _pixel_aspect(frame))
        last = frame
    _check_length(facts, start + frames, fps)
    return pixels


def read_picture(path: Path, *, width: int, height: int) -> NDArray[np.uint8]:
    """A still picture, upright and cut as clips are: uint8 [height, width, 3], RGB.

    Raises ClipRejected(FIRST_FRAME_INVALID)."""

    def rejected(message: str) -> ClipRejected:
        return ClipRejected(Code.FIRST_FRAME_INVALID, message, Facts())

    try:
        with Image.open(path, formats=still.FORMATS) as picture:
            image = np.asarray(still.upright(picture))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise rejected(
            f"does not open as a picture of {', '.join(still.FORMATS)}: {error}"
        ) from error
    box = crop_box(image.shape[1], image.shape[0], width, height)
    if not fits(box, width, height):
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise rejected(f"is {size}, too small for {width}x{height}: enlarging teaches blur")
    return fit(image, width, height)


def fit(
    image: NDArray[np.uint8], width: int, height: int, pixel_aspect: float = 1.0
) -> NDArray[np.uint8]:
    """The centre of an image [H, W, 3] in the target's shape and size, scaled with antialiasing."""
    return np.asarray(still.cut(Image.fromarray(image), width, height, pixel_aspect))


def _timeline(path: Path, fps: float, facts: Facts) -> Iterator[av.VideoFrame]:
    """Frames at the target rate; whatever is wrong with the file comes out as ClipRejected."""
    try:
        with _opened(path, facts) as (container, stream):
            rate = stream.average_rate or exact_rate(fps)
            tolerance = min(Fraction(stream.time_base), 1 / (4 * rate))
            yield from resample(_shown(container, stream, facts), exact_rate(fps), tolerance)
    except av.FFmpegError as error:
        if facts.decoded == 0:
            raise ClipRejected(
                Code.UNREADABLE, f"does not open as a video: {error.strerror}", facts
            ) from error
        raise ClipRejected(Code.UNDECODABLE, _undecodable(facts), facts) from error


@contextmanager
def _opened(path: Path, facts: Facts) -> Iterator[tuple[Any, Any]]:
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    with av.open(str(path), options=options) as container:
        if not container.streams.video:
            raise ClipRejected(Code.UNREADABLE, "holds no video stream", facts)
        stream: Any = container.streams.video[0]
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        stream.codec_context.thread_count = 1  # clips are decoded side by side instead
        facts.declared = int(stream.frames)
        facts.fps = round(float(stream.average_rate or 0), 3)
        if stream.duration is not None:
            facts.duration = round(float(stream.duration * stream.time_base), 3)
        elif container.duration is not None:
            facts.duration = round(container.duration / av.time_base, 3)
        yield container, stream


def _shown(container: Any, stream: Any, facts: Facts) -> Iterator[Shown[av.VideoFrame]]:
    usual = 1 / stream.average_rate if stream.average_rate else Fraction(0)
    start: Fraction | None = None
    following = Fraction(0)
    for frame in container.decode(stream):
        if frame.is_corrupt:  # painted over by the decoder, which calls it a frame
            raise ClipRejected(Code.UNDECODABLE, _undecodable(facts), facts)
        facts.decoded += 1
        duration = frame.duration * frame.time_base if frame.duration else usual
        time = following if frame.pts is None else frame.pts * frame.time_base - (start or 0)
        if start is None:
            start, time = time, Fraction(0)
        following = time + duration
        yield Shown(time, duration, frame)


def _measure(frame: av.VideoFrame, facts: Facts) -> None:
    if frame.rotation % 90:
        raise ClipRejected(
            Code.ROTATION_UNSUPPORTED,
            f"is to be shown turned by {frame.rotation} degrees; only quarter turns are handled",
            facts,
        )
    turned = frame.rotation % 180 != 0
    facts.width, facts.height = (
        (frame.height, frame.width) if turned else (frame.width, frame.height)
    )
    facts.pixel_aspect = _pixel_aspect(frame)


def _check_picture(frame: av.VideoFrame, facts: Facts, width: int, height: int) -> None:
    _measure(frame, facts)
    box = crop_box(facts.width, facts.height, width, height, facts.pixel_aspect)
    if not fits(box, width, height):
        raise ClipRejected(
            Code.TOO_SMALL,
            f"is {facts.width}x{facts.height}, of which {box[2] - box[0]:.0f}x"
            f"{box[3] - box[1]:.0f} have the shape of {width}x{height}: enlarging teaches blur",
            facts,
        )


def _check_length(facts: Facts, frames: int, fps: float) -> None:
    if facts.frames >= frames:
        return
    if facts.decoded < facts.declared or not facts.decoded:
        raise ClipRejected(Code.UNDECODABLE, _undecodable(facts), facts)
    raise ClipRejected(
        Code.TOO_SHORT,
        f"has {facts.frames} frames at {fps:g} fps ({facts.decoded} of its own in "
        f"{facts.duration:g} s); needs {frames}",
        facts,
    )


def _undecodable(facts: Facts) -> str:
    of = f" of {facts.declared}" if facts.declared else ""
    return f"does not decode after frame {facts.decoded}{of}"


def _pixel_aspect(frame: av.VideoFrame) -> float:
    """Of a pixel as displayed, so turned with the picture."""
    stated = getattr(frame, "sample_aspect_ratio", None)
    aspect = float(stated) if stated else 1.0
    return 1 / aspect if frame.rotation % 180 else aspect


def _still(frame: av.VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
    """[H, W, 3] of the part that is trained on, STILL pixels at the longer side."""
    # Twice as fine before the cut, by FFmpeg, which is fast.
    scale = min(1.0, 2 * STILL / max(frame.width, frame.height))
    small = frame.reformat(
        width=max(1, round(frame.width * scale)),
        height=max(1, round(frame.height * scale)),
        format="rgb24",
        interpolation="AREA",
    )
    image = np.ascontiguousarray(np.rot90(small.to_ndarray(), frame.rotation // 90))
    factor = STILL / max(width, height)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return fit(image, *size, _pixel_aspect(frame))


def _upright(frame: av.VideoFrame) -> NDArray[np.uint8]:
    # Counter-clockwise in both: FFmpeg's rotation and NumPy's rot90.
    image: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, frame.rotation // 90))
