"""Made-up evidence of an evaluation, the same for the same seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from wan_runtime.contract.decision import Component, Scoring
from wan_runtime.contract.figures import DIMENSIONS
from wan_runtime.evaluation.statistics.records import Evidence, Failure, Rating, Score, metric

PIXELS = Scoring(
    components=(
        Component(metric="psnr", weight=0.5, divisor=50),
        Component(metric="ssim", weight=0.5),
    )
)
"""Total without people."""
START = datetime(2026, 11, 29, 12, tzinfo=UTC)


def clips(count: int) -> tuple[str, ...]:
    return tuple(f"clip-{number:03}" for number in range(count))


def scored(values: Mapping[str, Mapping[str, float]], name: str = "psnr") -> list[Score]:
    """Scores of candidate -> clip -> value."""
    return [
        Score(candidate=candidate, clip=clip, metric=name, value=value)
        for candidate, by_clip in values.items()
        for clip, value in by_clip.items()
    ]


def trial(
    seed: int, better: Sequence[float], count: int = 30, failing: float = 0.0, noise: float = 1.0
) -> Evidence:
    """Candidates a, b, ... on clips of which each has its own difficulty; `better` has the decibels
    of PSNR that each candidate adds, `failing` the share of clips that come to nothing."""
    generator = np.random.default_rng(seed)
    easy = generator.normal(30, 3, count)
    scores, failures = [], []
    names = tuple("abcdefgh"[: len(better)])
    for name, more in zip(names, better, strict=True):
        for clip, level in zip(clips(count), easy, strict=True):
            if generator.random() < failing:
                failures.append(Failure(candidate=name, clip=clip, reason="OutOfMemory"))
                continue
            psnr = level + more + generator.normal(0, noise)
            ssim = min(1.0, 0.7 + psnr / 200 + generator.normal(0, 0.01))
            pair = {"psnr": psnr, "ssim": ssim}
            scores += [
                Score(candidate=name, clip=clip, metric=each, value=value)
                for each, value in pair.items()
            ]
    return Evidence(
        candidates=names,
        clips=clips(count),
        metrics=(metric("psnr"), metric("ssim")),
        scores=tuple(scores),
        failures=tuple(failures),
    )


def rated(
    seed: int,
    better: Sequence[float],
    count: int = 12,
    raters: int = 4,
    bias: Sequence[float] = (),
    share: float = 1.0,
    taste: float = 0.0,
) -> list[Rating]:
    """Ratings of candidates a, b, ... by raters of whom each sees a share of the videos. `taste` is
    the deviation of the levels by which a rater likes a candidate more than others do."""
    generator = np.random.default_rng(seed)
    easy = generator.normal(3, 0.6, count)
    ratings: list[Rating] = []
    tastes = generator.normal(0, taste, (len(better), raters))
    for place, (name, more) in enumerate(zip("abcdefgh", better, strict=False)):
        for clip, level in zip(clips(count), easy, strict=True):
            for rater in range(raters):
                if generator.random() > share:
                    continue
                own = tastes[place, rater] + (bias[rater] if bias else 0.0)
                felt = level + more + own + generator.normal(0, 0.5, len(DIMENSIONS))
                levels = np.clip(np.round(felt), 1, 5).astype(int).tolist()
                ratings.append(
                    Rating(
                        rater=f"rater-{rater}",
                        clip=clip,
                        candidate=name,
                        time=START + timedelta(seconds=len(ratings)),
                        **dict(zip(DIMENSIONS, levels, strict=True)),
                    )
                )
    return ratings
