"""How often a key may ask, over a sliding minute."""

from __future__ import annotations

from collections import defaultdict, deque

MINUTE = 60.0


class Rates:
    """Counts in this process only: with n gateways behind a Service a key gets up to n times as
    much."""

    def __init__(self) -> None:
        self._asked: defaultdict[str, deque[float]] = defaultdict(deque)

    def wait(self, owner: str, per_minute: int, now: float) -> float:
        """Count one request at `now`, in monotonic seconds. 0, or the seconds until one is free; it
        is not counted then."""
        asked = self._asked[owner]
        while asked and asked[0] <= now - MINUTE:
            asked.popleft()
        if len(asked) >= per_minute:
            return asked[0] + MINUTE - now
        asked.append(now)
        return 0.0
