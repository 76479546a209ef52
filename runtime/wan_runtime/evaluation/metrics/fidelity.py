"""How near the pictures are to those of the reference, pixel by pixel."""

from __future__ import annotations

from wan_runtime.evaluation.metrics import similarity
from wan_runtime.evaluation.metrics.frame import Pair
from wan_runtime.evaluation.metrics.scorer import (
    Mean,
    reference_of,
    start_of,
    too_short,
    too_small,
)


class Psnr:
    """The errors of all frames are averaged before the one logarithm is taken: a mean of
    logarithms is infinite as soon as one frame is equal."""

    def __init__(self) -> None:
        self._error = 0.0
        self._samples = 0

    def add(self, pair: Pair) -> None:
        """Count a pair's errors, unless it is the first."""
        reference = reference_of(pair)
        if pair.index:
            self._error += similarity.squared_error(pair.candidate.rgb, reference.rgb)
            self._samples += pair.candidate.rgb.size

    def value(self) -> float:
        """Decibels, PSNR_CAP at most."""
        if not self._samples:
            raise too_short()
        return similarity.decibels(self._error / self._samples)

    def close(self) -> None:
        """Nothing is open."""


class FirstFrameFidelity:
    """PSNR of the first frame alone."""

    def __init__(self) -> None:
        self._value: float | None = None

    def add(self, pair: Pair) -> None:
        """Compare the first frame with the picture that the clip starts from."""
        start = start_of(pair)
        if pair.index == 0:
            rgb = pair.candidate.rgb
            error = similarity.squared_error(rgb, start.rgb) / rgb.size
            self._value = similarity.decibels(error)

    def value(self) -> float:
        """Decibels, PSNR_CAP at most."""
        if self._value is None:
            raise too_short()
        return self._value

    def close(self) -> None:
        """Nothing is open."""


class LegacyPsnr(Mean):
    """Mean of ratios whose errors wrap around at 256: 8-bit samples are subtracted and squared
    without leaving 8 bits. Errors of 16 levels and more are lost: opposite pictures have 28 dB."""

    def __init__(self) -> None:
        super().__init__(_wrapping)


def ssim() -> Mean:
    """Structural similarity of each frame."""
    return Mean(
        lambda pair: similarity.ssim(*_pictures(pair, similarity.MARGIN + 1), pair.index % 2)
    )


def ms_ssim() -> Mean:
    """Structural similarity of each frame on five scales."""
    return Mean(
        lambda pair: similarity.ms_ssim(*_pictures(pair, similarity.SMALLEST), pair.index % 2)
    )


def _pictures(pair: Pair, smallest: int) -> tuple[similarity.Picture, similarity.Picture]:
    rgb, other = pair.candidate.rgb, reference_of(pair).rgb
    height, width = rgb.shape[:2]
    if min(height, width) < smallest:
        raise too_small(smallest, height, width)
    return rgb, other


def _wrapping(pair: Pair) -> float:
    one, other = pair.candidate.rgb, reference_of(pair).rgb
    difference = one - other  # in 8 bits: 3 - 5 is 254
    return similarity.decibels(float((difference * difference).mean()))
