"""Two hundred seeded trials with a known truth; `tests/decision_trials.py` has more of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from evidence import PIXELS, trial
from wan_runtime.evaluation.statistics.decide import decide
from wan_runtime.evaluation.statistics.records import Settings

TRIALS = 200
FEW = Settings(resamples=400)


def winners(better: Sequence[float], count: int) -> Counter[str | None]:
    return Counter(
        decide(trial(seed, better, count), PIXELS, settings=FEW).quality.winner
        for seed in range(TRIALS)
    )


def test_a_better_candidate_wins_in_95_of_100_trials() -> None:
    assert winners([0, 2], 12)["b"] >= 0.95 * TRIALS


def test_equal_candidates_have_a_winner_in_6_of_100_trials_at_most() -> None:
    assert winners([0, 0], 12)[None] >= 0.94 * TRIALS
