"""The processes of a step, and all that they leave behind.

Each leads a session of its own. If one of several fails, the others are of no use: they wait for it
in a collective.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import IO, Final

from wan_runtime.contract.job import ExitClass
from wan_runtime.process import early

log = logging.getLogger(__name__)

PR_SET_CHILD_SUBREAPER: Final = 36
LAST_LINES = 5
"""Number of lines of standard error that are kept of each process."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
LAST_WORDS_SECONDS = 5.0
"""Interval between the end of the first process that fails and the killing of the others: one of
them may be about to say what was wrong."""
GOOD_ENDS = (ExitClass.DONE, ExitClass.STOPPED)
"""Exit codes after which the others go on, to commit or to save."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one process."""

    place: int
    """Its place among those that were started."""
    status: int
    """Exit code, or minus the fatal signal."""
    last_lines: tuple[str, ...]
    """The end of its standard error; empty at a terminal."""
    killed: bool
    """Whether it was killed because another had failed, or all were stuck."""


class Children:
    """Processes that do one step together; mostly one."""

    def __init__(self, command: Sequence[str], environments: Sequence[Mapping[str, str]]) -> None:
        """Start one for each of the environments, which are added to our own. Inside `with`,
        SIGTERM and SIGINT sent to us mean SIGTERM for all of them.
        """
        self.stop_requested = False
        self._processes: list[subprocess.Popen[bytes]] = []
        self._readers: list[threading.Thread] = []
        self._lines = [deque[str](maxlen=LAST_LINES) for _ in environments]
        self._running: set[int] = set()
        self._killed: set[int] = set()
        # Their orphans come to us as they would to PID 1, wherever we run.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._previous = {number: signal.signal(number, self._forward) for number in STOP_SIGNALS}
        self.stop_requested |= early.received()
        for added in environments:
            # A person at a terminal sees the progress bar; in a pod the last words are kept.
            process = subprocess.Popen(
                command,
                env={**os.environ, **added} if added else None,
                stderr=None if sys.stderr.isatty() else subprocess.PIPE,
                start_new_session=True,
            )
            self._running.add(process.pid)
            self._processes.append(process)
        if self.stop_requested:  # it came before there was anybody to signal
            self.signal(signal.SIGTERM)
        # Threads only now: a fork wants none.
        for process, lines in zip(self._processes, self._lines, strict=True):
            if process.stderr is not None:
                reader = threading.Thread(target=_tee, args=(process.stderr, lines), daemon=True)
                reader.start()
                self._readers.append(reader)

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def wait(self) -> list[Ended]:
        """Reap until all have ended: their ends, the first one first.

        Whatever they started and left running is killed.
        """
        places = {process.pid: place for place, process in enumerate(self._processes)}
        statuses: dict[int, int] = {}
        last_words: threading.Timer | None = None
        while len(statuses) < len(places):
            pid, raw = os.waitpid(-1, 0)  # any child: the orphans of a PID 1 are its zombies
            if pid not in places:
                continue
            status = statuses[places[pid]] = os.waitstatus_to_exitcode(raw)
            self._running.discard(pid)
            self._processes[places[pid]].returncode = status  # reaped behind its back
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            if status not in GOOD_ENDS and self._running and last_words is None:
                last_words = threading.Timer(LAST_WORDS_SECONDS, self.kill)
                last_words.daemon = True
                last_words.start()
        if last_words is not None:
            last_words.cancel()
        _reap_rest()
        for reader in self._readers:
            reader.join(timeout=5)
        return [
            Ended(
                place,
                status,
                tuple(self._lines[place]),
                self._processes[place].pid in self._killed and status == -signal.SIGKILL,
            )
            for place, status in statuses.items()
        ]

    @property
    def running(self) -> list[int]:
        """Process ids of those that still run."""
        return list(self._running)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to each that still runs."""
        for pid in self.running:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """End each that still runs, at once."""
        self._killed |= self._running
        self.signal(signal.SIGKILL)

    def _forward(self, signum: int, frame: FrameType | None) -> None:
        self.stop_requested = True
        log.info("%s: asking the step to stop", signal.Signals(signum).name)
        self.signal(signal.SIGTERM)


def _tee(stream: IO[bytes], lines: deque[str]) -> None:
    with stream:
        for raw in stream:
            sys.stderr.buffer.write(raw)
            sys.stderr.buffer.flush()
            line = raw.decode(errors="replace").strip()
            if line:
                lines.append(line[-300:])


def _reap_rest() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
