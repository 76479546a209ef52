"""Server-sent events of one job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse

from wan_runtime.rendering.order import Job
from wan_runtime.serving.gateway import video_response
from wan_runtime.serving.queue.queue import Queue

KIND = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
KEEP_ALIVE = 15.0
"""Seconds of silence after which a comment is sent, so that no proxy takes the line for dead."""


def stream(queue: Queue, job: Job) -> StreamingResponse:
    """`event: video` with the whole object: now, at each change, and for the last time at the end.
    A client that lost the line asks again and misses nothing."""
    return StreamingResponse(_events(queue, job), media_type=KIND, headers=HEADERS)


async def _events(queue: Queue, job: Job) -> AsyncIterator[str]:
    changes = aiter(queue.watch(job.id))
    waiting = asyncio.ensure_future(anext(changes, None))
    try:
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=KEEP_ALIVE)
            if not done:
                yield ": still here\n\n"
                continue
            changed = waiting.result()
            if changed is None:
                return
            yield await _event(queue, changed)
            waiting = asyncio.ensure_future(anext(changes, None))
    finally:
        waiting.cancel()


async def _event(queue: Queue, job: Job) -> str:
    found = await video_response.placed(queue, job)
    return f"event: video\ndata: {found.model_dump_json()}\n\n"
