"""Trial runs of kernels: which one is worth it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

TIMES = 3
"""Runs of the timing, of which the fastest counts: a processor that is late decides nothing."""
MARGIN = 0.95
"""Share of the time of the kernels before it below which one is worth it: a narrow choice could
fall otherwise at the next start, and a seed would give other bits."""


def seconds_of(run: Callable[[], object]) -> float:
    """Seconds of the fastest of some runs, after one that may compile."""
    best = math.inf
    for number in range(1 + TIMES):
        torch.cuda.synchronize()
        began = time.monotonic()
        run()
        torch.cuda.synchronize()
        if number:
            best = min(best, time.monotonic() - began)
    return best
