"""Decoding clips: the checks of `prepare`, and the pixels for the encoder.

Both read by `timeline` and `Display`, so that what was checked is what is encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wan_runtime.contract.dataset import Bucket, WindowKind
from wan_runtime.contract.strides import SIDES, SPATIAL_STRIDE
from wan_runtime.data import picture as still
from wan_runtime.data.buckets import fitting
from wan_runtime.data.dataset import Code
from wan_runtime.data.decode import A_PICTURE, as_verdict, timeline, undecodable
from wan_runtime.data.display import Display
from wan_runtime.data.facts import ClipRejected, Facts
from wan_runtime.data.frames import crop_box, fits
from wan_runtime.data.rejected import PictureRejected
from wan_runtime.data.window import starts_of

STILL = 128
"""Pixels at the longer side of what is searched for cuts, bars and the like."""
MOST = 10**6
"""Frames that are counted, 17 hours at 16 a second: a broken clock may say years."""


def survey(path: Path, *, fps: float, limit: int | None) -> Facts:
    """What a clip is, before it is known what it is cut to.

    `limit`: of the frames at the target rate, counted in `frames`; None: all. Raises
    ClipRejected."""
    facts = Facts()
    display = Display(facts)
    with as_verdict(path, facts):
        for frame in islice(timeline(path, fps, facts, whole=False), limit or MOST):
            if not facts.frames:
                display.measure(frame)
            facts.frames += 1
    _check_length(facts, 1, fps)
    return facts


def choose(facts: Facts, buckets: Sequence[Bucket], fps: float) -> Bucket:
    """Choose the bucket that crops a surveyed clip least, among those that it fills; of equal ones,
    the longest. Among buckets of one length, the picture size alone decides.

    Raises ClipRejected(TOO_SMALL, TOO_SHORT) if it fills none."""
    large_enough = fitting(buckets, facts.width, facts.height, facts.pixel_aspect)
    if not large_enough:
        sizes = ", ".join(dict.fromkeys(f"{each.width}x{each.height}" for each in buckets))
        raise ClipRejected(
            Code.TOO_SMALL,
            f"is {facts.size}, too small for {sizes}: enlarging teaches blur",
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
    display = Display(facts, 2 * STILL)  # twice as fine, before the cut
    factor = STILL / max(width, height)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    last: Any = None
    with as_verdict(path, facts):
        for index, frame in enumerate(islice(timeline(path, fps, facts), needed)):
            facts.frames += 1
            if index not in kept:
                continue
            if frame is last:  # a slow source shows one frame at several times
                facts.stills.append(facts.stills[-1])
                continue
            _check_picture(frame, display, facts, width, height)
            facts.stills.append(fit(display.pixels(frame), *size, facts.pixel_aspect))
            last = frame
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

    Resampled by timestamp, as a player shows it, cut to the centre and scaled down with
    antialiasing. Raises ClipRejected.
    """
    facts = Facts()
    display = Display(facts)
    pixels = np.empty((frames, height, width, 3), np.uint8)
    last: Any = None
    with as_verdict(path, facts):
        for index, frame in enumerate(islice(timeline(path, fps, facts), start + frames)):
            facts.frames += 1
            if index < start:
                continue
            at = index - start
            if frame is last:
                pixels[at] = pixels[at - 1]
                continue
            _check_picture(frame, display, facts, width, height)
            pixels[at] = fit(display.pixels(frame), width, height, facts.pixel_aspect)
            last = frame
    _check_length(facts, start + frames, fps)
    return pixels


def read_picture(path: Path, *, width: int, height: int) -> NDArray[np.uint8]:
    """A still picture, upright, in sRGB and cut as clips are: uint8 [height, width, 3], RGB.

    Raises ClipRejected(FIRST_FRAME_INVALID)."""

    def rejected(message: str) -> ClipRejected:
        return ClipRejected(Code.FIRST_FRAME_INVALID, message, Facts())

    try:
        image = np.asarray(still.read(path))
    except PictureRejected as error:
        raise rejected(error.message) from error
    box = crop_box(image.shape[1], image.shape[0], width, height)
    if not fits(box, width, height):
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise rejected(f"is {size}, too small for {width}x{height}: enlarging teaches blur")
    return fit(image, width, height)


def fit(
    image: NDArray[np.uint8], width: int, height: int, pixel_aspect: float = 1.0
) -> NDArray[np.uint8]:
    """The centre of an image [H, W, 3] in the target's shape and size, scaled with antialiasing.

    An image that has both already is returned as it is."""
    if image.shape[:2] == (height, width) and pixel_aspect == 1:
        return image
    return np.asarray(still.cut(Image.fromarray(image), width, height, pixel_aspect))


def _check_picture(frame: Any, display: Display, facts: Facts, width: int, height: int) -> None:
    display.measure(frame)
    box = crop_box(facts.width, facts.height, width, height, facts.pixel_aspect)
    if not fits(box, width, height):
        scale = min((box[2] - box[0]) / width, (box[3] - box[1]) / height)
        most = [int(side * scale) // SPATIAL_STRIDE * SPATIAL_STRIDE for side in (width, height)]
        enough = ""
        if min(most) >= SIDES[0]:
            enough = f". In that shape it is enough for {most[0]}x{most[1]}"
        raise ClipRejected(
            Code.TOO_SMALL,
            f"is {facts.size}, too small for {width}x{height}: enlarging teaches blur{enough}",
            facts,
        )


def _check_length(facts: Facts, frames: int, fps: float) -> None:
    if facts.frames >= frames:
        return
    if facts.decoded < facts.declared or not facts.decoded:
        raise undecodable(facts)
    if facts.decoded == 1:
        raise ClipRejected(
            Code.TOO_SHORT,
            f"has one frame that can be read, so it is a picture: {A_PICTURE}",
            facts,
        )
    raise ClipRejected(
        Code.TOO_SHORT,
        f"has {facts.frames} frames at {fps:g} fps ({facts.decoded} of its own in "
        f"{facts.duration:g} s); needs {frames}",
        facts,
    )
