"""A key of a mounted Secret: its file follows every change, and nothing restarts."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def text(file: str | Path | None, otherwise: str) -> str:
    """What the file holds now; `otherwise` where none is mounted, or none can be read."""
    if file:
        with suppress(OSError):  # the kubelet has not mounted it, or replaces it
            return Path(file).read_text(errors="surrogateescape")
    return otherwise
