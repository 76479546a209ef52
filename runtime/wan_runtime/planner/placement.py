"""Where the transformers of a worker have their weights, by what a GPU has room for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Placement = Literal["Resident", "Turns", "Streamed"]
"""Resident: all on the GPU. Turns: one of a pair at a time. Streamed: block by block, as they
compute."""
SHARE = 0.6
"""Share of the GPU's memory that resident transformers may take: the rest is for activations."""
ROOM = 2
"""Blocks of a streamed transformer that have room on the GPU: one computes while one comes."""


def placement(sizes: Sequence[float], memory: float, *, exact: bool) -> Placement:
    """Choose a placement.

    Args:
        sizes: of the transformers' weights.
        memory: of the GPU, in the same unit.
        exact: the profile Exact, whose blocks cannot be streamed.
    """
    room = SHARE * memory
    if sum(sizes) <= room:
        return "Resident"
    if not exact and max(sizes) > room:
        return "Streamed"
    return "Turns" if len(sizes) > 1 else "Resident"
