"""Handing out what was made: through the gateway, or by a presigned URL."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from wan_runtime.rendering.order import Rendered
from wan_runtime.serving.gateway.refusals import answer
from wan_runtime.serving.gateway.requests import without_body
from wan_runtime.serving.gateway.state import Gateway
from wan_runtime.serving.problems import Code, Refusal
from wan_runtime.web import ranges


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
    suffix = key.rpartition(".")[2]
    headers = {
        "Content-Disposition": f'inline; filename="{name}.{suffix}"',
        "Cache-Control": "private, max-age=3600, immutable",
    }
    wanted, head = request.headers.get("range"), without_body(request.scope)
    found = ranges.served(store, info, wanted, headers, head=head)
    if found is None:
        text = f"{name} has {info.bytes} bytes: the Range begins behind them"
        found = answer(Refusal(Code.RANGE_NOT_SATISFIABLE, text))
        found.headers["Content-Range"] = f"bytes */{info.bytes}"
    return found
