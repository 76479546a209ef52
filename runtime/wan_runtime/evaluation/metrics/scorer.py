"""What computes a metric: it takes pairs of frames one by one, and then says a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wan_runtime.evaluation.metrics.frame import Frame, Pair
from wan_runtime.evaluation.metrics.unscored import NoScore


class Scorer(Protocol):
    """Computes one metric of one clip. Both methods raise NoScore; afterwards it is not used."""

    def add(self, pair: Pair) -> None:
        """Take the next pair, the first frame's first."""

    def value(self) -> float:
        """Number of all that was taken."""

    def close(self) -> None:
        """End what it has started."""


class Mean:
    """Mean of one number of each frame, mostly but the first."""

    def __init__(self, score: Callable[[Pair], float | None], *, first: bool = False) -> None:
        """`score`: of one pair; None: it says nothing there. `first`: score the first pair too."""
        self._score, self._from = score, 0 if first else 1
        self._total = 0.0
        self._count = 0

    def add(self, pair: Pair) -> None:
        """Score a pair."""
        if pair.index >= self._from and (found := self._score(pair)) is not None:
            self._total += found
            self._count += 1

    def value(self) -> float:
        """Mean. Raises NoScore(TooShort) for a clip without a frame to score."""
        if not self._count:
            raise too_short()
        return self._total / self._count

    def close(self) -> None:
        """Nothing is open."""


def too_short() -> NoScore:
    """The clips have too few frames in common."""
    return NoScore("TooShort", "has too few frames in common with the reference, without the first")


def too_small(smallest: int, height: int, width: int) -> NoScore:
    """The pictures have too few pixels at their shorter side."""
    text = f"needs {smallest} pixels at the shorter side: the clips have {width}x{height} in common"
    return NoScore("TooSmall", text)


def reference_of(pair: Pair) -> Frame:
    """The reference's frame. Raises NoScore(NoReference)."""
    if pair.reference is None:
        raise NoScore("NoReference", "needs a reference clip")
    return pair.reference


def start_of(pair: Pair) -> Frame:
    """The picture that the clip starts from. Raises NoScore(NoFirstFrame)."""
    if pair.start is None:
        raise NoScore("NoFirstFrame", "needs the picture that the clip starts from")
    return pair.start
