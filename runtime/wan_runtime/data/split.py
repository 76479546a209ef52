"""Which recordings are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Set


def held_out(
    sources: Iterable[str], *, train_fraction: float, seed: int, alike: Set[str] = frozenset()
) -> set[str]:
    """The recordings that training does not see. Needs at least two.

    Drawn by rank of a seeded hash: the order of rows does not matter, the share of recordings is as
    asked even for a dozen of them, and at least one falls on either side. Recordings that are
    `alike` others are held out only if all are: training would have seen their pictures.
    """
    ranked = sorted(set(sources), key=lambda source: _rank(source, seed))
    if len(ranked) < 2:
        raise ValueError("one recording cannot be on both sides of a split")
    count = min(max(round(len(ranked) * (1 - train_fraction)), 1), len(ranked) - 1)
    own = [source for source in ranked if source not in alike]
    return set((own or ranked)[:count])


def _rank(source: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{source}".encode()).digest()
