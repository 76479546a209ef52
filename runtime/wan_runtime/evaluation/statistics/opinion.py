"""Ratings without the bias of their raters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Shapes: V rated videos, R raters.

Floats = NDArray[np.float64]

ROUNDS = 500
SMALL = 1e-10


@dataclass(frozen=True)
class Effects:
    scores: Floats
    """[V] Mean opinion of each video without the bias of its raters; NaN if nobody rated it."""
    bias: Floats
    """[R] Bias of each rater, with mean 0 over those that rated; NaN if one rated nothing."""
    connected: bool
    """Whether videos in common link all raters. If not, a difference between the groups may be
    one of their raters or one of their videos."""


def effects(ratings: Floats) -> Effects:
    """Scores of videos and biases of raters from `ratings` [V, R], NaN where one is missing.

    The model is that of the bias removal in Rec. ITU-T P.913 (06/2021): rating = score of the video
    + bias of the rater + noise. With all ratings there, the result is the Recommendation's: the
    bias is the mean of a rater's deviations from the mean opinions, and is subtracted. With missing
    ones its two means take turns until they agree, which is least squares: Z. Li et al., A simple
    model for subject behavior in subjective experiments (2020), arXiv:2004.02067, alternating
    projection, with equal weights.
    """
    known = ~np.isnan(ratings)
    values = np.where(known, ratings, 0.0)
    per_video, per_rater = known.sum(axis=1), known.sum(axis=0)
    bias = np.zeros(ratings.shape[1])
    scores = np.zeros(ratings.shape[0])
    for _ in range(ROUNDS):
        scores = (values - known * bias).sum(axis=1) / np.maximum(per_video, 1)
        new = (values - known * scores[:, None]).sum(axis=0) / np.maximum(per_rater, 1)
        if per_rater.any():
            new = np.where(per_rater > 0, new - new[per_rater > 0].mean(), 0.0)
        change = float(np.abs(new - bias).max(initial=0.0))
        bias = new
        if change < SMALL:
            break
    scores = (values - known * bias).sum(axis=1) / np.maximum(per_video, 1)
    return Effects(
        np.where(per_video > 0, scores, np.nan),
        np.where(per_rater > 0, bias, np.nan),
        _connected(known),
    )


def _connected(known: NDArray[np.bool_]) -> bool:
    """Whether one walk over rated videos reaches every rater that rated."""
    active = np.flatnonzero(known.any(axis=0))
    if active.size < 2:
        return True
    reached = np.zeros(known.shape[1], bool)
    reached[active[0]] = True
    for _ in range(active.size):
        reached |= known[known[:, reached].any(axis=1)].any(axis=0)
    return bool(reached[active].all())
