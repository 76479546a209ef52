"""How a job looks to clients: OpenAI's video object with our fields beside it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from wan_runtime.rendering.order import Job, Stage, State
from wan_runtime.serving.problems import Code
from wan_runtime.serving.queue.queue import Queue

STATUS = {
    State.QUEUED: "queued",
    State.RUNNING: "in_progress",
    State.COMPLETED: "completed",
    State.FAILED: "failed",
    # OpenAI's clients wait for one of the four: a cancelled job has failed, with its own code.
    State.CANCELLED: "failed",
}
SHORTEST_POLL, LONGEST_POLL = 1.0, 5.0
"""Seconds."""
DENOISED = 90
"""Per cent of progress when the last step is done: decoding and writing are the rest."""


class VideoFault(BaseModel):
    code: str
    message: str


class WebhookDelivery(BaseModel):
    """What became of a video's webhook."""

    url: str
    attempts: int = 0
    """Number of times that it was sent; 0 until the video has ended."""
    delivered_at: int | None = None
    failed_at: int | None = None
    failure: str | None = None
    """Why the receiver did not take it, the last time that it did not."""
    next_at: int | None = None
    """When it is sent again. Null after a failure: it is given up."""


class Video(BaseModel):
    """A video on its way or done."""

    id: str
    object: str = "video"
    model: str
    status: str
    progress: int
    """Per cent."""
    created_at: int
    """Unix seconds, as all times here."""
    completed_at: int | None = None
    expires_at: int | None = None
    size: str
    seconds: str
    prompt: str
    remixed_from_video_id: str | None = None
    user: str | None = None
    """End user, as the request named it."""
    error: VideoFault | None = None

    stage: str | None = None
    step: int | None = None
    steps: int
    eta_seconds: float | None = None
    """Until it is completed."""
    queue_position: int | None = None
    """1: the next."""
    started_at: int | None = None
    frames: int
    fps: float
    seed: int
    guidance: float
    guidance_low: float
    shift: float
    quality: str | None = None
    """As the request chose it; null: the service's own. Of a completed video, what it was rendered
    with."""
    negative_prompt: str
    adapters: list[dict[str, Any]]
    predicted_seconds: float
    timings: dict[str, float] | None = None
    """Seconds of each stage."""
    bytes: int | None = None
    sha256: str | None = None
    attempts: int
    webhook: WebhookDelivery | None = None


def video(job: Job, *, position: int | None = None, starts_in: float | None = None) -> Video:
    """`position` and `starts_in` of a queued job, where they are known."""
    order, advance, rendered = job.order, job.advance, job.rendered
    running = job.state is State.RUNNING
    profile = (rendered.profile if rendered is not None else None) or order.profile
    return Video(
        id=job.id,
        model=order.model,
        status=STATUS[job.state],
        progress=progress(job),
        created_at=int(job.created_at.timestamp()),
        started_at=_seconds(job.started_at),
        completed_at=_seconds(job.completed_at),
        expires_at=_seconds(job.expires_at),
        size=str(order.size),
        seconds=f"{(order.frames - 1) / order.fps:g}",
        prompt=order.prompt,
        remixed_from_video_id=job.remixed_from,
        user=job.user,
        error=_fault(job),
        stage=advance.stage if running and advance is not None else None,
        step=advance.step if running and advance is not None else None,
        steps=order.steps,
        eta_seconds=eta(job, starts_in),
        queue_position=position,
        frames=order.frames,
        fps=order.fps,
        seed=order.seed,
        quality=profile and profile.lower(),
        guidance=order.guidance,
        guidance_low=order.guidance_low,
        shift=order.shift,
        negative_prompt=order.negative_prompt,
        adapters=[use.model_dump(mode="json", exclude_none=True) for use in order.adapters],
        predicted_seconds=round(job.predicted_seconds, 2),
        timings=None if rendered is None else {str(k): v for k, v in rendered.seconds.items()},
        bytes=None if rendered is None else rendered.bytes,
        sha256=None if rendered is None else rendered.sha256,
        attempts=job.attempts,
        webhook=_webhook(job),
    )


async def placed(queue: Queue, job: Job) -> Video:
    """With its place in the queue, where it waits."""
    if job.state is not State.QUEUED:
        return video(job)
    place = await queue.place(job.id)
    return video(job, position=place.position, starts_in=place.starts_in_seconds)


def poll_after_ms(job: Job) -> int:
    """Milliseconds between two polls: a twentieth of the seconds that the video itself takes. The
    same at every poll, since OpenAI's SDK goes by that of the first until the end."""
    return round(1000 * min(LONGEST_POLL, max(SHORTEST_POLL, job.predicted_seconds / 20)))


def progress(job: Job) -> int:
    """Per cent; never 100 before the job is completed."""
    if job.state is State.COMPLETED:
        return 100
    if job.state is not State.RUNNING or job.advance is None:
        return 0
    if job.advance.stage in (Stage.DECODING, Stage.WRITING):
        return DENOISED if job.advance.stage is Stage.DECODING else 97
    if job.advance.stage is Stage.DENOISING and job.advance.steps:
        return max(1, DENOISED * job.advance.step // job.advance.steps)
    return 1


def eta(job: Job, starts_in: float | None) -> float | None:
    """Seconds until the job is completed."""
    if job.state is State.RUNNING:
        known = None if job.advance is None else job.advance.eta_seconds
        return round(job.predicted_seconds if known is None else known, 1)
    if job.state is State.QUEUED and starts_in is not None:
        return round(starts_in + job.predicted_seconds, 1)
    return None


def _webhook(job: Job) -> WebhookDelivery | None:
    if job.webhook is None:
        return None
    if job.delivery is None:
        return WebhookDelivery(url=job.webhook)
    return WebhookDelivery(
        url=job.webhook,
        attempts=job.delivery.attempts,
        delivered_at=_seconds(job.delivery.delivered_at),
        failed_at=_seconds(job.delivery.failed_at),
        failure=job.delivery.failure,
        next_at=_seconds(job.delivery.next_at),
    )


def _seconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp())


def _fault(job: Job) -> VideoFault | None:
    if job.state is State.CANCELLED:
        return VideoFault(code=Code.CANCELLED, message="cancelled on request")
    if job.problem is None:
        return None
    return VideoFault(code=job.problem.code, message=job.problem.message)
