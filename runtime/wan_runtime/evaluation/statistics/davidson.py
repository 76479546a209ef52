"""Bradley-Terry model with ties, for many tables of choices at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Shapes: B tables, P pairs, J candidates.

Floats = NDArray[np.float64]

PRIOR = 0.1
"""Choices of each kind (first, tie, second) that every pair gets beside its own. They keep a
strength finite when a candidate won all its choices, or when there were no ties or only ties."""
ROUNDS = 100
SMALL = 1e-10
FARTHEST = 2.0
"""Largest step of a parameter in one round."""


@dataclass(frozen=True)
class Fit:
    strengths: Floats
    """[B, J] Natural logarithms, with mean 0."""
    ties: Floats
    """[B] Weight of a tie, nu."""


def fit(counts: Floats, pairs: NDArray[np.intp], candidates: int, prior: float = PRIOR) -> Fit:
    """Maximum likelihood for `counts` [B, P, 3]: choices of the first, ties and choices of the
    second candidate of each pair, which `pairs` [P, 2] names.

    The model of R. R. Davidson, On extending the Bradley-Terry model to accommodate ties in paired
    comparison experiments, Journal of the American Statistical Association 65 (1970) 317-328: the
    weights of first, tie and second are p_i, nu sqrt(p_i p_j) and p_j. In the logarithms it is a
    multinomial logit, so its likelihood is concave, and Newton's method finds the one maximum.
    """
    size = candidates + 1  # the last parameter is log nu
    design = np.zeros((len(pairs), 3, size))
    for row, (first, second) in enumerate(pairs):
        design[row, 0, first] = design[row, 2, second] = 1.0
        design[row, 1, [first, second]] = 0.5
        design[row, 1, -1] = 1.0
    weights = counts + prior
    total = weights.sum(axis=2)  # [B, P]
    seen = np.einsum("bpk,pks->bs", weights, design, optimize=True)
    # Only differences of strengths count: this fixes their mean.
    fixed = np.zeros((size, size))
    fixed[:-1, :-1] = 1.0
    found = np.zeros((len(counts), size))
    for _ in range(ROUNDS):
        logits = np.einsum("pks,bs->bpk", design, found, optimize=True)
        share = np.exp(logits - logits.max(axis=2, keepdims=True))
        share /= share.sum(axis=2, keepdims=True)
        expected = total[:, :, None] * share
        slope = seen - np.einsum("bpk,pks->bs", expected, design, optimize=True)
        mean = np.einsum("bpk,pks->bps", share, design, optimize=True)
        curve = np.einsum("bpk,pks,pkt->bst", expected, design, design, optimize=True)
        curve -= np.einsum("bp,bps,bpt->bst", total, mean, mean, optimize=True)
        step = np.linalg.solve(curve + fixed, slope[:, :, None])[:, :, 0]
        found += np.clip(step, -FARTHEST, FARTHEST)
        if float(np.abs(step).max(initial=0.0)) < SMALL:
            break
    strengths = found[:, :-1] - found[:, :-1].mean(axis=1, keepdims=True)
    return Fit(strengths, np.exp(found[:, -1]))
