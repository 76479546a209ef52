"""A measurement's ranks: one process for each, which starts as the command did."""

from __future__ import annotations

import os
import subprocess
import sys

from ports import free_port
from wan_runtime.process.launch import Place


def launch(world: int) -> int:
    """Start this command once more for each rank, and wait for all, or for the first that fails:
    the exit code of the command."""
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, *sys.argv],
            env=os.environ | Place(rank, world, rank, world, "127.0.0.1", port).environment(),
        )
        for rank in range(world)
    ]
    try:
        codes = (os.waitstatus_to_exitcode(os.wait()[1]) for _ in processes)
        return int(any(codes))
    finally:
        for each in processes:
            each.kill()
