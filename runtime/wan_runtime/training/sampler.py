"""Which clips make which batch: a function of seed and position alone, so resuming needs only the
position.
"""

from __future__ import annotations

import hashlib

import torch

from wan_runtime.planner.steps import total_steps as total_steps


class Sampler:
    """Endless passes over `count` clips, each pass in an order of its own."""

    def __init__(self, count: int, seed: int, position: int = 0) -> None:
        if count < 1:
            raise ValueError("no clips to sample from")
        self._count = count
        self._seed = seed
        self._pass = -1
        self._order: list[int] = []
        self.position = position
        """Clips drawn so far."""

    def take(self, size: int) -> list[int]:
        """Indices of the next `size` clips."""
        return [self._next() for _ in range(size)]

    def _next(self) -> int:
        current, offset = divmod(self.position, self._count)
        if current != self._pass:
            # A large odd factor keeps the streams of neighbouring seeds and passes apart.
            generator = torch.Generator().manual_seed((self._seed * 1_000_003 + current) % 2**63)
            self._order = torch.randperm(self._count, generator=generator).tolist()
            self._pass = current
        self.position += 1
        return self._order[offset]


def drops_caption(seed: int, position: int, share: float) -> bool:
    """Whether the clip drawn at `position` is seen with the empty caption: a function of these
    alone, so that resuming needs nothing more.
    """
    drawn = hashlib.sha256(f"caption/{seed}/{position}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") < share * 2**64
