"""Threads for work that waits on the network or decodes outside the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def in_order(
    action: Callable[[Item], Outcome], items: Iterable[Item], *, threads: int
) -> Iterator[Outcome]:
    """`action` of each item, in the order of the items.

    The first error comes out at its item's turn. It, or leaving early, drops what has not begun and
    does not wait for what has: a step that is told to stop must not sit out a transfer.
    """
    pool = ThreadPoolExecutor(threads)
    try:
        yield from pool.map(action, items)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
