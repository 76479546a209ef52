"""Handing out what was made: through the gateway, or by a presigned URL."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, StreamingResponse

from wan_runtime.artifacts.store import Store
from wan_runtime.rendering.order import Rendered
from wan_runtime.serving.gateway.refusals import answer
from wan_runtime.serving.gateway.requests import without_body
from wan_runtime.serving.gateway.state import Gateway
from wan_runtime.serving.problems import Code, Refusal

CHUNK = 2**22
"""Bytes of one request to the store."""
TYPES = {"mp4": "video/mp4", "webp": "image/webp", "png": "image/png", "jpg": "image/jpeg"}


async def serve(
    gateway: Gateway, video_id: str, rendered: Rendered, variant: str, request: Request
) -> Response:
    """One file of a completed video. Raises Refusal(NOT_FOUND), Refusal(GONE)."""
    key = rendered.files.get(variant)
    if key is None:
        raise Refusal(Code.NOT_FOUND, f"{video_id} has no {variant}", param="variant")
    return await file(gateway, key, video_id, request)


async def file(gateway: Gateway, key: str, name: str, request: Request) -> Response:
    """One object of the store, or the `Range` of it that is requested, to be saved as `name`.
    Raises Refusal(GONE)."""
    store, results = gateway.store, gateway.service.results
    if not results.proxied:
        url = await run_in_threadpool(store.presigned, key, results.presigned_seconds)
        return RedirectResponse(url, 307)
    info = await run_in_threadpool(store.stat, key)
    if info is None:
        raise Refusal(Code.GONE, f"{name} is no longer kept")
    head = without_body(request.scope)
    # RFC 9110 14.2: a range is of GET alone.
    span = _range(None if head else request.headers.get("range"), info.bytes)
    if span is None:
        text = f"{name} has {info.bytes} bytes: the Range begins behind them"
        refused = answer(Refusal(Code.RANGE_NOT_SATISFIABLE, text))
        refused.headers["Content-Range"] = f"bytes */{info.bytes}"
        return refused
    start, end = span
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
    if head:
        return Response(None, 200, headers, TYPES.get(suffix))
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


def _range(wanted: str | None, size: int) -> tuple[int, int] | None:
    """[start, end) of one `bytes=` range; everything for what is no such range (RFC 9110 14.1.2);
    None for one that has no byte of `size`."""
    match = re.fullmatch(r"bytes=([0-9]*)-([0-9]*)", (wanted or "").strip())
    if match is None or not any(match.groups()):
        return 0, size
    first, last = (_number(digits, size) for digits in match.groups())
    if first is None:
        assert last is not None
        return (size - last, size) if last and size else None
    if first >= size:
        return None
    if last is not None and last < first:
        return 0, size
    return first, size if last is None else min(size, last + 1)


def _number(digits: str, most: int) -> int | None:
    """The number, or `most` if it is larger; None for no digits. Python reads no number of
    thousands of them."""
    if not digits:
        return None
    digits = digits.lstrip("0")
    return min(most, int(digits or "0")) if len(digits) < 19 else most
