"""Which source frame is shown at which time, and which part of it is kept. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Displayed(Generic[T]):
    """A frame and when it is on the screen, in seconds after the first one appears."""

    time: Fraction
    duration: Fraction
    frame: T


def exact_rate(fps: float) -> Fraction:
    """Frames a second as a fraction: 23.976 and 29.97 stand for 24000/1001 and 30000/1001."""
    for whole in (24, 30, 48, 60, 120):
        ntsc = Fraction(whole * 1000, 1001)
        if abs(fps - ntsc) < 0.0005 * whole / 24:
            return ntsc
    return Fraction(fps).limit_denominator(1001)


def resample(
    displayed: Iterable[Displayed[T]], rate: Fraction, tolerance: Fraction = Fraction(0)
) -> Iterator[T]:
    """The frame on the screen at 0, 1/rate, 2/rate, ... seconds, as long as one is.

    That is the last frame at or before each time; of several at one time, as recorders of screens
    and phones write them, the last. `tolerance`, in seconds, absorbs the rounding
    of timestamps to the container's clock: 1/16 s is 63 ms in Matroska, and without it the time
    62.5 ms would show the frame before. It must be well below the time between two frames.
    """
    index, held = 0, None
    for now in displayed:
        if held is not None:
            if now.time < held.time:
                continue  # a broken clock: never go back
            while index / rate < now.time - tolerance:
                yield held.frame
                index += 1
        held = now
    if held is not None:
        end = held.time + held.duration
        while index / rate < end - tolerance:
            yield held.frame
            index += 1


def crop_box(
    width: int, height: int, target_width: int, target_height: int, pixel_aspect: float = 1.0
) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the largest centred part with the target's shape, in pixels.

    `pixel_aspect`: width of a stored pixel over its height; anamorphic video is not square.
    """
    # Compared as products: exact for integers, so that an equal shape keeps every pixel.
    across, down = width * pixel_aspect * target_height, height * target_width
    if across > down:
        kept = height * target_width / (target_height * pixel_aspect)
        left = (width - kept) / 2
        return left, 0.0, left + kept, float(height)
    kept = width * pixel_aspect * target_height / target_width
    top = (height - kept) / 2
    return 0.0, top, float(width), top + kept


def fits(box: tuple[float, float, float, float], width: int, height: int) -> bool:
    """Whether the part holds at least the target's pixels, so that nothing is enlarged."""
    left, top, right, bottom = box
    # A thousandth of a pixel: the box of a shape that divides evenly may miss by rounding.
    return right - left >= width - 1e-3 and bottom - top >= height - 1e-3
