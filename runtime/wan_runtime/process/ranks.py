"""Processes that compute one thing together: launched, watched and killed as one.

No torch here. Ranks that lost one of them are of no use: they wait for it in a collective.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from wan_runtime.process import stacks

M = TypeVar("M")
STACKS_SECONDS = 1.0
"""Seconds in which ranks that are stuck write their stacks to standard error."""


class RanksLost(Exception):
    """A rank died or is stuck; all of them were killed."""


class RankDied(RanksLost):
    """A rank ended by itself. What the others say of it is no cause: a collective without it
    fails."""


@dataclass(frozen=True, slots=True)
class Rank:
    """One of the processes."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass(slots=True)
class RankProcesses(Generic[M]):
    """All of them, each with a socket for messages of a line."""

    read: Callable[[bytes], M | None]
    """Makes a message of a line, as soon as it comes; None: it needs no more attention."""
    _ranks: list[Rank] = field(default_factory=list)
    _received: asyncio.Queue[tuple[int, M | None]] = field(default_factory=asyncio.Queue)
    _readers: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def launch(
        cls,
        world: int,
        arguments: Callable[[int, int], Sequence[str]],
        read: Callable[[bytes], M | None],
    ) -> RankProcesses[M]:
        """Start `world` Python processes.

        Args:
            arguments: those of a rank, from its number and the file descriptor of its socket.
            read: see the field.
        """
        made = cls(read)
        try:
            for number in range(world):
                made._ranks.append(await _start(partial(arguments, number)))
        except BaseException:  # the worker is told to end, say
            await made.kill()
            raise
        made._readers = [
            asyncio.create_task(made._read(number, each.reader))
            for number, each in enumerate(made._ranks)
        ]
        return made

    def __len__(self) -> int:
        return len(self._ranks)

    @property
    def pids(self) -> list[int]:
        """Process ids, by rank."""
        return [each.process.pid for each in self._ranks]

    def send(self, rank: int, line: bytes) -> None:
        """Send a message to one."""
        self._ranks[rank].writer.write(line)

    async def receive(self, deadline: float, what: str) -> tuple[int, M]:
        """The next message, and the rank that it is from.

        Args:
            deadline: by the monotonic clock.
            what: what is missing at the deadline, for the error.

        Raises:
            RanksLost: at the deadline; RankDied at the end of a rank.
        """
        started = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, deadline - started)):
                rank, message = await self._received.get()
        except TimeoutError:
            waited = time.monotonic() - started
            written = stacks.ask(self.pids)
            if written:
                await asyncio.sleep(STACKS_SECONDS)
            await self.kill()
            where = "; the log has their stacks" if written else ""
            raise RanksLost(f"{what} for {waited:.0f} s: the ranks were killed{where}") from None
        if message is None:
            code = await self._ranks[rank].process.wait()
            await self.kill()
            raise RankDied(f"rank {rank} {_ended(code)}")
        return rank, message

    async def kill(self) -> None:
        """Kill all of them, and what they started, outright. Safe to repeat."""
        for each in self._ranks:
            _kill(each.process)
        for each in self._ranks:
            await each.process.wait()
            each.writer.close()
        for reader in self._readers:
            reader.cancel()

    async def _read(self, rank: int, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                message = self.read(line)
                if message is not None:
                    await self._received.put((rank, message))
        await self._received.put((rank, None))


async def _start(arguments: Callable[[int], Sequence[str]]) -> Rank:
    ours, theirs = socket.socketpair()
    with contextlib.ExitStack() as unused:
        unused.callback(ours.close)
        with theirs:
            process = await _execute(arguments(theirs.fileno()), theirs.fileno())
        unused.callback(_kill, process)
        reader, writer = await asyncio.open_connection(sock=ours)
        unused.pop_all()
    return Rank(process, reader, writer)


async def _execute(arguments: Sequence[str], channel: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, pass_fds=[channel], start_new_session=True
    )


def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill it and what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _ended(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
