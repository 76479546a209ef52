"""Metrics of a gateway's answers; the pages /livez and /readyz, which need no key."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wan_runtime.serving.queue.errors import QueueAway

router = APIRouter(include_in_schema=False)


class Metrics:
    """Counters of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "wan_gateway_requests", "Number of answered requests.", ["method", "route", "status"],
            registry=self.registry,
        )  # fmt: skip

    def answered(self, method: str, route: str, status: int) -> None:
        """One request more. `route` is the template, never a path that clients choose."""
        self._requests.labels(method, route, str(status)).inc()

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)


class Count:
    """ASGI middleware that counts answers. Not Starlette's decorator: it reads bodies in a task of
    its own, where a refusal would be wrapped."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "unknown")
                self._metrics.answered(scope["method"], route, message["status"])
            await send(message)

        await self._app(scope, receive, counted)


@router.get("/livez")
async def livez() -> Response:
    """The process answers."""
    return Response("ok\n", media_type="text/plain")


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """The database answers too."""
    try:
        await request.app.state.gateway.queue.reach()
    except QueueAway as error:
        return Response(f"{error}\n", 503, media_type="text/plain")
    return Response("ok\n", media_type="text/plain")
