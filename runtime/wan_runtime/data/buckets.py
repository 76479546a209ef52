"""Which bucket a clip is cut to. Pure arithmetic."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol, TypeVar

from wan_runtime.contract.dataset import Bucket
from wan_runtime.contract.strides import SPATIAL_STRIDE
from wan_runtime.data.frames import crop_box, fits


class InBucket(Protocol):
    @property
    def bucket(self) -> Bucket | None: ...


T = TypeVar("T")
B = TypeVar("B", bound=InBucket)
SHAPED = 0.8
"""Share of a picture that is left in a bucket of nearly its shape."""


def fitting(
    buckets: Sequence[Bucket], width: int, height: int, pixel_aspect: float = 1.0
) -> list[Bucket]:
    """Those that a picture fills without being enlarged; what crops least comes first, of these
    the longest, of these the largest."""

    def merit(bucket: Bucket) -> tuple[float, int, int]:
        # Rounded: buckets of one shape crop alike, whatever their size.
        crops = round(1 - kept(bucket, width, height, pixel_aspect), 9)
        return crops, -bucket.frames, -bucket.width * bucket.height

    filled = [
        bucket
        for bucket in buckets
        if fits(
            crop_box(width, height, bucket.width, bucket.height, pixel_aspect),
            bucket.width,
            bucket.height,
        )
    ]
    return sorted(filled, key=merit)


def kept(bucket: Bucket, width: int, height: int, pixel_aspect: float = 1.0) -> float:
    """Share of the picture that is left once it is cut to the bucket's shape."""
    left, top, right, bottom = crop_box(width, height, bucket.width, bucket.height, pixel_aspect)
    return (right - left) * (bottom - top) / (width * height)


def shaped(bucket: Bucket, width: int, height: int, pixel_aspect: float = 1.0) -> Bucket | None:
    """A bucket of no more area and of the same length that has nearly the shape of a picture, and
    that the picture fills: `bucket` on its side if it can be, which presets are trained on. None if
    the picture is too small for one."""
    ratio = width * pixel_aspect / height
    tall = math.sqrt(bucket.width * bucket.height / ratio)
    scale = min(1.0, height / tall, width / (tall * ratio))
    sizes = [(bucket.height, bucket.width), (tall * ratio * scale, tall * scale)]
    for across, down in sizes:
        wide, high = (int(side) // SPATIAL_STRIDE * SPATIAL_STRIDE for side in (across, down))
        if not wide or not high:
            continue
        found = Bucket(width=wide, height=high, frames=bucket.frames)
        if kept(found, width, height, pixel_aspect) >= SHAPED and fitting(
            [found], width, height, pixel_aspect
        ):
            return found
    return None


def one_of_each_bucket(clips: Sequence[B]) -> list[B]:
    """The first clip of each bucket, then the second of each, and so on."""
    return one_of_each(clips, lambda clip: clip.bucket)


def one_of_each(clips: Sequence[T], kind: Callable[[T], Hashable]) -> list[T]:
    """The first clip of each kind, then the second of each, and so on."""
    seen: Counter[Hashable] = Counter()
    turns = []
    for clip in clips:
        turns.append(seen[kind(clip)])
        seen[kind(clip)] += 1
    return [clip for _, clip in sorted(zip(turns, clips, strict=True), key=lambda pair: pair[0])]
