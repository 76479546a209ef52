"""Two hundred seeded trials with a known truth; `tests/decision_trials.py` has more of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from evidence import PIXELS, trial
from wan_runtime.evaluation.statistics.decide import decide
from wan_runtime.evaluation.statistics.records import Settings

TRIALS = 200
FEW = Settings(resamples=400)


def winners(better: Sequence[float], count: int, trials: int = TRIALS) -> Counter[str | None]:
    return Counter(
        decide(trial(seed, better, count), PIXELS, settings=FEW).quality.winner
        for seed in range(trials)
    )


def test_a_better_candidate_wins_in_95_of_100_trials() -> None:
    assert winners([0, 2], 12)["b"] >= 0.95 * TRIALS


def test_equal_candidates_have_a_winner_in_6_of_100_trials_at_most() -> None:
    assert winners([0, 0], 12)[None] >= 0.94 * TRIALS


def test_a_better_one_of_four_wins_too() -> None:
    assert winners([0, 0, 0, 2], 15, 60)["d"] >= 57


def test_of_all_differences_of_equal_candidates_none_is_called_better() -> None:
    """The correction for several candidates: without it one of six pairs often is."""
    called, alone = 0, 0
    for seed in range(100):
        pairs = decide(trial(seed, [0] * 4, 12), PIXELS, settings=FEW).differences[:6]
        called += any(each.better for each in pairs)
        alone += any(each.better_alone for each in pairs)
    assert called <= 6 < 10 <= alone
