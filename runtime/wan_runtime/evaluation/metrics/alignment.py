"""Frames of two clips at equal times and in one size, one pair after another."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_runtime.contract.clip_scores import Unscored
from wan_runtime.data.clips import fit, read_picture, survey
from wan_runtime.data.decode import as_verdict, timeline, undecodable
from wan_runtime.data.display import Display
from wan_runtime.data.facts import ClipRejected, Facts
from wan_runtime.data.frames import crop_box
from wan_runtime.evaluation.metrics.frame import Frame, Pair
from wan_runtime.evaluation.metrics.unscored import NoScore

SMALLEST = 16
"""Pixels at the shorter side, at least: less is no picture."""


@dataclass(frozen=True, slots=True)
class Grid:
    """What both clips are read on. None: as the candidate has it."""

    fps: float | None = None
    """Frames a second of the timeline."""
    size: tuple[int, int] | None = None
    """Width and height in pixels."""
    start: int = 0
    """First frame of the reference that is compared, counted at `fps`: where the part of it begins
    that the candidate stands beside."""


AS_CANDIDATE = Grid()


class Aligned:
    """A clip and its reference, read in step. Iterating reads them once, two frames at a time.

    Both are resampled by timestamp and cut to their centre as training does it; nothing is
    enlarged. Raises NoScore.
    """

    def __init__(
        self,
        candidate: Path,
        reference: Path | None = None,
        first_frame: Path | None = None,
        grid: Grid = AS_CANDIDATE,
        limit: int | None = None,
        deadline: float = math.inf,
    ) -> None:
        """`limit`: of the pairs. None: until the shorter clip ends. `deadline`: of
        time.monotonic(), after which nothing more is read."""
        self._candidate, self._reference = candidate, reference
        self._start, self._limit = grid.start, limit
        self._deadline = deadline
        with _verdict("CandidateUnreadable", candidate):
            one = survey(candidate, fps=1, limit=1)
        other = None
        if reference is not None:
            with _verdict("ReferenceUnreadable", reference):
                other = survey(reference, fps=1, limit=1)
        self.fps = grid.fps or one.fps
        if not self.fps > 0:
            raise NoScore("CandidateUnreadable", f"{candidate.name} states no frame rate")
        self._rates = one.fps, None if other is None else other.fps
        self.width, self.height = _common_size([each for each in (one, other) if each], grid.size)
        self.frames = 0
        """Pairs read so far."""
        self.picture: NDArray[np.uint8] | None = None
        """[H, W, 3]: what the candidate starts from, by its own file."""
        if first_frame is not None:
            with _verdict("FirstFrameUnreadable", first_frame):
                self.picture = read_picture(first_frame, width=self.width, height=self.height)

    def facts(self) -> dict[str, Any]:
        """What was compared, by the names in ClipScores."""
        return {
            "frames_compared": max(0, self.frames - 1),
            "fps": self.fps,
            "fps_candidate": self._rates[0],
            "fps_reference": self._rates[1],
            "width": self.width,
            "height": self.height,
        }

    def __iter__(self) -> Iterator[Pair]:
        """Pairs until the shorter clip ends. What is left of the candidate is then decoded, so that
        one that is cut off is found."""
        ours = _Clip(self._candidate, "CandidateUnreadable", self, 0)
        theirs = None
        if self._reference is not None:
            theirs = _Clip(self._reference, "ReferenceUnreadable", self, self._start)
        start = None if self.picture is None else Frame(self.picture)
        one: Frame | None = None
        other: Frame | None = None
        while self.frames != self._limit:
            one = ours.next(one)
            if one is None:
                break
            if theirs is not None:
                other = theirs.next(other)
                if other is None:
                    break
            start = start or other
            yield Pair(self.frames, one, other, start, self.fps)
            self.frames += 1
            self._check_time()
        for _ in ours.rest():
            self._check_time()

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise NoScore("TimedOut", f"the time limit ended it after {self.frames} frames")


class _Clip:
    """Frames of one file at the rate and in the size of the pair."""

    def __init__(self, path: Path, reason: Unscored, aligned: Aligned, start: int) -> None:
        self._path, self._reason = path, reason
        self._size = aligned.width, aligned.height
        self._fps = aligned.fps
        self._facts = Facts()
        self._display = Display(self._facts)
        self._frames = islice(timeline(path, aligned.fps, self._facts), start, None)
        self._last: Any = None

    def next(self, before: Frame | None) -> Frame | None:
        with _verdict(self._reason, self._path), as_verdict(self._path, self._facts):
            decoded = next(self._frames, None)
            if decoded is None:
                self._check_end()
                return None
            self._facts.frames += 1
            if decoded is self._last and before is not None:  # shown for longer than a frame
                return Frame(before.rgb, before, before.decoded)
            self._last = decoded
            self._display.measure(decoded)
            facts = self._facts
            pixels = fit(self._display.pixels(decoded), *self._size, facts.pixel_aspect)
            whole = (decoded.width, decoded.height) == self._size and self._display.upright
            return Frame(pixels, before, decoded if whole else None)

    def rest(self) -> Iterator[None]:
        """Decode what is left, one by one."""
        with _verdict(self._reason, self._path), as_verdict(self._path, self._facts):
            for _ in self._frames:
                self._facts.frames += 1
                yield
            self._check_end()

    def _check_end(self) -> None:
        """Raise for a file that ends before it says: one that lost its end decodes in peace."""
        facts = self._facts
        missing = facts.duration - facts.frames / self._fps
        if facts.decoded < facts.declared and missing > 2 / min(self._fps, facts.fps or self._fps):
            raise undecodable(facts)


def _common_size(clips: list[Facts], wanted: tuple[int, int] | None) -> tuple[int, int]:
    """(width, height) that every clip fills: the one wanted, else the first clip's displayed size;
    smaller in the same shape where a clip has less."""
    first = clips[0]
    width, height = wanted or (round(first.width * first.pixel_aspect), first.height)
    scale = 1.0
    for each in clips:
        left, top, right, bottom = crop_box(
            each.width, each.height, width, height, each.pixel_aspect
        )
        scale = min(scale, (right - left) / width, (bottom - top) / height)
    if scale < 1:
        width, height = (max(2, int(side * scale + 1e-6) // 2 * 2) for side in (width, height))
    if min(width, height) < SMALLEST:
        raise NoScore("TooSmall", f"{width}x{height} pixels are in common: {SMALLEST} are needed")
    return width, height


@contextmanager
def _verdict(reason: Unscored, path: Path) -> Iterator[None]:
    """What is wrong with a file becomes NoScore."""
    try:
        yield
    except ClipRejected as rejection:
        raise NoScore(reason, f"{path.name} {rejection.message}") from rejection
    except OSError as error:
        raise NoScore(reason, f"{path.name}: {error.strerror or 'cannot be read'}") from error
