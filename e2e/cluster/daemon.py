"""Starts, finds, stops and kills one long-running process.

A pid alone may have been reused, so the record holds the start time as well; only a process
that matches both is ever signalled.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


def birth(pid: int) -> int | None:
    """The start time of a live process in clock ticks; None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def end(pids: Sequence[int], grace: float) -> None:
    """SIGTERM, then SIGKILL for those still there after `grace` seconds; waits for the end."""
    alive = {pid: born for pid in pids if (born := birth(pid)) is not None}
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        if number == signal.SIGTERM and grace <= 0:
            continue
        for pid, born in alive.items():
            if birth(pid) == born:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        deadline = time.monotonic() + patience
        while alive and time.monotonic() < deadline:
            for pid in alive:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            alive = {pid: born for pid, born in alive.items() if birth(pid) == born}
            if alive:
                time.sleep(0.02)


@dataclass(frozen=True)
class Daemon:
    """A process with a record of itself and a log file."""

    record: Path
    log: Path

    def pid(self) -> int | None:
        """The pid, or None when it doesn't run."""
        try:
            known = json.loads(self.record.read_text())
        except (OSError, ValueError):
            return None
        pid = int(known["pid"])
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return pid if birth(pid) == known["birth"] else None

    def mark(self) -> str:
        """What it was started from, in its starter's words; empty when there is no record."""
        try:
            return str(json.loads(self.record.read_text()).get("mark", ""))
        except (OSError, ValueError):
            return ""

    def start(self, argv: Sequence[str | Path], env: Mapping[str, str], mark: str = "") -> int:
        """Starts it in a session of its own, so that it outlives this command."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.record.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > 64 << 20:
            self.log.replace(self.log.with_suffix(".log.1"))
        words = [str(word) for word in argv]
        # posix_spawn and not Popen: a Popen object warns when it is dropped while its child runs.
        pid = os.posix_spawn(
            words[0],
            words,
            dict(env),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (
                    os.POSIX_SPAWN_OPEN,
                    1,
                    str(self.log),
                    os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                    0o644,
                ),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        text = json.dumps({"pid": pid, "birth": birth(pid), "mark": mark})
        work = self.record.with_suffix(".new")
        work.write_text(text)
        work.replace(self.record)
        return pid

    def stop(self, grace: float = 15) -> None:
        """Ends it: politely for `grace` seconds, then by SIGKILL; 0 means SIGKILL at once."""
        pid = self.pid()
        if pid is not None:
            end([pid], grace)
        self.record.unlink(missing_ok=True)

    def resident_mib(self) -> int:
        """Resident memory, 0 when it doesn't run."""
        pid = self.pid()
        if pid is None:
            return 0
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") >> 20
