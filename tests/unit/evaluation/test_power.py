"""How many clips tell candidates apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evidence import clips, scored
from wan_runtime.contract.decision import Component, Scoring
from wan_runtime.evaluation.statistics.decide import decide
from wan_runtime.evaluation.statistics.records import Evidence, metric
from wan_runtime.evaluation.statistics.student import quantile
from wan_runtime.planner.power import clips_for, smallest_effect


@pytest.mark.parametrize("count", [8, 12, 30])
def test_a_t_test_finds_the_smallest_effect_in_95_of_100_trials(count: int) -> None:
    effect = smallest_effect(count)
    found = np.random.default_rng(0).normal(effect, 1, (20_000, count))
    t = found.mean(axis=1) / found.std(axis=1, ddof=1) * math.sqrt(count)
    assert np.mean(t > quantile(0.025, count - 1)) == pytest.approx(0.95, abs=0.015)
    assert clips_for(effect) == count


def test_clips_that_tell_nothing_and_no_effect() -> None:
    assert smallest_effect(1) == math.inf
    assert clips_for(0) == math.inf
    assert smallest_effect(16, level=0.99) > smallest_effect(16, level=0.95)


@pytest.mark.parametrize(
    ("apart", "said"),
    [
        (0.2, "about 370 clips would decide it, if they differ by as much as it seems"),
        (0.01, "over 1000 clips would be needed to find so little"),
    ],
)
def test_an_undecided_comparison_says_how_many_clips_would_tell(apart: float, said: str) -> None:
    names = clips(8)
    values = {
        "a": dict.fromkeys(names, 30.0),
        "b": {clip: 30 + apart + (-1) ** place for place, clip in enumerate(names)},
    }
    made = Evidence(
        candidates=("a", "b"),
        clips=names,
        metrics=(metric("psnr"),),
        scores=tuple(scored(values)),
    )
    psnr = Scoring(components=(Component(metric="psnr", weight=1.0),))
    (doubt,) = decide(made, psnr).quality.doubts
    assert doubt.message.endswith(f"the interval includes zero; {said}")
