"""Clips are scored in processes of their own: decoders and OpenCV can end a process natively.

`python -m wan_runtime.evaluation.measuring FD` takes orders from a pipe until it is closed.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from wan_runtime import heartbeat
from wan_runtime.contract.clip_scores import ClipScores, Score, Unscored
from wan_runtime.contract.metric_names import MetricName
from wan_runtime.evaluation.metrics.alignment import AS_CANDIDATE, Grid
from wan_runtime.evaluation.metrics.score import NOTHING, USUAL, Limits, Mounted, score_clip

log = logging.getLogger(__name__)

GRACE = 60.0
"""Seconds beyond the time limit of a clip, after which a process that hangs is killed."""
ATTEMPTS = 2
"""Processes that a clip may end before it counts as failed: one may have ended by chance."""


@dataclass(frozen=True, slots=True)
class Order:
    """What `score_clip` is called with."""

    candidate: Path
    reference: Path
    first_frame: Path
    metrics: Sequence[MetricName]
    limits: Limits = USUAL
    grid: Grid = AS_CANDIDATE
    mounted: Mounted = NOTHING
    legacy: bool = False

    def scored(self) -> ClipScores:
        """The scores, computed in this process."""
        return score_clip(
            self.candidate,
            self.reference,
            self.first_frame,
            self.metrics,
            self.limits,
            grid=self.grid,
            mounted=self.mounted,
            legacy=self.legacy,
        )

    def without(self, reason: Unscored, message: str) -> ClipScores:
        """A reason in the place of each number."""
        score = Score(reason=reason, message=message)
        return ClipScores(scores=dict.fromkeys(self.metrics, score))


class Ended(Exception):
    """The process ended before it answered."""

    def __init__(self, status: int) -> None:
        super().__init__(_how(status))
        self.status = status


class Hangs(Exception):
    """The process did not answer within the time limit."""


class Measurer:
    """One process, which scores clip after clip."""

    def __init__(self) -> None:
        ours, theirs = Pipe()
        fd = theirs.fileno()
        # -X faulthandler: the log of the pod has where in native code it ended.
        command = [sys.executable, "-X", "faulthandler", "-m", __name__, str(fd)]
        self._process = subprocess.Popen(command, pass_fds=[fd])
        theirs.close()
        self._pipe = ours

    def scored(self, order: Order) -> ClipScores:
        """The scores. Raises Ended or Hangs, after which the process is gone; MemoryError."""
        try:
            self._pipe.send(order)
            if not self._pipe.poll(order.limits.seconds + GRACE):
                self.close()
                raise Hangs
            answer = self._pipe.recv()
            heartbeat.beat()
        except (EOFError, OSError):
            status = self._process.wait()
            self._pipe.close()
            raise Ended(status) from None
        if isinstance(answer, MemoryError):
            raise answer
        assert isinstance(answer, ClipScores)
        return answer

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process. A thread that waits for its answer gets Ended."""
        self._process.kill()
        self._process.wait()


class Measurers:
    """Processes for as many threads as score at a time, started when they are needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[Measurer] = []
        self._idle: list[Measurer] = []
        self._closed = False

    def scored(self, order: Order) -> ClipScores:
        """The scores of a clip. What ends its process again and again is Crashed, what hangs
        TimedOut; later clips are scored by new processes.

        Raises:
            MemoryError: if the memory ran out, which is a fault of no clip.
        """
        for attempt in range(1, ATTEMPTS + 1):
            measurer = self._taken()
            try:
                found = measurer.scored(order)
            except Hangs:
                what = f"the process that measured it hung for {order.limits.seconds + GRACE:g} s"
                return order.without("TimedOut", what)
            except Ended as ended:
                if ended.status == -signal.SIGKILL:  # the kernel's way where memory is short
                    raise MemoryError("a process that measured clips was killed") from None
                log.warning("%s: the process that measured it %s", order.candidate.name, ended)
                if attempt == ATTEMPTS:
                    what = f"the process that measured it {ended}, {ATTEMPTS} times"
                    return order.without("Crashed", what)
            else:
                with self._lock:
                    self._idle.append(measurer)
                return found
        raise AssertionError("each attempt returns or raises")

    def _taken(self) -> Measurer:
        with self._lock:
            if self._closed:
                raise RuntimeError("the measurements are over")
            if self._idle:
                return self._idle.pop()
            self._all = [each for each in self._all if each.runs]
            self._all.append(Measurer())
            return self._all[-1]

    def close(self) -> None:
        """End all, also those at work."""
        with self._lock:
            self._closed = True
            for each in self._all:
                each.close()


@contextmanager
def measurers() -> Iterator[Measurers]:
    """Processes that end with the block."""
    made = Measurers()
    try:
        yield made
    finally:
        made.close()


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    return f"was ended by {signal.Signals(-status).name}"


def main() -> int:
    """Entry point of the process. Returns its exit code."""
    # The parent acts on signals. Its end closes the pipe, and the supervisor kills what is left; a
    # death signal would come with the end of the thread that started this process.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    pipe = Connection(int(sys.argv[1]))
    while True:
        try:
            order: Order = pipe.recv()
        except EOFError:
            return 0
        try:
            pipe.send(order.scored())
        except MemoryError as error:
            pipe.send(error)


if __name__ == "__main__":
    raise SystemExit(main())
