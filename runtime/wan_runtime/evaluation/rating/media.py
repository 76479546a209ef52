"""Videos and first frames of an item, from the store through the server. No name says whose they
are."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool

from wan_runtime.evaluation.rating.panel import Panel
from wan_runtime.evaluation.rating.plan import Item
from wan_runtime.web import ranges

FIRST_FRAME = "first-frame.png"
HEADERS = {"Cache-Control": "private, max-age=86400, immutable"}


async def media(panel: Panel, item: Item, name: str, request: Request) -> Response | None:
    """`first-frame.png`, `0.mp4` or, of a pair, `1.mp4`; or the range of it that is requested. None
    for what is not there, or is another video by now."""
    side = next((each for at, each in enumerate(item.sides) if name == f"{at}.mp4"), None)
    if side is None and name != FIRST_FRAME:
        return None
    uri = f"{panel.frames}{item.clip.first_frame}" if side is None else side.video.uri
    store, key = panel.store.for_uri(uri), panel.store.parse(uri)[1]
    info = await run_in_threadpool(store.stat, key)
    if info is None or (side is not None and info.bytes != side.video.bytes):
        return None  # videos that were there before are not ours: somebody may have changed them
    found = ranges.served(store, info, request.headers.get("range"), HEADERS, head=False)
    return found or Response(None, 416, {"Content-Range": f"bytes */{info.bytes}"})
