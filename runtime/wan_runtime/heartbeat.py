"""Heartbeats: signs that this process gets on with what may take long.

Given where a part of such work ends: a chunk of a file, a tensor, a pass through a model, an answer
of the store. Whoever watches the process ends it once there has been none for long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

EVERY_SECONDS: Final = 1.0
"""Shortest time between two that are passed on: what is between them costs a reading of the clock.
"""

_receiver: Callable[[], None] | None = None
_due = 0.0


def pass_on(receiver: Callable[[], None] | None) -> None:
    """Pass heartbeats on from now on, in the thread that gives them; None: to nobody."""
    global _receiver, _due
    _receiver, _due = receiver, 0.0


def beat() -> None:
    """Give a heartbeat: a part of the work is done. Call it freely, from any thread."""
    global _due
    if _receiver is None:
        return
    now = time.monotonic()
    if now >= _due:
        _due = now + EVERY_SECONDS
        _receiver()
