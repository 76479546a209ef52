"""What a clip looks like: cuts, stillness, bars, fingerprint and thumbnail, from small stills.

The limits were measured on real clips: the five cuts of a film of traffic change 53 to 96 of 255
levels and at least 2.7 times what their neighbours change; the fastest motion without a cut 40
levels and 1.7 times. A still with a camera's noise drifts by 1.5 levels, a zoom of 6 % in two
seconds by 7. Copies that were scaled, made brighter or distorted differ in at most 14 of 255 bits,
other shots of one film in 20 and more, other films in 104 and more.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Shapes: F frames, H W rows and columns of a still.

Stills = NDArray[np.uint8]
"""[F, H, W, 3], RGB."""

CUT_LEVELS, CUT_RATIO = 20.0, 2.2
NEIGHBOURS = 3
"""Changes on either side that a change is compared with."""
STILL_LEVELS = 2.0
REPEATED_SHARE = 0.1
"""Share of repeated frames beyond which a warning is given. 15 frames per second played at 16
repeat one in 16."""
BAR_LEVEL = 30
"""Black of limited range, with what compression adds."""
BAR_SHARE = 0.03
"""Size of a bar on each of two opposite sides, at least, as a share of the height or width."""
FINGERPRINTS = 4
"""Frames of a clip that are compared."""
HASH_SIDE = 16
FLAT_LEVELS = 4.0
"""Pictures of less contrast say nothing about where they are from."""
TWIN_BITS = 16
"""Bits of 255 in which the frame hashes of near-duplicates differ, at most."""
THUMBNAILS = 3
THUMBNAIL_WIDTH = 112
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def cuts(stills: Stills) -> list[int]:
    """Frames that begin another scene."""
    # A slow source shows one frame twice; its repetitions change nothing and are no measure.
    changed = [
        (index + 1, float(np.abs(now.astype(np.int16) - before).mean()))
        for index, (before, now) in enumerate(pairwise(stills))
        if not np.array_equal(before, now)
    ]
    levels = [level for _, level in changed]
    found = []
    for at, (frame, level) in enumerate(changed):
        near = levels[max(0, at - NEIGHBOURS) : at] + levels[at + 1 : at + 1 + NEIGHBOURS]
        usual = float(np.median(near)) if near else 0.0
        if level >= CUT_LEVELS and level >= CUT_RATIO * (usual + 1):
            found.append(frame)
    return found


def drift(stills: Stills) -> float:
    """Levels of 255 by which the most different frame differs from the first, on average."""
    return float(np.abs(stills.astype(np.int16) - stills[0]).mean(axis=(1, 2, 3)).max())


def repeats(stills: Stills) -> int:
    """Frames that are the one before once more."""
    return sum(np.array_equal(before, now) for before, now in pairwise(stills))


def bars(stills: Stills) -> str:
    """`letterbox` or `pillarbox` for black bars above and below, or at both sides; else empty."""
    brightest = stills.max(axis=0).astype(np.float32) @ _LUMA
    if brightest.max() < 2 * BAR_LEVEL:
        return ""  # a dark scene
    for name, lines in (("letterbox", brightest.max(axis=1)), ("pillarbox", brightest.max(axis=0))):
        lit = np.flatnonzero(lines >= BAR_LEVEL)
        ends = (int(lit[0]), len(lines) - 1 - int(lit[-1]))
        if min(ends) >= max(2.0, BAR_SHARE * len(lines)):
            return name
    return ""


def fingerprint(stills: Stills) -> NDArray[np.uint64]:
    """[N, 4]: 255 bits each of up to 4 frames: signs of the lowest frequencies about their median
    (C. Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010)."""
    chosen = np.unique(np.linspace(0, len(stills) - 1, FINGERPRINTS).round().astype(int))
    bits = []
    for still in stills[chosen]:
        grey = Image.fromarray(still).convert("L").resize((32, 32), Image.Resampling.BOX)
        levels = np.asarray(grey, np.float32)
        if levels.std() >= FLAT_LEVELS:
            lowest = (_COSINES @ levels @ _COSINES.T).ravel()[1:]
            bits.append(np.packbits(np.append(lowest > np.median(lowest), False)))
    return np.array(bits, np.uint8).reshape(-1, 32).view(np.uint64)


def twins(prints: Sequence[NDArray[np.uint64]]) -> Iterable[tuple[int, int]]:
    """(i, j), i < j, of clips that show one picture."""
    owners = np.repeat(np.arange(len(prints)), [len(each) for each in prints])
    rows = np.concatenate([*prints, np.empty((0, 4), np.uint64)])
    for first, own in enumerate(prints):
        later = owners > first
        if not len(own) or not later.any():
            continue
        apart = np.bitwise_count(rows[later][:, None] ^ own[None]).sum(axis=2).min(axis=1)
        for second in np.unique(owners[later][apart <= TWIN_BITS]):
            yield first, int(second)


def thumbnail(stills: Stills) -> bytes:
    """WebP of the first, a middle and the last frame side by side."""
    chosen = np.linspace(0, len(stills) - 1, THUMBNAILS).round().astype(int)
    strip = Image.fromarray(np.concatenate(list(stills[chosen]), axis=1))
    height = max(1, round(strip.height * THUMBNAIL_WIDTH * THUMBNAILS / strip.width))
    sink = io.BytesIO()
    strip.resize((THUMBNAIL_WIDTH * THUMBNAILS, height)).save(sink, "WEBP", quality=50)
    return sink.getvalue()


def _cosines() -> NDArray[np.float32]:
    """[16, 32]: the lowest rows of the discrete cosine transform."""
    place = (np.arange(32) + 0.5) * np.pi / 32
    return np.cos(np.arange(HASH_SIDE)[:, None] * place).astype(np.float32)


_COSINES = _cosines()
