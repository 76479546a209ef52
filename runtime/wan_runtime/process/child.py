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


def enter(main: Callable[[], int], *, ignored: Iterable[signal.Signals] = ()) -> NoReturn:
    """Run `main` as this process, and end with the code that it returns.

    Args:
        ignored: signals that the parent alone acts on.
    """
    # Killed outright, a parent cannot pass anything on: never leave a GPU to an orphan.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # A normal exit would wait for threads that sit out an absent store, and for process groups
    # whose other ranks are gone.
    os._exit(code)
