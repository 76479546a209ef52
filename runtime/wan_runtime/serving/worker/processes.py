"""The processes that render a video together, as the worker has them. No torch here."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from wan_runtime.models.adapters.applied import AppliedAdapter
from wan_runtime.process.ranks import RankDied, RankProcesses, RanksLost
from wan_runtime.rendering.order import Problem, Stage
from wan_runtime.serving.problems import Code
from wan_runtime.serving.worker.messages import (
    Alive,
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
"""Seconds within which the other ranks report the end of a video after one has failed at it."""


class RanksFailed(Exception):
    """A rank died or is stuck; all of them were killed."""

    def __init__(
        self,
        message: str,
        problem: Problem | None = None,
        *,
        hopeless: bool = False,
        died: bool = False,
    ) -> None:
        super().__init__(message)
        self.problem, self.hopeless, self.died = problem, hopeless, died
        """The problem of the video, if it is what broke the ranks; None: it may be tried again.
        `hopeless`: they failed at their own start, and others would. `died`: a rank ended by
        itself."""


@dataclass(frozen=True, slots=True)
class Patience:
    """When a rank counts as stuck."""

    factor: float = 5.0
    """Times what the warm-up took."""
    floor_seconds: float = 60.0
    silence_seconds: float = 3600.0
    """Without a heartbeat of any rank, until all are ready."""

    def of(self, stage: Stage, pace: Pace | None, tokens: int) -> float:
        """Seconds that a rank may be silent. Attention grows with the square of the tokens."""
        if pace is None:
            return self.silence_seconds
        growth = max(1.0, tokens / pace.tokens) ** 2
        expected = pace.step_seconds if stage is Stage.DENOISING else pace.stages.get(stage, 0.0)
        return max(self.floor_seconds, self.factor * growth * expected)


@dataclass(slots=True)
class Processes:
    """All ranks of a worker."""

    patience: Patience
    ready: list[Ready] = field(default_factory=list)
    on_checked: Callable[[Checked], None] = lambda _: None
    """Called with what comes of a check."""
    _ranks: RankProcesses[Report] = field(init=False)

    @classmethod
    async def start(
        cls, service_file: Path, world: int, work: Path, patience: Patience
    ) -> Processes:
        """Begin to load. Await `begin` next."""
        meet = work / "meet"
        meet.unlink(missing_ok=True)
        files = ("--service", str(service_file), "--meet", str(meet), "--work", str(work))

        def arguments(rank: int, channel: int) -> list[str]:
            place = ("--rank", str(rank), "--world", str(world), "--channel", str(channel))
            return ["-m", "wan_runtime.serving.worker.start_rank", *files, *place]

        made = cls(patience)
        made._ranks = await RankProcesses.launch(world, arguments, made._read)
        return made

    @property
    def pids(self) -> list[int]:
        return self._ranks.pids

    async def begin(self) -> None:
        """Wait until all ranks are ready.

        Raises:
            RanksFailed: if one cannot be.
        """
        ready: dict[int, Ready] = {}
        while len(ready) < len(self._ranks):
            # Counted from the last report: how long all takes, nobody knows. 60 GB may be fetched.
            deadline = time.monotonic() + self.patience.silence_seconds
            rank, report = await self._receive(deadline, "not ready, and no sign of progress")
            if isinstance(report, Failed):
                await self.kill()
                raise RanksFailed(report.message, hopeless=report.hopeless)
            if isinstance(report, Ready):
                ready[rank] = report
        self.ready = [ready[rank] for rank in sorted(ready)]

    async def render(
        self, task: Render, tokens: int, on_beat: Callable[[Beat], None]
    ) -> list[Done]:
        """The video, on all ranks; its frames lie at `task.frames`.

        Raises:
            Unrenderable: the ranks live, the video cannot be made.
            RanksFailed: a rank died or made no step for longer than the patience; all are killed.
        """
        for rank in range(len(self._ranks)):
            self._ranks.send(rank, dump(task))
        pace = self.ready[0].paces.get(str(task.order.size)) if self.ready else None
        silent, begun = self.patience.of(Stage.LOADING, pace, tokens), time.monotonic()
        silences = dict.fromkeys(range(len(self._ranks)), silent)
        deadlines = dict.fromkeys(silences, begun + silent)
        ended: dict[int, Done | Failed] = {}
        while len(ended) < len(self._ranks):
            waiting = {rank: due for rank, due in deadlines.items() if rank not in ended}
            slowest = min(waiting, key=lambda rank: waiting[rank])
            try:
                rank, report = await self._receive(waiting[slowest], f"no step of rank {slowest}")
            except RanksFailed as lost:
                lost.problem = _problem(ended, died=lost.died)
                raise
            if isinstance(report, Beat) and report.job_id == task.job_id:
                silences[rank] = self.patience.of(report.stage, pace, tokens)
                deadlines[rank] = time.monotonic() + silences[rank]
                if rank == 0:
                    on_beat(report)
            elif isinstance(report, Alive) and not _failed(ended):
                deadlines[rank] = time.monotonic() + silences[rank]
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
        self._ranks.send(0, dump(Check(adapters=adapters)))

    def cancel(self, job_id: str) -> None:
        """Cancel the current video, which ends at the next step of all ranks."""
        self._ranks.send(0, dump(Cancel(job_id=job_id)))

    async def kill(self) -> None:
        """Kill all of them, outright. Safe to repeat."""
        await self._ranks.kill()

    async def _receive(self, deadline: float, what: str) -> tuple[int, Report]:
        """The next report. Raises RanksFailed at the deadline and at the end of a rank."""
        try:
            return await self._ranks.receive(deadline, what)
        except RanksLost as lost:
            raise RanksFailed(str(lost), died=isinstance(lost, RankDied)) from None

    def _read(self, line: bytes) -> Report | None:
        report = report_of(line)
        if isinstance(report, Checked):  # at any time: nobody waits for it
            self.on_checked(report)
            return None
        return report


def _failed(ended: dict[int, Done | Failed]) -> bool:
    return any(isinstance(report, Failed) for report in ended.values())


def _problem(ended: dict[int, Done | Failed], *, died: bool = False) -> Problem | None:
    """Problem of the first rank that has one; None if no rank has. If one `died`, an error that was
    not foreseen is none of the video: collectives of the others fail without it."""
    for report in ended.values():
        if isinstance(report, Failed) and not (died and report.code == Code.INTERNAL):
            return Problem(code=report.code, message=report.message)
    return None
