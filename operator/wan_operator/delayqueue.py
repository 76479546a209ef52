"""Keys that are due, each once and never in two workers at a time; and the write budget."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class DelayQueue(Generic[K]):
    """`add` asks for a key after some seconds; the earliest request counts. A key that is being
    worked on is given out again only after `done`, so that work on one key never overlaps."""

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._number = 0
        self._working: dict[K, float] = {}
        self._changed = asyncio.Event()
        self._closed = False

    def add(self, key: K, after: float = 0.0) -> None:
        when = time.monotonic() + after
        if self._due.get(key, float("inf")) <= when:
            return
        self._due[key] = when
        self._push(key, when)

    async def get(self) -> tuple[K, float] | None:
        """(key, when it became due); None once closed."""
        while not self._closed:
            entry = self._pop()
            if entry is not None:
                return entry
            self._changed.clear()
            pause = self._heap[0][0] - time.monotonic() if self._heap else None
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                continue
        return None

    def done(self, key: K) -> None:
        del self._working[key]
        if key in self._due:
            self._push(key, self._due[key])

    def close(self) -> None:
        self._closed = True
        self._changed.set()

    def depth(self) -> int:
        now = time.monotonic()
        return sum(1 for when in self._due.values() if when <= now)

    def age(self) -> float:
        """Seconds that the oldest due key has waited."""
        oldest = min(self._due.values(), default=float("inf"))
        return max(0.0, time.monotonic() - oldest)

    def longest_work(self) -> float:
        """Seconds that the slowest worker has been at its key."""
        return time.monotonic() - min(self._working.values(), default=time.monotonic())

    def is_scheduled(self, key: K) -> bool:
        return key in self._due or key in self._working

    def _push(self, key: K, when: float) -> None:
        self._number += 1
        heapq.heappush(self._heap, (when, self._number, key))
        self._changed.set()

    def _pop(self) -> tuple[K, float] | None:
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            when, _, key = heapq.heappop(self._heap)
            # Outdated by an earlier wish, or held back until the work on the key is done.
            if self._due.get(key) != when or key in self._working:
                continue
            del self._due[key]
            self._working[key] = now
            return key, when
        return None


class TokenBucket:
    """Token bucket of `rate` tokens a second on average, with bursts of twice that."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = self._size = 2 * rate
        self._filled = time.monotonic()

    async def spend(self) -> None:
        now = time.monotonic()
        self._tokens = min(self._size, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        # Taken before the wait, so that waiters line up behind each other instead of racing.
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)
