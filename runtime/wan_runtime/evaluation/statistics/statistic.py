"""A mean, or a difference of two, with its bootstrap over clips and raters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wan_runtime.contract.figures import Estimate
from wan_runtime.evaluation.statistics.opinion import effects
from wan_runtime.evaluation.statistics.resampling import Floats, Resamples, expanded, means
from wan_runtime.evaluation.statistics.table import mean_of_known

# Shapes: B resamples, J candidates, C clips, R raters.

TINY = 1e-9
"""Relative size of a difference that only rounding makes."""


@dataclass(frozen=True)
class Part:
    """A weighted component: more is better."""

    weight: float
    cells: Floats
    """[J, C, R], NaN where there is no value."""
    rated: bool = False
    """Whether people gave the values."""


@dataclass(frozen=True)
class Statistic:
    value: float
    replicates: Floats
    """[B] Deviations of resamples, with the variance of the value."""
    freedom: int
    """Degrees of freedom of its error."""
    clips: int
    raters: int | None
    """Number of people who rated; of a difference, who rated both on one clip. None if no
    component is rated."""

    @property
    def error(self) -> float:
        """Standard error; 0 if only rounding makes one."""
        error = float(self.replicates.std())
        return error if error > TINY * max(1.0, abs(self.value)) else 0.0

    def estimate(self, level: float) -> Estimate:
        """Value with an expanded percentile interval; without one if a single clip gave it."""
        if self.clips < 2:
            return self.between(None, None)
        return self.between(*expanded(self.value + self.replicates, level, self.freedom))

    def between(self, low: float | None, high: float | None) -> Estimate:
        """The value with the ends of an interval."""
        return Estimate(value=self.value, low=low, high=high, clips=self.clips, raters=self.raters)


def statistic(
    parts: Sequence[Part], draws: Resamples, first: int, second: int | None = None
) -> Statistic | None:
    """Mean over clips of the weighted sum for `first`; minus that for `second`, over the clips of
    each component that both have. None if a component has no such clip.

    The variance is that over clips plus that over raters, less the noise of single ratings, which
    both contain (C. A. Cameron, J. Gelbach, D. Miller, Robust inference with multiway clustering,
    Journal of Business & Economic Statistics 29 (2011) 238-249).
    """
    value, noise, clips = 0.0, 0.0, draws.clips.shape[1]
    by_clips: Floats = np.zeros(len(draws.clips))
    by_raters: Floats = np.zeros(len(draws.clips))
    raters: int | None = None
    for part in parts:
        cells = [part.cells[first]] + ([] if second is None else [part.cells[second]])
        signed = [mean_of_known(each) * sign for each, sign in zip(cells, (1, -1), strict=False)]
        per_clip = np.sum(signed, axis=0)
        known = ~np.isnan(per_clip)
        count = int(known.sum())
        if count == 0:
            return None
        mean = float(per_clip[known].mean())
        value += part.weight * mean
        clips = min(clips, count)
        by_clips += part.weight * (means(draws.clips, per_clip) - mean)
        if part.rated:
            kept = [each[known] for each in cells]
            rated = [~np.isnan(each) for each in kept]
            people = int(np.logical_and.reduce(rated).any(axis=0).sum())
            raters = people if raters is None else min(raters, people)
            again = [
                _by_raters(each, draws.raters) * sign
                for each, sign in zip(kept, (1, -1), strict=False)
            ]
            by_raters += part.weight * (np.sum(again, axis=0).mean(axis=1) - mean)
            noise += part.weight**2 * _noise(kept)
    return _combined(value, by_clips, by_raters, noise, clips, raters)


def _combined(
    value: float,
    by_clips: Floats,
    by_raters: Floats,
    noise: float,
    clips: int,
    raters: int | None,
) -> Statistic:
    over_clips, over_raters = float(by_clips.var()), float(by_raters.var())
    both = over_clips + over_raters
    variance = max(both - noise, over_clips, over_raters)
    scale = np.sqrt(variance / both) if both > 0 else 1.0
    # Of the fewer units. Satterthwaite's degrees rest on a variance over raters that is itself
    # uncertain: three raters with tastes made one of two equal candidates win 12 of 100 trials.
    units = clips if raters is None else min(clips, raters)
    return Statistic(value, (by_clips + by_raters) * scale, max(1, units - 1), clips, raters)


def _by_raters(cells: Floats, draws: Floats) -> Floats:
    """[B, C] Mean of each clip by the raters of each resample. A clip of which a resample has no
    rater keeps its mean."""
    known = ~np.isnan(cells)
    total = draws @ np.where(known, cells, 0.0).T
    count = draws @ known.astype(np.float64).T
    return np.where(count > 0, total / np.where(count > 0, count, 1), mean_of_known(cells))


def _noise(cells: Sequence[Floats]) -> float:
    """Variance of the mean that comes from single ratings alone, beyond effects of clips and of
    raters; 0 if too few were given to say."""
    single = cells[0] if len(cells) == 1 else cells[0] - cells[1]
    single = single[(~np.isnan(single)).any(axis=1)]
    known = ~np.isnan(single)
    found = effects(single)
    degrees = int(known.sum()) - single.shape[0] - int(known.any(axis=0).sum()) + 1
    if degrees < 1:
        return 0.0
    fitted = found.scores[:, None] + np.nan_to_num(found.bias)
    squares = float(np.where(known, (single - fitted) ** 2, 0.0).sum())
    per_clip = known.sum(axis=1)
    return float(squares / degrees * (1 / per_clip).sum() / len(cells[0]) ** 2)
