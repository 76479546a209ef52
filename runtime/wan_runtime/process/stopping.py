"""What SIGTERM does to a step.

By default it raises Stopped in the main thread at once: right for work that is repeated cheaply or
kept piece by piece. A step with state to save first runs inside `deferred()` and looks at
`requested()` between its units.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import Stopped

_requested = threading.Event()
_deferrals = 0


def requested() -> bool:
    """Whether SIGTERM has arrived."""
    return _requested.is_set()


def install() -> None:
    """Handle SIGTERM in this process. Called by the step's entry point, in the main thread."""
    signal.signal(signal.SIGTERM, _handle)


@contextmanager
def deferred() -> Iterator[None]:
    """SIGTERM only sets the flag inside; leaving with the flag set raises Stopped."""
    global _deferrals
    _deferrals += 1
    try:
        yield
    finally:
        _deferrals -= 1
    if requested():
        raise stopped()


@contextmanager
def fatal() -> Iterator[None]:
    """SIGTERM ends the process at once inside, unless it is deferred: the supervisor reports a stop
    while starting.

    For imports: libraries catch every Exception around theirs, and extension modules report another
    one, so a stop that is raised there would be lost or become an error. A stop is never raised in
    other threads than the main one.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if _deferrals or not is_main or signal.getsignal(signal.SIGTERM) is not _handle:
        yield
        return
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, _handle)


def stopped(message: str = "stopped on request; nothing was left to save") -> Stopped:
    """The exception that ends the step with class STOPPED."""
    return Stopped(Reason.TERMINATED, message)


def _handle(signum: int, frame: FrameType | None) -> None:
    first = not _requested.is_set()
    _requested.set()
    # Once only: a second signal must not break into the cleaning up after the first.
    if first and _deferrals == 0:
        raise stopped()
