"""Ratings as arrays, and without the bias of their raters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wan_runtime.contract.figures import DIMENSIONS, SUBJECTIVE
from wan_runtime.evaluation.statistics.opinion import effects
from wan_runtime.evaluation.statistics.records import REFERENCE, Rating, Settings

# Shapes: D dimensions, J candidates, C clips, R raters.

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    raters: tuple[str, ...]
    levels: Floats
    """[D, J + 1, C, R] Ratings as given, NaN where one is missing; the real clips come last."""
    bias: Floats
    """[D, R]"""
    linked: bool
    """Whether videos in common link all raters."""

    def adjusted(self) -> dict[str, Floats]:
        """[J + 1, C, R] of each dimension, and of their sum, without the raters' bias."""
        fair = self.levels - self.bias[:, None, None, :]
        return dict(zip(DIMENSIONS, fair.copy(), strict=True)) | {SUBJECTIVE: fair.sum(axis=0)}


def panel(
    ratings: Sequence[Rating],
    candidates: Sequence[str],
    clips: Sequence[str],
    settings: Settings,
) -> Panel | None:
    """Arrays of the ratings that count; None if none does."""
    counted = counting(ratings, settings.raters_left_out)
    raters = tuple(sorted({each.rater for each in counted}))
    if not raters:
        return None
    j_of = {name: place for place, name in enumerate((*candidates, REFERENCE))}
    c_of = {name: place for place, name in enumerate(clips)}
    r_of = {name: place for place, name in enumerate(raters)}
    levels = np.full((len(DIMENSIONS), len(j_of), len(c_of), len(r_of)), np.nan)
    for each in counted:
        place = j_of[each.candidate], c_of[each.clip], r_of[each.rater]
        levels[:, *place] = levels_of(each)
    found = [effects(dimension.reshape(-1, len(raters))) for dimension in levels]
    bias = np.array([each.bias for each in found])
    return Panel(raters, levels, bias, all(each.connected for each in found))


def levels_of(rating: Rating) -> list[int]:
    """Levels of the dimensions, in their order."""
    return [getattr(rating, name) for name in DIMENSIONS]


def counting(ratings: Sequence[Rating], left_out: frozenset[str] = frozenset()) -> list[Rating]:
    """Ratings that count: no repeats, of raters that are not left out; of one that was sent twice,
    the last."""
    last: dict[tuple[str, str, str], Rating] = {}
    for each in sorted(ratings, key=lambda rating: rating.time):
        if each.repeat == 0 and each.rater not in left_out:
            last[each.rater, each.candidate, each.clip] = each
    return [last[key] for key in sorted(last)]
