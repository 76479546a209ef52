"""How often decisions are right, and intervals hold the truth, on evidence that is made up:
`PYTHONPATH=operator:runtime:tests python tests/decision_trials.py [TRIALS]`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from evidence import PIXELS, rated, trial
from wan_runtime.contract.decision import Scoring
from wan_runtime.evaluation.statistics.decide import decide
from wan_runtime.evaluation.statistics.records import Evidence
from wan_runtime.evaluation.statistics.resampling import expanded, means, resamples
from wan_runtime.evaluation.statistics.student import quantile

RECIPE = Scoring()
NORMAL = NormalDist()
RESAMPLES = 2000

Floats = NDArray[np.float64]
Interval = tuple[float, float]


def winners(make: Callable[[int], Evidence], scoring: Scoring, trials: int) -> str:
    """Share of trials that each candidate won."""
    won = Counter(decide(make(seed), scoring).quality.winner for seed in range(trials))
    shares = [
        f"{name} {100 * count / trials:.1f} %" for name, count in sorted(won.items(), key=str)
    ]
    return ", ".join(shares)


def pixels(better: Sequence[float], count: int, failing: float = 0.0) -> Callable[[int], Evidence]:
    return lambda seed: trial(seed, better, count, failing)


def people(better: float, raters: int, taste: float) -> Callable[[int], Evidence]:
    """Two candidates on 12 clips, rated by people with biases, of whom each skips a tenth."""

    def make(seed: int) -> Evidence:
        bias = np.random.default_rng(10_000 + seed).normal(0, 0.5, raters).tolist()
        ratings = rated(seed, [0, better], 12, raters, bias=bias, share=0.9, taste=taste)
        return trial(seed, [0, better], 12).model_copy(update={"ratings": tuple(ratings)})

    return make


def accelerated(values: Floats, replicates: Floats) -> Interval:
    """BCa interval of a mean (Efron, Journal of the American Statistical Association 82 (1987))."""
    mean, count = values.mean(), len(values)
    below = (replicates < mean).mean() + (replicates == mean).mean() / 2
    shift = NORMAL.inv_cdf(min(max(float(below), 1e-6), 1 - 1e-6))
    without = (values.sum() - values) / (count - 1)
    apart = without.mean() - without
    scale = 6 * float((apart**2).sum()) ** 1.5
    bend = float((apart**3).sum()) / scale if scale else 0.0
    ends = [shift + NORMAL.inv_cdf(tail) for tail in (0.025, 0.975)]
    tails = [NORMAL.cdf(shift + end / (1 - bend * end)) for end in ends]
    low, high = np.quantile(replicates, tails)
    return float(low), float(high)


def students(values: Floats, replicates: Floats) -> Interval:
    half = quantile(0.025, len(values) - 1) * float(replicates.std())
    return float(values.mean()) - half, float(values.mean()) + half


def coverage(draw: Callable[[np.random.Generator], Floats], truth: float, trials: int) -> str:
    """Share of trials whose 95 % interval holds the true mean, for each kind of interval."""
    generator = np.random.default_rng(0)
    held: Counter[str] = Counter()
    for _ in range(trials):
        values = draw(generator)
        count = len(values)
        full = values[generator.integers(0, count, (RESAMPLES, count))].mean(axis=1)
        ours = means(resamples(count, 0, RESAMPLES, int(generator.integers(2**31))).clips, values)
        low, high = np.quantile(full, [0.025, 0.975])
        found = {
            "percentile": (low, high),
            "BCa": accelerated(values, full),
            "expanded": expanded(ours, 0.95, count - 1),
            "Student": students(values, ours),
        }
        held.update(kind for kind, (low, high) in found.items() if low <= truth <= high)
    return ", ".join(f"{kind} {100 * held[kind] / trials:.1f} %" for kind in found)


def failing_twice(generator: np.random.Generator, count: int) -> Floats:
    """Differences of equal candidates of which each fails on one clip of twenty, for 20 times the
    deviation of the others."""
    fails = (generator.random((2, count)) < 0.05).astype(float)
    return np.asarray(generator.normal(0, 1, count) + 20 * (fails[0] - fails[1]))


def draws_of(count: int) -> dict[str, tuple[Callable[[np.random.Generator], Floats], float]]:
    """Differences of so many clips, and their true mean, by name."""
    return {
        "normal": (lambda generator: generator.normal(0, 1, count), 0.0),
        "skewed": (lambda generator: generator.exponential(1, count), 1.0),
        "both fail": (lambda generator: failing_twice(generator, count), 0.0),
    }


def main(trials: int) -> None:
    for count in (8, 12, 30):
        for name, better, failing in (
            ("b better by 2 dB", [0, 2], 0.0),
            ("d of four better by 2 dB", [0, 0, 0, 2], 0.0),
            ("b better by 2 dB, 5 % of clips fail", [0, 2], 0.05),
            ("two equal", [0, 0], 0.0),
            ("four equal", [0, 0, 0, 0], 0.0),
            ("a and b equal, c and d worse by 3 dB", [0, 0, -3, -3], 0.0),
            ("two equal, 5 % of clips fail", [0, 0], 0.05),
        ):
            won = winners(pixels(better, count, failing), PIXELS, trials)
            print(f"{count} clips, {name}: {won}", flush=True)
    for more in (0.75, 1, 1.5, 2, 3):
        for count in (8, 10, 12, 16, 30, 60):
            won = winners(pixels([0, more], count), PIXELS, trials * 3 // 10)
            print(f"{count} clips, b better by {more} dB: {won}", flush=True)
    for raters in (2, 3, 6):  # fewer trials, since ratings are many
        for more in (0.5, 0.0):
            for taste in (0.0, 0.3):
                won = winners(people(more, raters, taste), RECIPE, trials // 5)
                row = f"{raters} raters, b better by {more} levels and dB, tastes {taste}"
                print(f"{row}: {won}", flush=True)
    for count in (8, 12, 30):
        for name, (draw, truth) in draws_of(count).items():
            print(f"{count} clips, {name}: {coverage(draw, truth, trials)}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
