"""A stored object, or the `Range` of it that is requested, as a response."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping

from fastapi import Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from wan_runtime.artifacts.store import ObjectInfo, Store

CHUNK = 2**22
"""Bytes of one request to the store."""
TYPES = {"mp4": "video/mp4", "webp": "image/webp", "png": "image/png", "jpg": "image/jpeg"}


def served(
    store: Store, info: ObjectInfo, wanted: str | None, headers: Mapping[str, str], *, head: bool
) -> Response | None:
    """The object, or the range of it that the header `wanted` states. None for a range that begins
    behind its end. `head`: the headers alone."""
    # RFC 9110 14.2: a range is of GET alone.
    found = span(None if head else wanted, info.bytes)
    if found is None:
        return None
    start, end = found
    media_type = TYPES.get(info.key.rpartition(".")[2])
    sent = {
        **headers,
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - start),
        "X-Content-Type-Options": "nosniff",
    }
    partial = found != (0, info.bytes)
    if partial:
        sent["Content-Range"] = f"bytes {start}-{end - 1}/{info.bytes}"
    if head:
        return Response(None, 200, sent, media_type)
    body = _chunks(store, info.key, start, end)
    return StreamingResponse(body, 206 if partial else 200, sent, media_type=media_type)


async def _chunks(store: Store, key: str, start: int, end: int) -> AsyncIterator[bytes]:
    while start < end:
        data = await run_in_threadpool(store.get_range, key, start, min(CHUNK, end - start))
        if not data:
            return  # deleted meanwhile: the client sees fewer bytes than promised
        yield data
        start += len(data)


def span(wanted: str | None, size: int) -> tuple[int, int] | None:
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
