"""Processes that compute one thing together, and end together."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from wan_runtime.process import ranks as ranks_module
from wan_runtime.process.ranks import RankProcesses, RanksLost

CHILD = """
import faulthandler, signal, socket, sys
if sys.argv[1] == "1":
    faulthandler.register(signal.SIGUSR1)
channel = socket.socket(fileno=int(sys.argv[2])).makefile("rw")
print("here", sys.argv[1], file=channel, flush=True)
for line in channel:
    if line == "end\\n":
        sys.exit(3)
    print("aside", file=channel)
    print("got", line.strip(), file=channel, flush=True)
"""
LONG = 60.0


def arguments(rank: int, channel: int) -> Sequence[str]:
    return ["-S", "-c", CHILD, str(rank), str(channel)]


def read(line: bytes) -> str | None:
    text = line.decode().strip()
    return None if text == "aside" else text


@asynccontextmanager
async def launched() -> AsyncIterator[RankProcesses[str]]:
    """Two, which have said that they are there."""
    ranks = await RankProcesses.launch(2, arguments, read)
    try:
        first = [await ranks.receive(time.monotonic() + LONG, "not there") for _ in range(2)]
        assert sorted(first) == [(0, "here 0"), (1, "here 1")]
        yield ranks
    finally:
        await ranks.kill()
    assert not any(map(is_alive, ranks.pids))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_each_is_sent_to_and_what_needs_no_attention_is_left_out() -> None:
    async with launched() as ranks:
        assert len(ranks) == len(ranks.pids) == 2
        ranks.send(1, b"a message\n")
        answer = await ranks.receive(time.monotonic() + LONG, "no answer")
        assert answer == (1, "got a message")


async def test_the_end_of_one_is_the_end_of_all() -> None:
    async with launched() as ranks:
        ranks.send(1, b"end\n")
        with pytest.raises(RanksLost, match="rank 1 exited with code 3"):
            await ranks.receive(time.monotonic() + LONG, "no answer")
        assert not any(map(is_alive, ranks.pids))


async def test_a_deadline_is_the_end_of_all(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One would die of the signal for stacks."""
    monkeypatch.setattr(ranks_module, "STACKS_SECONDS", 5.0)  # a busy machine is slow to write them
    async with launched() as ranks:
        words = "no step of rank 0 for 0 s: the ranks were killed; the log has their stacks"
        with pytest.raises(RanksLost, match=words):
            await ranks.receive(time.monotonic(), "no step of rank 0")
        assert not any(map(is_alive, ranks.pids))
    assert 'File "<string>", line' in capfd.readouterr().err


async def test_a_launch_that_is_cancelled_leaves_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    both = asyncio.Event()
    execute = ranks_module._execute

    async def second_never_starts(given: Sequence[str], channel: int) -> asyncio.subprocess.Process:
        if started:
            both.set()
            await asyncio.sleep(LONG)
        process = await execute(given, channel)
        started.append(process.pid)
        return process

    monkeypatch.setattr(ranks_module, "_execute", second_never_starts)
    launch = asyncio.create_task(RankProcesses.launch(2, arguments, read))
    await both.wait()
    launch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launch
    del launch
    gc.collect()  # a socket that is left open is an error of this test
    assert [is_alive(pid) for pid in started] == [False]
