"""The one exception that a command turns into a message and exit code 1."""

from __future__ import annotations

from pathlib import Path


class ClusterError(Exception):
    """Something a person has to know; the text says what failed and where to look."""


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, so that an error shows its cause and not only a file name."""
    if not log.exists():
        return f"{log}: no such file"
    with log.open("rb") as stream:
        stream.seek(0, 2)
        stream.seek(max(0, stream.tell() - 64 * 1024))
        text = stream.read().decode(errors="replace")
    shown = "\n".join(f"  | {line[:400]}" for line in text.splitlines()[-lines:])
    return f"last lines of {log}:\n{shown}"
