"""What a video would take, before it is requested."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from wan_runtime.serving.gateway.access import Access, access
from wan_runtime.serving.gateway.availability import refuse_faulty
from wan_runtime.serving.gateway.resolve import order_of
from wan_runtime.serving.gateway.sent import sent
from wan_runtime.serving.gateway.video_request import ESTIMATE, Ask, checked

router = APIRouter(prefix="/v1/videos", tags=["videos"])
ANY = "any"
"""A prompt in the place of none: what it says changes no time."""


class Estimate(BaseModel):
    """Estimate for the request as of now; other requests may be queued before it is sent."""

    object: str = "video.estimate"
    model: str
    size: str
    seconds: str
    frames: int
    steps: int
    predicted_seconds: float
    """Seconds of a worker's time."""
    queue_position: int
    """1: the next."""
    starts_in_seconds: float | None
    """None: no worker is ready, so nobody knows."""
    cost: float | None
    """Cost at the service's price for an hour of a worker; None if the service has no price."""


@router.post("/estimate", openapi_extra=ESTIMATE)
async def estimate(request: Request, caller: Annotated[Access, Depends(access)]) -> Estimate:
    """The fields of a video without its picture; the prompt may be missing. Nothing is queued."""
    async with sent(request) as (fields, _):
        ask = checked(Ask, fields)
    service = caller.gateway.service
    given = ask if ask.prompt.strip() else ask.model_copy(update={"prompt": ANY})
    order = order_of(given, service)
    refuse_faulty(order, service, caller.gateway.reporter.faulty_adapters())
    seconds = caller.gateway.predictor.seconds(order)
    place = await caller.queue.place_of_new(
        caller.owner, seconds=seconds, priority=caller.limit.priority
    )
    starts, price = place.starts_in_seconds, service.price_per_hour
    return Estimate(
        model=order.model,
        size=str(order.size),
        seconds=f"{(order.frames - 1) / order.fps:g}",
        frames=order.frames,
        steps=order.steps,
        predicted_seconds=round(seconds, 2),
        queue_position=place.position,
        starts_in_seconds=None if starts is None else round(starts, 1),
        cost=None if price is None else round(seconds / 3600 * price, 4),
    )
