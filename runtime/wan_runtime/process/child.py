"""A child process of ours: it does not outlive its parent, and ends at once."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Final, NoReturn

PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends: killed outright, a parent cannot pass
    anything on, and an orphan would keep its GPU. Called before anything that takes long."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def enter(main: Callable[[], int], *, ignored: Iterable[signal.Signals] = ()) -> NoReturn:
    """Run `main` as this process, and end with the code that it returns.

    Args:
        ignored: signals that the parent alone acts on.
    """
    die_with_parent()
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # A normal exit would wait for threads that sit out an absent store, and for process groups
    # whose other ranks are gone.
    os._exit(code)
