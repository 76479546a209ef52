"""Runs a program to its end, with an error that carries the program's own words."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from cluster.errors import ClusterError


def run(
    argv: Sequence[str | Path],
    *,
    text: str | None = None,
    stdin: IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
    timeout: float = 1800,
) -> subprocess.CompletedProcess[str]:
    """Runs `argv`, captures what it prints, and raises with its last words when it fails."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=text,
            stdin=None if text is not None else stdin or subprocess.DEVNULL,
            env=env,
            cwd=cwd,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except FileNotFoundError as error:
        raise ClusterError(f"{words[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{shlex.join(words)[:300]} took over {timeout:.0f} s") from error
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip()[-3000:]
        raise ClusterError(f"{shlex.join(words)[:300]} ended with {done.returncode}:\n{said}")
    return done


PATIENCE = 600.0
"""Seconds after which what has not come is given up: a busy machine may be many times slower."""


def wait_for(
    what: str, ready: Callable[[], bool], *, timeout: float = PATIENCE, every: float = 0.1
) -> None:
    """Waits until `ready()` holds; the condition, not a sleep, decides how long."""
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(every)
