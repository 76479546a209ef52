"""How often a key may ask, over a sliding minute."""

from __future__ import annotations

from collections import defaultdict, deque

MINUTE = 60.0


class Rates:
    """Counts in this process only: with n gateways behind a Service a key gets up to n times as
    much."""

    def __init__(self) -> None:
        self._times: defaultdict[str, deque[float]] = defaultdict(deque)

    def wait(self, owner: str, per_minute: int, now: float) -> float:
        """Count one request at `now`, in monotonic seconds. 0, or the seconds until one is free; it
        is not counted then."""
        times = self._times[owner]
        while times and times[0] <= now - MINUTE:
            times.popleft()
        if len(times) >= per_minute:
            return times[0] + MINUTE - now
        times.append(now)
        return 0.0
