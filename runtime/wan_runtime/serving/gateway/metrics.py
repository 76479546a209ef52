"""Metrics of a gateway's answers; the pages /livez, /readyz and /health, which need no key."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, generate_latest

from wan_runtime.serving.queue.errors import QueueAway

router = APIRouter(include_in_schema=False)
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


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """The database answers too."""
    try:
        await request.app.state.gateway.queue.reach()
    except QueueAway as error:
        return Response(f"{error}\n", 503, media_type="text/plain")
    return Response("ok\n", media_type="text/plain")


@router.get("/health")
async def health(request: Request) -> Response:
    """Requests would work, as other video servers say under this name. Not for probes of the pod:
    a store that is away is away for all gateways, and they have better answers than none."""
    faults = request.app.state.gateway.reporter.faults()
    if faults:
        reasons = ", ".join(fault.reason for fault in faults)
        return Response(f"{reasons}\n", 503, media_type="text/plain")
    return await readyz(request)
