"""Threads for work that waits on the network or decodes outside the interpreter's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from wan_runtime import heartbeat


def cores() -> set[int]:
    """Processors that this process may use."""
    return os.sched_getaffinity(0)


Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def in_order(
    action: Callable[[Item], Outcome], items: Iterable[Item], *, threads: int
) -> Iterator[Outcome]:
    """`action` of each item, in the order of the items, at most `threads` of them ahead of the
    consumer: `items` may be made as they are needed, and results may be large.

    The first error comes out at its item's turn. It, or leaving early, drops what has not begun and
    does not wait for what has: a step that has to stop must not sit out a transfer.
    """
    pool = ThreadPoolExecutor(threads)
    try:
        ahead = deque[Future[Outcome]]()
        for item in items:
            ahead.append(pool.submit(action, item))
            if len(ahead) > threads:
                yield _result(ahead.popleft())
        while ahead:
            yield _result(ahead.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _result(done: Future[Outcome]) -> Outcome:
    result = done.result()
    heartbeat.beat()
    return result
