"""Answers while the database does not admit the gateway: it lives, and serves nothing."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from wan_runtime.contract.reasons import NEEDS_SOMEBODY
from wan_runtime.serving.gateway.refusals import answer, refuses, silent

LIVE = "/livez"


class Unopened:
    """ASGI middleware. It answers for all that is behind it until `app.state.gateway` is there."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_open = scope["type"] != "http" or hasattr(scope["app"].state, "gateway")
        if is_open or scope["path"] == LIVE:
            await self._app(scope, receive, send)
            return
        faults = scope["app"].state.reporter.faults()
        lasts = any(each.reason in NEEDS_SOMEBODY for each in faults)
        await answer(refuses() if lasts else silent())(scope, receive, send)
