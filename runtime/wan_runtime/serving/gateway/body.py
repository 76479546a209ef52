"""A cap on the bytes of a request, kept while they arrive: nothing larger is ever held."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wan_runtime.serving.gateway.refusals import answer
from wan_runtime.serving.problems import Code, Refusal


class Limit:
    """ASGI middleware that answers 413."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._most:
            return await answer(self._refusal())(scope, receive, send)
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                raise self._refusal()
            return message

        return await self._app(scope, counted, send)

    def _refusal(self) -> Refusal:
        return Refusal(Code.TOO_LARGE, f"the request has more than {self._most} bytes")
