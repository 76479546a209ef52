"""Stacks of processes that are stuck, written by themselves on a signal."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

DUMP_SIGNAL = signal.SIGUSR1
"""On it, processes that are watched write the stacks of their threads."""
FILE = "stacks.txt"
TOP_FRAMES = 6
"""Number of innermost calls among which a collective is looked for."""


def write_on_signal(folder: Path | None = None) -> None:
    """Have this process write the stacks of its threads on `DUMP_SIGNAL`: to a file of the folder,
    or to its standard error."""
    if folder is None:
        faulthandler.register(DUMP_SIGNAL)
    else:
        faulthandler.register(DUMP_SIGNAL, file=(folder / FILE).open("w"))


def ask(pids: Iterable[int]) -> bool:
    """Have processes write their stacks; whether any does. One that is not ready to do so yet would
    die of the signal, and gets none."""
    able = [pid for pid in pids if _catches(pid)]
    for pid in able:
        with suppress(ProcessLookupError):
            os.kill(pid, DUMP_SIGNAL)
    return bool(able)


def read(folder: Path) -> str:
    """What a process wrote; empty if nothing."""
    try:
        return (folder / FILE).read_text().strip()
    except FileNotFoundError:
        return ""


def waits(stacks: str) -> bool:
    """Whether the thread that took the last signal, which is the main one, is in a collective."""
    _, _, current = stacks.rpartition("Current thread")
    frames = current.split("\n\n", 1)[0].splitlines()[1 : 1 + TOP_FRAMES]
    return any("/torch/distributed/" in frame for frame in frames)


def _catches(pid: int) -> bool:
    with suppress(FileNotFoundError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, mask = line.partition(":")
            if name == "SigCgt":
                return bool(int(mask, 16) >> (DUMP_SIGNAL - 1) & 1)
    return False
