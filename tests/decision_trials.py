"""How often decisions are right, on evidence that is made up with a known truth:
`PYTHONPATH=operator:runtime:tests python tests/decision_trials.py [TRIALS]`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from evidence import PIXELS, clips, rated, trial
from wan_runtime.contract.decision import Scoring
from wan_runtime.evaluation.statistics.decide import decide
from wan_runtime.evaluation.statistics.records import Evidence, Score, Settings, metric

RECIPE = Scoring()


def outcomes(
    make: Callable[[int], Evidence], scoring: Scoring, trials: int, settings: Settings
) -> Counter[str | None]:
    """Number of trials that each candidate won; None without a winner."""
    return Counter(
        decide(make(seed), scoring, settings=settings).quality.winner for seed in range(trials)
    )


def pixels(better: Sequence[float], count: int, failing: float = 0.0) -> Callable[[int], Evidence]:
    return lambda seed: trial(seed, better, count, failing)


def with_people(
    decibels: Sequence[float], levels: Sequence[float], count: int, raters: int
) -> Callable[[int], Evidence]:
    def make(seed: int) -> Evidence:
        generator = np.random.default_rng(10_000 + seed)
        bias = generator.normal(0, 0.5, raters).tolist()
        ratings = tuple(rated(seed, levels, count, raters, bias=bias, share=0.9))
        return trial(seed, decibels, count).model_copy(update={"ratings": ratings})

    return make


def coverage(count: int, kind: str, trials: int) -> float:
    """Share of trials whose 95 % interval of a mean holds the true mean."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(trials):
        values = (
            generator.normal(30, 3, count)
            if kind == "normal"
            else 30 - generator.exponential(3, count)
        )
        scores = tuple(
            Score(candidate="a", clip=clip, metric="psnr", value=value)
            for clip, value in zip(clips(count), values.tolist(), strict=True)
        )
        made = Evidence(
            candidates=("a",), clips=clips(count), metrics=(metric("psnr"),), scores=scores
        )
        estimate = decide(made, settings=Settings()).candidates[0].metrics[0].estimate
        assert estimate is not None
        assert estimate.low is not None
        assert estimate.high is not None
        held += estimate.low <= (30 if kind == "normal" else 27) <= estimate.high
    return held / trials


def main(trials: int) -> None:
    settings = Settings()
    rows = {
        "one of two better by 2 dB": ([0, 2], 0.0),
        "one of four better by 2 dB": ([0, 0, 0, 2], 0.0),
        "one of two better by 2 dB, 5 % fail": ([0, 2], 0.05),
        "two equal": ([0, 0], 0.0),
        "four equal": ([0, 0, 0, 0], 0.0),
        "two equal, two worse by 3 dB": ([0, 0, -3, -3], 0.0),
        "two equal, 5 % fail": ([0, 0], 0.05),
    }
    for count in (8, 12, 30):
        for name, (better, failing) in rows.items():
            won = outcomes(pixels(better, count, failing), PIXELS, trials, settings)
            print(f"{count} clips, {name}: {dict(won)}", flush=True)
    for raters in (2, 3, 6):
        for name, decibels, levels in (("better", [0, 1], [0, 0.5]), ("equal", [0, 0], [0, 0])):
            won = outcomes(with_people(decibels, levels, 12, raters), RECIPE, trials, settings)
            print(f"12 clips, {raters} raters, {name}: {dict(won)}", flush=True)
    for count in (8, 12, 30):
        for kind in ("normal", "skewed"):
            print(
                f"{count} clips, {kind}: mean held by {coverage(count, kind, trials):.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
