"""Progress lines with the seconds since the command began, on stderr: stdout is for results."""

from __future__ import annotations

import sys
import time

_began = time.monotonic()


def say(text: str) -> None:
    """Prints one progress line."""
    print(f"[{time.monotonic() - _began:6.1f} s] {text}", file=sys.stderr, flush=True)
