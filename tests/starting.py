"""Waiting for servers that a test has started."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

LIMIT = 300.0
"""Seconds within which a server must answer: it may start beside much else."""
PAUSE = 0.02


def until_ready(
    name: str, is_ready: Callable[[], bool], is_alive: Callable[[], bool], log: Path | None = None
) -> None:
    """Wait until it is ready. Fails once it has ended, or is not ready in time.

    `log`: file whose end says why.
    """
    deadline = time.monotonic() + LIMIT
    while not is_ready():
        if is_alive() and time.monotonic() < deadline:
            time.sleep(PAUSE)
            continue
        said = "" if log is None else f":\n{log.read_text(errors='replace')[-2000:]}"
        what = "is not ready" if is_alive() else "ended while it started"
        raise AssertionError(f"{name} {what}{said}")
