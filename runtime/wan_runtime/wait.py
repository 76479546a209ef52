"""Waiting for an event, but not for ever."""

from __future__ import annotations

import asyncio
import contextlib


async def within(seconds: float, event: asyncio.Event) -> None:
    """Until the event, or the time is over.

    Not by `asyncio.wait_for`: until Python 3.12 a cancellation that meets the event is lost
    (https://github.com/python/cpython/issues/86296), and what was cancelled waits on.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
