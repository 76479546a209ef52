"""Ratings that nobody gave, made up from the metrics for demonstrations."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import get_args

from wan_runtime.contract.evaluation import REFERENCE, Dimension, RatingSpec
from wan_runtime.evaluation.rating.plan import Item
from wan_runtime.evaluation.records import Choice, Rating, Ratings, Scores

FULL_MARKS = {"psnr": 40.0, "ssim": 1.0}
"""Metric -> the value that counts as perfect."""
SPREAD = 0.1
"""Standard deviation of a rater's judgement, with 1 from the worst to the best."""
EQUAL = 0.03
"""Difference below which two videos count as equally good."""


def ratings(
    spec: RatingSpec, plan: Mapping[str, tuple[Item, ...]], scores: Scores, seed: int
) -> Ratings:
    """A judgement of every item, the same for the same arguments but for its time."""
    quality = {
        (each.candidate, each.clip): _quality(each.values)
        for each in scores.measured
        if each.render == "First"
    }
    now = datetime.now(UTC)
    given: list[Rating] = []
    chosen: list[Choice] = []
    for rater, items in plan.items():
        draw = random.Random(f"{seed}/{rater}")
        severity = draw.gauss(0, SPREAD)
        for item in items:
            felt = [
                1.0
                if side.candidate == REFERENCE
                else quality.get((side.candidate, item.clip.id), 0)
                for side in item.sides
            ]
            about = {"rater": rater, "clip": item.clip.id, "repeat": item.repeat, "time": now}
            if spec.mode == "Scores":
                marks = {
                    name: _mark(felt[0] + severity + draw.gauss(0, SPREAD))
                    for name in get_args(Dimension)
                }
                given.append(Rating(**about, candidate=item.sides[0].candidate, scores=marks))
            else:
                left, right = (side.candidate for side in item.sides)
                choice = _better(felt[0] - felt[1] + draw.gauss(0, SPREAD))
                chosen.append(Choice(**about, left=left, right=right, chosen=choice))
    return Ratings(
        ratings=tuple(given),
        choices=tuple(chosen),
        raters=spec.raters,
        complete=True,
        simulated=True,
    )


def _quality(values: Mapping[str, float]) -> float:
    """From 0 to 1; 0 for a video of which nothing was measured."""
    parts = [values[name] / full for name, full in FULL_MARKS.items() if name in values]
    return min(1.0, max(0.0, sum(parts) / len(parts))) if parts else 0.0


def _mark(quality: float) -> int:
    return min(5, max(1, round(1 + 4 * quality)))


def _better(difference: float) -> str:
    if abs(difference) < EQUAL:
        return "Tie"
    return "Left" if difference > 0 else "Right"
