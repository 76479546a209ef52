"""SIGTERM before there is anybody to act on it.

As PID 1 of a pod a process without a handler ignores SIGTERM, and importing what the supervisor
needs takes a third of a second: a pod that had to stop meanwhile would run on to its SIGKILL.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

_received = False


def catch() -> None:
    """From now on SIGTERM is remembered. For the first line of a program, in the main thread."""
    signal.signal(signal.SIGTERM, _remember)


def received() -> bool:
    """Whether SIGTERM has come since `catch`."""
    return _received


def release() -> None:
    """Back to the default, for commands that have nothing to save; what came takes effect now."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if _received:
        os.kill(os.getpid(), signal.SIGTERM)


def _remember(signum: int, frame: FrameType | None) -> None:
    global _received
    _received = True
