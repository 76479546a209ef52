"""How much and how truly the pictures move, and how the camera does.

Motion is measured from the second frame on: the first is the picture that the clip starts from, and
a model that starts well may still leap away from it.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from wan_runtime.evaluation.metrics.frame import Frame, Pair
from wan_runtime.evaluation.metrics.scorer import Mean, reference_of, too_short
from wan_runtime.evaluation.metrics.unscored import NoScore

STILL = 0.05
"""Pixels a frame by which a clip moves on average that does not: what the estimate itself
wavers."""
AGREES, SLACK = 0.01, 0.5
"""Flow there and back agrees up to this share of both squared lengths, and this many squared
pixels (Ruder et al. 2016)."""
POINTS = 24
"""Points along the longer side from which a homography is estimated."""
OFF = 1.0
"""Pixels by which a point may miss the homography that it supports."""
FEWEST = 8
"""Points that a homography is estimated from, at least."""
SUPPORT = 0.4
"""Share of the points that a homography has to explain: else what moves is not the camera."""
KNOWN = 0.5
"""Share of the frames in which the camera has to be known, in both clips."""


class WarpingError(Mean):
    """Squared difference along the flow, where nothing is hidden."""

    def __init__(self) -> None:
        super().__init__(_warping_error)


class MotionRatio:
    """Length of the flow over that of the reference."""

    def __init__(self) -> None:
        self._lengths = np.zeros(2)
        self._count = 0

    def add(self, pair: Pair) -> None:
        """Measure both flows, from the second frame on."""
        reference = reference_of(pair)
        if pair.moved:
            self._lengths += _length(pair.candidate), _length(reference)
            self._count += 1

    def value(self) -> float:
        """Ratio. Raises NoScore(StillReference): nothing can be divided by no motion."""
        if not self._count:
            raise too_short()
        ours, theirs = (float(each) for each in self._lengths / self._count)
        if theirs < STILL:
            text = f"the reference moves by {theirs:.3f} pixels a frame, so by nothing"
            raise NoScore("StillReference", text)
        return ours / theirs

    def close(self) -> None:
        """Nothing is open."""


class CameraAgreement:
    """Displacements of the corners by the homography of each step, in both clips."""

    def __init__(self) -> None:
        self._apart = self._lengths = 0.0
        self._known = self._count = 0

    def add(self, pair: Pair) -> None:
        """Estimate both steps, from the second frame on."""
        reference = reference_of(pair)
        if not pair.moved:
            return
        self._count += 1
        ours, theirs = _corners_moved(pair.candidate), _corners_moved(reference)
        if ours is None or theirs is None:
            return
        self._known += 1
        self._apart += float(np.linalg.norm(ours - theirs, axis=1).mean())
        self._lengths += float(
            (np.linalg.norm(ours, axis=1) + np.linalg.norm(theirs, axis=1)).mean()
        )

    def value(self) -> float:
        """Between 0 and 1. Raises NoScore(NoCameraTrack)."""
        if not self._count:
            raise too_short()
        if self._known < KNOWN * self._count:
            text = f"the camera can be followed in {self._known} of {self._count} frames only"
            raise NoScore("NoCameraTrack", text)
        if self._lengths / self._known < 2 * STILL:
            return 1.0
        return 1 - self._apart / self._lengths

    def close(self) -> None:
        """Nothing is open."""


def _length(frame: Frame) -> float:
    return float(np.linalg.norm(frame.flow, axis=2).mean(dtype=np.float64))


def _warping_error(pair: Pair) -> float | None:
    """Error of one step, in squared units of [0, 1]; None where all is hidden."""
    if not pair.moved:
        return None
    frame = pair.candidate
    assert frame.before is not None
    back = frame.flow_back
    visible = _agrees(back, frame.flow)
    if not visible.any():
        return None
    warped = _moved(frame.before.reduced, back)
    difference = frame.reduced[visible].astype(np.float32) - warped[visible]
    return float((difference**2).mean(dtype=np.float64)) / 255**2


def _grid(height: int, width: int) -> NDArray[np.float32]:
    """[h, w, 2]: the place of each pixel, right and down."""
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([across, down], axis=2).astype(np.float32)


def _moved(values: NDArray[np.generic], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """[h, w, C]: the value at the place to which each pixel's flow leads."""
    places = _grid(*flow.shape[:2]) + flow
    source = values.astype(np.float32)
    moved = cv2.remap(source, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cast(NDArray[np.float32], moved)


def _agrees(there: NDArray[np.float32], back: NDArray[np.float32]) -> NDArray[np.bool_]:
    """[h, w]: what a pixel shows is in the other frame too, and the flow back leads from there to
    the pixel."""
    returned = _moved(back, there)
    apart = ((returned + there) ** 2).sum(axis=2)
    lengths = (returned**2).sum(axis=2) + (there**2).sum(axis=2)
    height, width = there.shape[:2]
    places = _grid(height, width) + there
    inside = ((places >= 0) & (places <= (width - 1, height - 1))).all(axis=2)
    return np.asarray((apart <= AGREES * lengths + SLACK) & inside)


def _corners_moved(frame: Frame) -> NDArray[np.float64] | None:
    """[4, 2]: pixels by which the corners have moved since the frame before, as a homography has
    it that most of the picture follows; None: none does."""
    flow = frame.flow
    height, width = flow.shape[:2]
    step = max(1, max(height, width) // POINTS)
    cells = slice(step // 2, None, step), slice(step // 2, None, step)
    known = _agrees(flow, frame.flow_back)[cells]
    places = _grid(height, width)[cells][known]
    if len(places) < max(FEWEST, SUPPORT * known.size):
        return None
    homography, support = cv2.findHomography(places, places + flow[cells][known], cv2.RANSAC, OFF)
    if homography is None or support.sum() < SUPPORT * known.size:
        return None
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)
    projected = cv2.perspectiveTransform(corners[None], homography)[0]
    return np.asarray(projected - corners, np.float64)
