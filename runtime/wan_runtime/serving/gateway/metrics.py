"""Metrics of a gateway's answers; the pages /livez, /readyz and /health, which need no key."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, generate_latest

from wan_runtime.serving.queue.errors import QueueAway

router = APIRouter(include_in_schema=False)
STORE, DATABASE = "store", "database"
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""Values of the label `method`; any other text that a client sends as one is `other`."""


class Metrics:
    """Counters of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "wan_gateway_requests", "Number of answered requests.", ["method", "route", "status"],
            registry=self.registry,
        )  # fmt: skip

        self._unavailable = Counter(
            "wan_gateway_unavailable",
            "Number of requests that the store or the database refused or did not answer.",
            ["cause"],
            registry=self.registry,
        )
        for cause in (STORE, DATABASE):
            self._unavailable.labels(cause)  # at 0, so that the first one is an increase

    def unavailable(self, cause: str) -> None:
        """One request more that could not be served for want of `cause`."""
        self._unavailable.labels(cause).inc()

    def answered(self, method: str, route: str, status: int) -> None:
        """One request more. `route` is the template, never a path that clients choose."""
        self._requests.labels(method if method in METHODS else "other", route, str(status)).inc()

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)


@router.get("/livez")
async def livez() -> Response:
    """The process answers."""
    return Response("ok\n", media_type="text/plain")


@router.get("/health")
@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """The database answers too. /health is the name that other video servers give it."""
    try:
        await request.app.state.gateway.queue.reach()
    except QueueAway as error:
        return Response(f"{error}\n", 503, media_type="text/plain")
    return Response("ok\n", media_type="text/plain")
