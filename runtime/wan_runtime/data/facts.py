"""What is found out about a clip, and the verdict that ends looking at it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wan_runtime.data.dataset import Code


@dataclass(slots=True)
class Facts:
    """What a clip is, as far as it was read."""

    width: int = 0
    """Pixels as stored, but upright: turned as the metadata ask."""
    height: int = 0
    pixel_aspect: float = 1.0
    """Width of an upright pixel over its height, as displayed."""
    stored_aspect: float = field(default=1.0, repr=False)
    """The same of a pixel as stored."""
    display_matrix: NDArray[np.int32] | None = field(default=None, repr=False)
    """How frames are turned that do not say it themselves: as in display.display_matrix."""
    fps: float = 0.0
    duration: float = 0.0
    """Seconds."""
    frames: int = 0
    """Frames at the target rate, at most the number wanted."""
    starts: tuple[int, ...] = (0,)
    """First frame of each window, at the target rate."""
    interlaced: bool = False
    """Some frame holds two times in its odd and even lines, by its own flag."""
    hdr: str = ""
    """`PQ` or `HLG`: the transfer function of what was tone-mapped."""
    stills: list[NDArray[np.uint8]] = field(default_factory=list, repr=False)
    """[H, W, 3] of each frame of the windows, in order, STILL pixels at the longer side."""
    decoded: int = field(default=0, repr=False)
    declared: int = field(default=0, repr=False)
    """Frames that the container says are shown; 0 if it does not say."""

    @property
    def size(self) -> str:
        """`720x576`, or `720x576 (shown as 1024x576)`."""
        stored = f"{self.width}x{self.height}"
        displayed = f"{round(self.width * self.pixel_aspect)}x{self.height}"
        return stored if stored == displayed else f"{stored} (shown as {displayed})"

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
