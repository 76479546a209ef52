"""Which clips make which batch: a function of seed and position alone, so resuming needs only the
position.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence

import torch

from wan_runtime.contract.training import TrainingSpec
from wan_runtime.planner.steps import total_steps


def steps_of(spec: TrainingSpec, clips: int) -> int:
    """Optimizer steps of a training on this many clips."""
    return total_steps(
        clips,
        steps=spec.steps,
        epochs=spec.epochs,
        repeat=spec.dataset_repeat,
        batch=spec.batch_size,
        accumulation=spec.gradient_accumulation,
    )


class Sampler:
    """Endless passes over the clips, each pass in an order of its own, in batches of one bucket.

    Every batch is full: the clips of a bucket that are left over at the end of a pass are the first
    of its next batch. So a bucket's batches are equal pieces of an endless row: its clips in the
    order of pass 0, of pass 1, and so on.
    """

    def __init__(
        self, buckets: Sequence[Hashable], seed: int, size: int = 1, position: int = 0
    ) -> None:
        """`buckets`: of each clip. `size`: clips of a batch."""
        if not buckets:
            raise ValueError("no clips to sample from")
        self._buckets = buckets
        self._members = Counter(buckets)
        self._seed = seed
        self._size = size
        self._pass = -1
        self._batches: list[list[int]] = []
        self.position = position
        """Clips drawn so far: whole batches."""

    def take(self) -> list[int]:
        """Indices of the clips of the next batch."""
        number = self.position // self._size
        current = self.position // len(self._buckets)  # or one of the next: batches may end late
        while self._complete(current + 1) <= number:
            current += 1
        if current != self._pass:
            self._pass, self._batches = current, self._batches_of(current)
        self.position += self._size
        return self._batches[number - self._complete(current)]

    def _complete(self, current: int) -> int:
        """Batches that are full before a pass begins."""
        return sum(current * count // self._size for count in self._members.values())

    def _batches_of(self, current: int) -> list[list[int]]:
        """Those that become full in a pass, in this order."""
        batches, waiting = [], self._left_over(current)
        for index in self._order(current):
            batch = waiting[self._buckets[index]]
            batch.append(index)
            if len(batch) == self._size:
                batches.append(batch)
                waiting[self._buckets[index]] = []
        return batches

    def _left_over(self, current: int) -> dict[Hashable, list[int]]:
        """Clips of earlier passes whose batch is not full yet, by bucket."""
        waiting: dict[Hashable, list[int]] = {}
        for bucket, count in self._members.items():
            end = current * count
            begin = end - end % self._size
            row = [
                index
                for earlier in range(begin // count, current)
                for index in self._order(earlier)
                if self._buckets[index] == bucket
            ]
            waiting[bucket] = row[begin % count :]
        return waiting

    def _order(self, current: int) -> list[int]:
        # A large odd factor keeps the streams of neighbouring seeds and passes apart.
        generator = torch.Generator().manual_seed((self._seed * 1_000_003 + current) % 2**63)
        order: list[int] = torch.randperm(len(self._buckets), generator=generator).tolist()
        return order


def drops_caption(seed: int, position: int, share: float) -> bool:
    """Whether the clip drawn at `position` is seen with the empty caption: a function of these
    alone, so that resuming needs nothing more.
    """
    drawn = hashlib.sha256(f"caption/{seed}/{position}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") < share * 2**64
