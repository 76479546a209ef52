"""Notices that training makes no progress any more.

What is stuck in a driver or on a broken link ends nothing: the other ranks wait for it in a
collective for as long as that waits. The steps of one training take about as long as one another,
so one that takes many times the median is a sign.
"""

from __future__ import annotations

import faulthandler
import logging
import signal
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wan_runtime.contract.job import Progress
from wan_runtime.process.children import Children

log = logging.getLogger(__name__)

DUMP_SIGNAL = signal.SIGUSR1
"""On it, ranks write the stacks of their threads."""
STACKS_FILE = "stacks.txt"
TOP_FRAMES = 6
"""Number of innermost calls among which a collective is looked for."""
KNOWN_STEPS = 5
"""Steps after which their median is believed."""
WINDOW = 32
"""Last steps whose median counts."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a step may take."""

    factor: float = 10.0
    """Times the median of the last steps."""
    least: float = 600.0
    """Seconds that are always given: another size of clips is compiled for, a store is slow."""
    every: float = 5.0
    """Seconds between two readings of the progress."""
    dump: float = 5.0
    """Seconds in which ranks write their stacks."""


@dataclass(slots=True)
class Pace:
    """The times at which steps were seen to be done."""

    patience: Patience
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _current: int = 0
    _since: float | None = None
    """When the count was last seen to go up, or something that is not counted went on."""

    def overdue(self, now: float, progress: Progress, counts: bool) -> str | None:
        """What is wrong, in words; None while nothing is.

        Args:
            now: seconds of a monotonic clock.
            counts: whether a step is at work, not something beside the steps.
        """
        if progress.unit != "steps" or not progress.total or not counts:
            self._since = None
            return None
        if self._since is None or progress.current != self._current:
            done = progress.current - self._current
            if self._since is not None and done > 0:
                self._seconds.extend([(now - self._since) / done] * min(done, WINDOW))
            self._current, self._since = progress.current, now
            return None
        if len(self._seconds) < KNOWN_STEPS:
            return None
        median, waited = statistics.median(self._seconds), now - self._since
        if waited < max(self.patience.least, self.patience.factor * median):
            return None
        return (
            f"no progress for {waited:.0f} s after step {progress.current}, where a step takes "
            f"{median:.3g} s"
        )


@dataclass(frozen=True, slots=True)
class Found:
    """Ranks without progress."""

    message: str
    waiting: frozenset[int]
    """Places of those that wait for others in a collective, as far as their stacks show."""


class Watch:
    """A thread that ends the ranks of a pod once they are stuck, when their stacks are logged."""

    def __init__(
        self,
        children: Children,
        folders: Sequence[Path],
        read: Callable[[], tuple[Progress, bool]],
        patience: Patience,
        *,
        leads: bool,
    ) -> None:
        """Start it.

        Args:
            folders: run folders of the ranks, by place.
            read: the progress, and whether a step is at work.
            leads: whether the first of all ranks is here. Elsewhere, ranks that all wait in a
                collective are left running: what they wait for is in another pod.
        """
        self.found: Found | None = None
        self._children, self._folders, self._read = children, folders, read
        self._patience, self._leads = patience, leads
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        pace, message = Pace(self._patience), None
        while message is None:
            if self._over.wait(self._patience.every):
                return
            message = pace.overdue(time.monotonic(), *self._read())
        self._children.signal(DUMP_SIGNAL)
        self._over.wait(self._patience.dump)
        stacks = [_stacks(folder) for folder in self._folders]
        for place, text in enumerate(stacks):
            log.error("%s; stacks of local rank %d: %s", message, place, text or "none")
        waiting = frozenset(place for place, text in enumerate(stacks) if waits(text))
        is_here = self._leads or len(waiting) < len(stacks)
        if is_here and not self._over.is_set():
            self.found = Found(message, waiting)
            self._children.kill()


def dump_on_signal(folder: Path) -> None:
    """Have this process write the stacks of its threads to its run folder on `DUMP_SIGNAL`."""
    faulthandler.register(DUMP_SIGNAL, file=(folder / STACKS_FILE).open("w"))


def waits(stacks: str) -> bool:
    """Whether the thread that took the signal, which is the main one, is in a collective."""
    _, _, current = stacks.partition("Current thread")
    frames = current.split("\n\n", 1)[0].splitlines()[1 : 1 + TOP_FRAMES]
    return any("/torch/distributed/" in frame for frame in frames)


def _stacks(folder: Path) -> str:
    try:
        return (folder / STACKS_FILE).read_text().strip()
    except FileNotFoundError:
        return ""
