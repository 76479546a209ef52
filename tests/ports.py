"""Ports of loopback for servers of tests that start later."""

from __future__ import annotations

import atexit
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import cycle, islice


def free_port() -> int:
    """A TCP port that nobody listens on, and that nobody but this process chooses or is given until
    whoever is to listen does: that may take as long as the imports of torch."""
    for port in islice(_own_ports(), 250):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port
    raise AssertionError("all ports are taken")


@cache
def _own_ports() -> Iterator[int]:
    """Of this process alone, without end. They are below those that the kernel gives to clients and
    to whoever binds to port 0."""
    for first in range(20_000, 30_000, 250):
        held = socket.socket()
        try:
            held.bind(("127.0.0.1", first))
        except OSError:  # by another process that runs tests
            held.close()
            continue
        atexit.register(held.close)
        return cycle(range(first + 1, first + 250))
    raise AssertionError("too many processes run tests")
