"""/metrics, /livez and /readyz: for the cluster, without a key."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wan_runtime.serving.queue.errors import QueueAway
from wan_runtime.serving.queue.queue import Queue

router = APIRouter(include_in_schema=False)


class Metrics:
    """Of one gateway; what it says of the queue is the same at every gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "wan_gateway_requests", "Requests answered.", ["method", "route", "status"],
            registry=self.registry,
        )  # fmt: skip
        self._jobs = Gauge(
            "wan_queue_jobs", "Jobs that wait or run.", ["state"], registry=self.registry
        )
        self._seconds = Gauge(
            "wan_queue_predicted_seconds", "Predicted seconds of the work that waits or runs.",
            registry=self.registry,
        )  # fmt: skip
        self._oldest = Gauge(
            "wan_queue_oldest_seconds", "Age of the oldest job that waits.", registry=self.registry
        )

    def answered(self, method: str, route: str, status: int) -> None:
        """One request more. `route` is the template, never a path that clients choose."""
        self._requests.labels(method, route, str(status)).inc()

    async def text(self, queue: Queue) -> bytes:
        """The exposition, with the queue as it is now."""
        backlog = await queue.backlog()
        self._jobs.labels("queued").set(backlog.queued)
        self._jobs.labels("running").set(backlog.running)
        self._seconds.set(backlog.predicted_seconds)
        self._oldest.set(backlog.oldest_seconds)
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


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    state: Any = request.app.state
    return Response(await state.metrics.text(state.gateway.queue), media_type=CONTENT_TYPE_LATEST)


@router.get("/livez")
async def livez() -> Response:
    """The process answers."""
    return Response("ok\n", media_type="text/plain")


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """The database answers too."""
    try:
        await request.app.state.gateway.queue.backlog()
    except QueueAway as error:
        return Response(f"{error}\n", 503, media_type="text/plain")
    return Response("ok\n", media_type="text/plain")
