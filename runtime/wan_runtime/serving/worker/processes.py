"""A gang of rank processes, as the supervisor has it: started, told, watched and killed as one.

No torch here. A gang that lost a rank is of no use: the others wait for it in a collective.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from wan_runtime.contract.base import Contract
from wan_runtime.models.adapters.applied import AppliedAdapter
from wan_runtime.rendering.order import Problem, Stage
from wan_runtime.serving.worker.messages import (
    Beat,
    Cancel,
    Check,
    Checked,
    Done,
    Failed,
    Pace,
    Ready,
    Render,
    Report,
    dump,
    report_of,
)
from wan_runtime.serving.worker.problems import Unrenderable

log = logging.getLogger(__name__)

SETTLE_SECONDS = 10.0
"""That ranks may differ by in reporting the end of a failed video."""


class GangLost(Exception):
    """A rank died or is stuck; the gang was killed."""

    def __init__(
        self, message: str, problem: Problem | None = None, *, loading: bool = False
    ) -> None:
        super().__init__(message)
        self.problem, self.loading = problem, loading
        """The problem of the video, if it is what broke the gang; None: it may be tried again.
        `loading`: of the gang's own start."""


@dataclass(frozen=True, slots=True)
class Patience:
    """When a rank counts as stuck."""

    factor: float = 5.0
    """Times what the warm-up took."""
    floor_seconds: float = 60.0
    start_seconds: float = 7200.0
    """Until all ranks are ready: fetching 60 GB may take long."""

    def of(self, stage: Stage, pace: Pace | None, tokens: int) -> float:
        """Seconds that a rank may be silent. Attention grows with the square of the tokens."""
        if pace is None:
            return self.start_seconds
        growth = max(1.0, tokens / pace.tokens) ** 2
        expected = pace.step_seconds if stage is Stage.DENOISING else pace.stages.get(stage, 0.0)
        return max(self.floor_seconds, self.factor * growth * expected)


@dataclass(slots=True)
class RankProcess:
    """One of them."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, message: Contract) -> None:
        self.writer.write(dump(message))


@dataclass(slots=True)
class Processes:
    """The gang."""

    ranks: list[RankProcess]
    patience: Patience
    ready: list[Ready] = field(default_factory=list)
    on_checked: Callable[[Checked], None] = lambda _: None
    """Called with what comes of a check."""
    _heard: asyncio.Queue[tuple[int, Report | None]] = field(default_factory=asyncio.Queue)
    _ears: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def start(
        cls, service_file: Path, world: int, work: Path, patience: Patience
    ) -> Processes:
        """Begin to load. Await `begin` next."""
        meet = work / "meet"
        meet.unlink(missing_ok=True)
        ranks = [await _spawn(service_file, rank, world, meet, work) for rank in range(world)]
        gang = cls(ranks, patience)
        gang._ears = [
            asyncio.create_task(gang._listen(rank, each.reader)) for rank, each in enumerate(ranks)
        ]
        return gang

    @property
    def pids(self) -> list[int]:
        return [each.process.pid for each in self.ranks]

    async def begin(self) -> None:
        """Wait until all ranks are ready.

        Raises:
            GangLost: if one cannot be; with its problem.
        """
        deadline = time.monotonic() + self.patience.start_seconds
        ready: dict[int, Ready] = {}
        while len(ready) < len(self.ranks):
            rank, report = await self._hear(deadline, "not ready")
            if isinstance(report, Failed):
                await self.kill()
                problem = Problem(code=report.code, message=report.message)
                raise GangLost(report.message, problem, loading=True)
            if isinstance(report, Ready):
                ready[rank] = report
        self.ready = [ready[rank] for rank in sorted(ready)]

    async def render(
        self, task: Render, tokens: int, on_beat: Callable[[Beat], None]
    ) -> list[Done]:
        """The video, on all ranks; its frames lie at `task.frames`.

        Raises:
            Unrenderable: the gang lives, the video cannot be made.
            GangLost: a rank died or made no step for longer than the patience; it is killed.
        """
        for each in self.ranks:
            each.send(task)
        pace = self.ready[0].paces.get(str(task.order.size)) if self.ready else None
        silent = self.patience.of(Stage.LOADING, pace, tokens)
        deadlines = dict.fromkeys(range(len(self.ranks)), time.monotonic() + silent)
        ended: dict[int, Done | Failed] = {}
        while len(ended) < len(self.ranks):
            waiting = {rank: due for rank, due in deadlines.items() if rank not in ended}
            slowest = min(waiting, key=lambda rank: waiting[rank])
            try:
                rank, report = await self._hear(waiting[slowest], f"no step of rank {slowest}")
            except GangLost as lost:
                lost.problem = _problem(ended)
                raise
            if isinstance(report, Beat) and report.job_id == task.job_id:
                silent = self.patience.of(report.stage, pace, tokens)
                deadlines[rank] = time.monotonic() + silent
                if rank == 0:
                    on_beat(report)
            elif isinstance(report, Done | Failed) and report.job_id == task.job_id:
                ended[rank] = report
                if isinstance(report, Failed):
                    soon = time.monotonic() + SETTLE_SECONDS
                    deadlines = {other: min(due, soon) for other, due in deadlines.items()}
        problem = _problem(ended)
        if problem is not None:
            raise Unrenderable(problem)
        return [each for each in ended.values() if isinstance(each, Done)]

    def check(self, adapters: tuple[AppliedAdapter, ...]) -> None:
        """Have rank 0 look at them, once no video is at work."""
        self.ranks[0].send(Check(adapters=adapters))

    def cancel(self, job_id: str) -> None:
        """Of the video at work; the next step of all ranks ends it."""
        self.ranks[0].send(Cancel(job_id=job_id))

    async def kill(self) -> None:
        """All of them, outright. Safe to repeat."""
        for each in self.ranks:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(each.process.pid, signal.SIGKILL)
        for each in self.ranks:
            await each.process.wait()
            each.writer.close()
        for ear in self._ears:
            ear.cancel()

    async def _hear(self, deadline: float, what: str) -> tuple[int, Report]:
        """The next report. Raises GangLost at the deadline and at the end of a rank."""
        left = max(0.0, deadline - time.monotonic())
        started = time.monotonic()
        try:
            async with asyncio.timeout(left):
                rank, report = await self._heard.get()
        except TimeoutError:
            waited = time.monotonic() - started
            await self.kill()
            raise GangLost(f"{what} for {waited:.0f} s: the gang was killed") from None
        if report is None:
            code = await self.ranks[rank].process.wait()
            await self.kill()
            raise GangLost(f"rank {rank} {_ended(code)}")
        return rank, report

    async def _listen(self, rank: int, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                report = report_of(line)
                if isinstance(report, Checked):  # at any time: nobody waits for it
                    self.on_checked(report)
                else:
                    await self._heard.put((rank, report))
        await self._heard.put((rank, None))


async def _spawn(service_file: Path, rank: int, world: int, meet: Path, work: Path) -> RankProcess:
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "wan_runtime.serving.worker.start_rank"),
            *("--service", str(service_file), "--meet", str(meet), "--work", str(work)),
            *("--rank", str(rank), "--world", str(world), "--channel", str(theirs.fileno())),
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    reader, writer = await asyncio.open_connection(sock=ours)
    return RankProcess(process, reader, writer)


def _problem(ended: dict[int, Done | Failed]) -> Problem | None:
    """Of the first rank that has one."""
    for report in ended.values():
        if isinstance(report, Failed):
            return Problem(code=report.code, message=report.message)
    return None


def _ended(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
