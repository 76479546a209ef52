"""A picture of a clip, with what several metrics need of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

# Shapes: H W rows and columns of a picture, h w of a reduced one; colours last.

REDUCED = 512
"""Pixels at the longer side of what motion and colours are measured on, at most."""
FLOW_SIDE = 32
"""Pixels at each side, at least, that the optical flow is computed of. OpenCV 5.0 reads beyond
smaller pictures: a patch of 8 pixels is larger than a quarter of them."""
_FLOW = cv2.DISOPTICAL_FLOW_PRESET_FAST


class Frame:
    """A displayed picture and the one before it. Everything is computed once, when first used."""

    def __init__(
        self, rgb: NDArray[np.uint8], before: Frame | None = None, decoded: Any = None
    ) -> None:
        """`rgb`: [H, W, 3]. `decoded`: the av.VideoFrame behind it, if every sample of it is shown
        at its place."""
        self.rgb = rgb
        self.before = before
        self.decoded = decoded
        if before is not None:
            before.before = None  # two pictures are held, however long the clip

    @cached_property
    def grey(self) -> NDArray[np.uint8]:
        """[H, W]: luma by the weights of BT.601."""
        return cast(NDArray[np.uint8], cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY))

    @cached_property
    def reduced(self) -> NDArray[np.uint8]:
        """[h, w, 3], at most REDUCED pixels at the longer side."""
        height, width = self.rgb.shape[:2]
        factor = REDUCED / max(height, width)
        if factor >= 1:
            return self.rgb
        size = max(1, round(width * factor)), max(1, round(height * factor))
        return cast(NDArray[np.uint8], cv2.resize(self.rgb, size, interpolation=cv2.INTER_AREA))

    @cached_property
    def _reduced_grey(self) -> NDArray[np.uint8]:
        return cast(NDArray[np.uint8], cv2.cvtColor(self.reduced, cv2.COLOR_RGB2GRAY))

    @cached_property
    def lab(self) -> NDArray[np.float32]:
        """[h, w, 3] in CIELAB: lightness of 0 to 100, two colour axes about 0."""
        unit = self.reduced.astype(np.float32) / 255
        return cast(NDArray[np.float32], cv2.cvtColor(unit, cv2.COLOR_RGB2Lab))

    @cached_property
    def flow(self) -> NDArray[np.float32]:
        """[h, w, 2]: pixels right and down by which each point of the frame before has moved."""
        assert self.before is not None
        return _flow(self.before._reduced_grey, self._reduced_grey)

    @cached_property
    def flow_back(self) -> NDArray[np.float32]:
        """[h, w, 2]: from each point of this frame to its place in the frame before."""
        assert self.before is not None
        return _flow(self._reduced_grey, self.before._reduced_grey)


@dataclass(frozen=True, slots=True)
class Pair:
    """Frames of two clips at one time."""

    index: int
    """0: the first frame, which the clips start from."""
    candidate: Frame
    reference: Frame | None
    start: Frame | None
    """The picture that the clip starts from, of the same size."""
    fps: float
    """Pairs a second."""

    @property
    def moved(self) -> bool:
        """There is a frame before, and that is not the first: motion can be measured."""
        return self.index > 1


def _flow(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    height, width = one.shape
    down, right = (max(0, FLOW_SIDE - side) for side in (height, width))
    if down or right:
        one, other = (
            cast(
                NDArray[np.uint8],
                cv2.copyMakeBorder(each, 0, down, 0, right, cv2.BORDER_REPLICATE),
            )
            for each in (one, other)
        )
    flow = cv2.DISOpticalFlow.create(_FLOW).calc(one, other, None)
    return cast(NDArray[np.float32], flow[:height, :width])
