"""Handing out what was made: through the gateway, or by a presigned URL."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from fastapi import Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, StreamingResponse

from wan_runtime.artifacts.store import Store
from wan_runtime.rendering.order import Job, State
from wan_runtime.serving.gateway.state import Gateway
from wan_runtime.serving.problems import Code, Refusal

CHUNK = 2**22
"""Bytes of one request to the store."""
TYPES = {"mp4": "video/mp4", "webp": "image/webp", "png": "image/png", "jpg": "image/jpeg"}


async def serve(gateway: Gateway, job: Job, variant: str, wanted: str | None) -> Response:
    """One file of a completed job; `wanted` is the request's Range header.

    Raises:
        Refusal: NOT_READY, NOT_FOUND, GONE.
    """
    if job.state is not State.COMPLETED or job.rendered is None:
        raise Refusal(Code.NOT_READY, f"{job.id} is {job.state}, it has no content")
    key = job.rendered.files.get(variant)
    if key is None:
        raise Refusal(Code.NOT_FOUND, f"{job.id} has no {variant}", param="variant")
    return await file(gateway, key, job.id, wanted)


async def file(gateway: Gateway, key: str, name: str, wanted: str | None) -> Response:
    """One object of the store, to be saved as `name`. Raises Refusal(GONE)."""
    store, results = gateway.store, gateway.service.results
    if not results.proxied:
        url = await run_in_threadpool(store.presigned, key, results.presigned_seconds)
        return RedirectResponse(url, 307)
    info = await run_in_threadpool(store.stat, key)
    if info is None:
        raise Refusal(Code.GONE, f"{name} is no longer kept")
    start, end = _range(wanted, info.bytes)
    suffix = key.rpartition(".")[2]
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - start),
        "Content-Disposition": f'inline; filename="{name}.{suffix}"',
        "Cache-Control": "private, max-age=3600, immutable",
        "X-Content-Type-Options": "nosniff",
    }
    partial = (start, end) != (0, info.bytes)
    if partial:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{info.bytes}"
    return StreamingResponse(
        _chunks(store, key, start, end),
        206 if partial else 200,
        headers,
        media_type=TYPES.get(suffix),
    )


async def _chunks(store: Store, key: str, start: int, end: int) -> AsyncIterator[bytes]:
    while start < end:
        data = await run_in_threadpool(store.get_range, key, start, min(CHUNK, end - start))
        if not data:
            return  # deleted meanwhile: the client sees fewer bytes than promised
        yield data
        start += len(data)


def _range(wanted: str | None, size: int) -> tuple[int, int]:
    """[start, end) of one `bytes=` range; everything for what is no such range (RFC 9110 14.2)."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", (wanted or "").strip())
    if match is None or not any(match.groups()):
        return 0, size
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    if int(first) >= size:
        return 0, size
    return int(first), min(size, int(last) + 1 if last else size)
