"""The error of a difference, beside the truth of made-up effects of clips and raters."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from wan_runtime.evaluation.statistics.resampling import resamples
from wan_runtime.evaluation.statistics.statistic import Part, Statistic, statistic
from wan_runtime.evaluation.statistics.student import quantile

CLIPS, TRIALS = 12, 300


def differences(clip: float, taste: float, noise: float, raters: int) -> list[Statistic]:
    """Differences of equal candidates. Each deviation is that of a level, of one candidate: of a
    clip, of a rater's taste, of a single rating."""
    generator = np.random.default_rng(0)
    draws = resamples(CLIPS, raters, 400, 0)

    def cells() -> NDArray[np.float64]:
        return (
            generator.normal(0, clip, (2, CLIPS, 1))
            + generator.normal(0, taste, (2, 1, raters))
            + generator.normal(0, noise, (2, CLIPS, raters))
        )

    found = [statistic([Part(1.0, cells(), rated=True)], draws, 0, 1) for _ in range(TRIALS)]
    return [each for each in found if each is not None]


@pytest.mark.parametrize(
    ("clip", "taste", "noise", "raters"),
    [(0.5, 0, 0.5, 6), (0, 0, 1, 6), (0, 0.5, 0.5, 6), (0.5, 0.5, 0.5, 6), (0.3, 0, 1, 3)],
)
def test_the_variance_is_that_of_clips_raters_and_noise(
    clip: float, taste: float, noise: float, raters: int
) -> None:
    """Noise is part of both, and counts once; the error is rather too large than too small."""
    found = differences(clip, taste, noise, raters)
    truth = 2 * (clip**2 / CLIPS + taste**2 / raters + noise**2 / CLIPS / raters)
    assert 0.8 * truth < np.mean([each.error**2 for each in found]) < 1.4 * truth


@pytest.mark.parametrize("raters", [2, 3, 6])
def test_tastes_of_few_raters_make_no_difference(raters: int) -> None:
    found = differences(0.3, 0.5, 0.5, raters)
    far = sum(abs(each.value) > quantile(0.025, each.freedom) * each.error for each in found)
    assert far <= 0.07 * TRIALS
