"""A cap on the bytes of a request, kept while they arrive: nothing larger is ever held."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wan_runtime.serving.gateway.refusals import answer
from wan_runtime.serving.problems import Code, Refusal

ROOM = 2**20
"""Bytes that a form may have around its picture."""


class Limit:
    """ASGI middleware that answers 413. `picture`: bytes of the largest picture that the service
    takes."""

    def __init__(self, app: ASGIApp, picture: int) -> None:
        self._app, self._picture = app, picture
        # Base64 makes it larger by a third.
        self._most = picture * 4 // 3 + ROOM

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
        return too_large("the request", self._picture)


def too_large(what: str, most: int, param: str | None = None) -> Refusal:
    """Refusal of what holds a picture of more than `most` bytes, the service's limit."""
    text = f"{what} is too large: this service takes pictures of up to {most / 2**20:g} MiB"
    return Refusal(Code.TOO_LARGE, text, param=param)
