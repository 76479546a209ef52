"""Seconds of a start, by what was done."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Times:
    """Seconds of each part, in the order in which they were first begun."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Count what is done meanwhile."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.add(name, time.monotonic() - began)

    def add(self, name: str, seconds: float) -> None:
        """Count what was done already."""
        self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 1)

    def __str__(self) -> str:
        return ", ".join(f"{name} {seconds:g} s" for name, seconds in self.seconds.items())


def since_process_start() -> float:
    """Seconds since the kernel started this process."""
    begun = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    started = int(begun) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
