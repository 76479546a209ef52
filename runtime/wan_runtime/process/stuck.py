"""Notices that a step makes no progress any more.

What is stuck in a driver, on a broken link or on a volume ends nothing: it waits, and so do the
other ranks, in a collective. Two things show it. The steps of one training take about as long as
one another, so one that takes many times the median is a sign. And whatever a step does, it gives a
heartbeat with each part of it that is done; one that has given none for an hour does nothing.
"""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import urllib3
from urllib3.exceptions import HTTPError

from wan_runtime import heartbeat
from wan_runtime.contract.job import Progress
from wan_runtime.process import stacks
from wan_runtime.process.children import Children

log = logging.getLogger(__name__)

HEARTBEAT_FILE = "heartbeat"
"""Its time of modification changes with each heartbeat."""
KNOWN_STEPS = 5
"""Steps after which their median is believed."""
WINDOW = 32
"""Last steps whose median counts."""
ASK_SECONDS = 60.0
"""Seconds between two questions to another pod."""
ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a step may take."""

    factor: float = 10.0
    """Times the median of the last steps."""
    least: float = 600.0
    """Seconds that are always given: another size of clips is compiled for, a store is slow."""
    silence: float = 3600.0
    """Seconds without a heartbeat of any rank: no part of legal work takes nearly as long."""
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


@dataclass(slots=True)
class Silence:
    """The time since any rank gave a heartbeat."""

    patience: Patience
    _last: tuple[int, ...] | None = None
    _since: float = 0.0

    def overdue(self, now: float, beats: tuple[int, ...], activity: str) -> str | None:
        """What is wrong, in words; None while nothing is.

        Args:
            now: seconds of a monotonic clock.
            beats: of each pod, a number that changes with each heartbeat.
            activity: what the step says that it does.
        """
        if beats != self._last:
            self._last, self._since = beats, now
        waited = now - self._since
        if waited < self.patience.silence:
            return None
        return f"no sign of progress for {waited:.0f} s while {activity}"


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
        others: Callable[[], tuple[int, ...]] = tuple,
    ) -> None:
        """Start it.

        Args:
            folders: run folders of the ranks, by place.
            read: the progress, and whether a step is at work.
            leads: whether the first of all ranks is here. Elsewhere, ranks that all wait in a
                collective are left running: what they wait for is in another pod.
            others: of each other pod, a number that changes with each heartbeat: ranks may wait
                for one that has much to fetch.
        """
        self.found: Found | None = None
        self._children, self._folders, self._read = children, folders, read
        self._patience, self._leads, self._others = patience, leads, others
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it. A question to another pod may be under way, which is not waited for."""
        self._over.set()
        self._thread.join(ANSWER_SECONDS)

    def _run(self) -> None:
        pace, silence = Pace(self._patience), Silence(self._patience)
        # Seconds that were watched: where pod or node stood still, so did the ranks.
        watched, last = 0.0, time.monotonic()
        while not self._over.wait(self._patience.every):
            now = time.monotonic()
            watched, last = watched + min(now - last, 2 * self._patience.every), now
            progress, counts = self._read()
            beats = (heartbeats(self._folders), *self._others())
            message = pace.overdue(watched, progress, counts) or silence.overdue(
                watched, beats, progress.activity
            )
            if message is None:
                continue
            if self._end(message):
                return
            pace, silence = Pace(self._patience), Silence(self._patience)

    def _end(self, message: str) -> bool:
        """Log the stacks and end the ranks; whether that was done."""
        stacks.ask(self._children.running)
        self._over.wait(self._patience.dump)
        found = [stacks.read(folder) for folder in self._folders]
        for place, text in enumerate(found):
            log.error("%s; stacks of local rank %d: %s", message, place, text or "none")
        waiting = frozenset(place for place, text in enumerate(found) if stacks.waits(text))
        if self._over.is_set() or not (self._leads or len(waiting) < len(found)):
            return False
        self.found = Found(message, waiting)
        self._children.kill()
        return True


def publish_heartbeats(folder: Path) -> None:
    """Pass the heartbeats of this process on to the supervisor."""

    def touch() -> None:
        with suppress(OSError):  # a heartbeat that is lost is no error of the work
            (folder / HEARTBEAT_FILE).touch()

    heartbeat.pass_on(touch)


def heartbeats(folders: Iterable[Path]) -> int:
    """A number that changes with each heartbeat of the processes with these run folders."""
    newest = 0
    for folder in folders:
        with suppress(FileNotFoundError):
            newest = max(newest, (folder / HEARTBEAT_FILE).stat().st_mtime_ns)
    return newest


class Others:
    """The heartbeats of other pods, which their supervisors serve."""

    def __init__(self, addresses: Sequence[str], every: float = ASK_SECONDS) -> None:
        """`addresses`: with ports."""
        self._addresses, self._every = addresses, every
        self._beats = [0] * len(addresses)
        self._last = float("-inf")

    def __call__(self) -> tuple[int, ...]:
        """The last number of each."""
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            for place, address in enumerate(self._addresses):
                with suppress(HTTPError, ValueError):
                    said = urllib3.request("GET", address, retries=False, timeout=ANSWER_SECONDS)
                    self._beats[place] = int(said.data)
        return tuple(self._beats)
