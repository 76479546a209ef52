"""Which recordings are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def held_out(sources: Iterable[str], *, train_fraction: float, seed: int) -> set[str]:
    """The recordings that training does not see. Needs at least two.

    Drawn by rank of a seeded hash: the order of rows does not matter, the share of recordings is as
    asked even for a dozen of them, and at least one falls on either side.
    """
    ranked = sorted(set(sources), key=lambda source: _rank(source, seed))
    if len(ranked) < 2:
        raise ValueError("one recording cannot be on both sides of a split")
    count = round(len(ranked) * (1 - train_fraction))
    return set(ranked[: min(max(count, 1), len(ranked) - 1)])


def _rank(source: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{source}".encode()).digest()
