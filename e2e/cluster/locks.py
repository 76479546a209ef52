"""Work that is done once where several commands want it at the same time."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.layout import cache_dir
from cluster.progress import say


@contextmanager
def alone(work: str) -> Iterator[None]:
    """One command on this machine at a time; the others wait, and say what for.

    What the first of them made is there for the others: look again once it is held.
    """
    path = cache_dir() / "locks" / hashlib.sha256(work.encode()).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another command works on {work}; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
