"""`/v1/videos` as OpenAI's SDK calls it, with cancel and events beside it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from wan_runtime.rendering.order import Choices, Job, State, VideoOrder
from wan_runtime.serving import moderation
from wan_runtime.serving.gateway import (
    content,
    events,
    references,
    video_request,
    video_response,
    webhooks,
)
from wan_runtime.serving.gateway.access import Access, access
from wan_runtime.serving.gateway.availability import refuse_faulty
from wan_runtime.serving.gateway.body import too_large
from wan_runtime.serving.gateway.pictures import first_frame
from wan_runtime.serving.gateway.requests import without_body
from wan_runtime.serving.gateway.resolve import again, order_of, resolved
from wan_runtime.serving.gateway.sent import sent
from wan_runtime.serving.problems import Code, Refusal
from wan_runtime.serving.queue.errors import AfterUnknown, KeyReused, QueueFull
from wan_runtime.serving.queue.queue import new_job_id

router = APIRouter(prefix="/v1/videos", tags=["videos"])
Caller = Annotated[Access, Depends(access)]
POLL_AFTER_MS = "openai-poll-after-ms"
"""Header that OpenAI's SDK takes the time between two polls from."""
REPLAYED = "Idempotent-Replayed"
"""Header of an answer whose video an earlier request made."""


class Page(BaseModel):
    object: str = "list"
    data: list[video_response.Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(BaseModel):
    id: str
    object: str = "video.deleted"
    deleted: bool = True


@router.post("", openapi_extra=video_request.CREATE)
async def create(
    request: Request,
    response: Response,
    caller: Caller,
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
) -> video_response.Video:
    """Queue a video from a first frame and a prompt. Answers at once; see `eta_seconds`."""
    async with sent(request, picture=True) as (fields, upload):
        ask, reference = video_request.of_fields(fields, uploaded=upload is not None)
        data = None if upload is None else await upload.read()
    if data is None:
        data = await _referenced(reference, caller)
    if len(data) > caller.gateway.service.limits.upload_bytes:
        most = caller.gateway.service.limits.upload_bytes
        raise too_large("input_reference", most, "input_reference")
    digest = video_request.digest_of(ask, data)
    try:
        # Before all else: what the service has since lost changes nothing of what was queued.
        earlier = await caller.queue.earlier(caller.owner, idempotency_key, digest)
    except KeyReused:
        raise _reused() from None
    if earlier is not None:
        response.headers[REPLAYED] = "true"
        return await video_response.placed(caller.queue, earlier)
    made = resolved(ask, caller.gateway.service)
    job = await _submit(
        caller, made.order, data, idempotency_key, digest, choices=made.choices,
        webhook=ask.webhook_url, user=ask.user, response=response,
    )  # fmt: skip
    return await video_response.placed(caller.queue, job)


@router.get("")
async def page(
    caller: Caller,
    after: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=0, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> Page:
    """The key's videos by the time they were asked for."""
    try:
        found = await caller.queue.page(caller.owner, after=after, limit=limit, order=order)
    except AfterUnknown:
        raise Refusal(
            Code.INVALID_REQUEST, f"after: there is no video {after}", param="after"
        ) from None
    data = [video_response.video(job) for job in found.jobs]
    return Page(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=found.has_more,
    )


@router.post("/{video_id}/remix", openapi_extra=video_request.REMIX)
async def remix(
    video_id: str, request: Request, response: Response, caller: Caller
) -> video_response.Video:
    """The same first frame, seed and settings with another prompt."""
    async with sent(request) as (fields, _):
        change = video_request.checked(video_request.Remix, fields)
    source = await _job(caller, video_id)
    if source.state is not State.COMPLETED or source.rendered is None:
        raise await _not_ready(caller, source, "only a completed one remixes")
    ask = video_request.Ask(prompt=change.prompt, model=source.order.model)
    prompt = order_of(ask, caller.gateway.service).prompt
    files = source.rendered.files
    # Videos of earlier workers have the thumbnail only.
    key = files.get("first_frame", files["thumbnail"])
    data = await run_in_threadpool(caller.gateway.store.get_bytes, key)
    order, choices = again(source, prompt, caller.gateway.service)
    digest = hashlib.sha256(f"{video_id} {prompt}".encode()).hexdigest()
    job = await _submit(
        caller, order, data, None, digest, choices=choices, remixed_from=video_id,
        user=change.user, response=response,
    )  # fmt: skip
    return await video_response.placed(caller.queue, job)


@router.get("/{video_id}")
async def retrieve(video_id: str, response: Response, caller: Caller) -> video_response.Video:
    """One video."""
    job = await _job(caller, video_id)
    if not job.state.final:
        response.headers[POLL_AFTER_MS] = str(video_response.poll_after_ms(job))
    return await video_response.placed(caller.queue, job)


@router.delete("/{video_id}")
async def delete(video_id: str, caller: Caller) -> Deleted:
    """Forget a video: a queued or running one is cancelled, its files are removed."""
    if await caller.queue.delete(video_id, caller.owner) is None:
        raise _unknown(video_id)
    return Deleted(id=video_id)


@router.post("/{video_id}/cancel")
async def cancel(video_id: str, caller: Caller) -> video_response.Video:
    """Stop it: at once while it waits, at the next step while it runs. A finished one stays."""
    job = await caller.queue.cancel(video_id, caller.owner)
    if job is None:
        raise _unknown(video_id)
    return await video_response.placed(caller.queue, job)


@router.get("/{video_id}/content", response_class=Response)
async def download(
    video_id: str,
    request: Request,
    caller: Caller,
    variant: Literal["video", "thumbnail", "spritesheet"] = "video",
) -> Response:
    """The video (mp4), its first frame, or a sheet of frames. Ranges are served."""
    job = await _job(caller, video_id)
    if job.state is not State.COMPLETED or job.rendered is None:
        raise await _not_ready(caller, job, "it has no content")
    return await content.serve(caller.gateway, job.id, job.rendered, variant, request)


@router.get("/{video_id}/events", response_class=Response)
async def follow(video_id: str, request: Request, caller: Caller) -> Response:
    """Server-sent events: `video` with the whole object at each change, until the end."""
    job = await _job(caller, video_id)
    if without_body(request.scope):
        return Response(media_type=events.KIND, headers=events.HEADERS)
    return events.stream(caller.queue, job)


@router.post("/edits")
@router.post("/extensions")
@router.post("/characters")
async def not_supported(caller: Caller) -> video_response.Video:
    """Parts of OpenAI's API that image-to-video models have nothing for."""
    raise Refusal(
        Code.NOT_SUPPORTED, "Wan image-to-video models make no edits, extensions or characters"
    )


@router.get("/characters/{character_id}")
async def no_character(character_id: str, caller: Caller) -> video_response.Video:
    """There are none."""
    return await not_supported(caller)


async def _submit(
    caller: Access,
    order: VideoOrder,
    picture: bytes,
    key: str | None,
    digest: str,
    *,
    choices: Choices | None,
    response: Response,
    webhook: str | None = None,
    remixed_from: str | None = None,
    user: str | None = None,
) -> Job:
    """Check the picture, keep it, queue the job. The object is written first: a job in the queue
    always has its picture, and a picture without a job is swept."""
    gateway = caller.gateway
    limits = gateway.service.limits
    refuse_faulty(order, gateway.service, gateway.reporter.faulty_adapters())
    caller.count()
    if webhook is not None:
        await webhooks.check_receiver(webhook, gateway.webhook_secret, gateway.private_hosts)
    frame = await run_in_threadpool(first_frame, picture, order.size, limits.image_pixels)
    job_id = new_job_id()
    await moderation.check(gateway.service, moderation.Side.INPUT, job_id, order, [frame])
    image = f"{gateway.service.prefix}/videos/{job_id}/first-frame.png"
    await run_in_threadpool(gateway.store.put_bytes, image, frame, content_type="image/png")
    try:
        done = await caller.queue.submit(
            order.model_copy(update={"image": image}),
            owner=caller.owner,
            predicted_seconds=gateway.predictor.seconds(order),
            idempotency_key=key,
            request_digest=digest,
            limit_seconds=limits.queue_seconds,
            owner_limit=caller.limit.queued,
            priority=caller.limit.priority,
            remixed_from=remixed_from,
            webhook=webhook,
            user=user,
            job_id=job_id,
            choices=choices,
        )
    except QueueFull as full:
        await run_in_threadpool(gateway.store.delete, [image])
        raise Refusal(
            Code.QUEUE_FULL,
            f"{full}",
            retry_after=full.wait_seconds,
        ) from None
    except KeyReused:
        await run_in_threadpool(gateway.store.delete, [image])
        raise _reused() from None
    if done.repeated:
        await run_in_threadpool(gateway.store.delete, [image])
        response.headers[REPLAYED] = "true"
    return done.job


async def _referenced(reference: video_request.Reference | None, caller: Access) -> bytes:
    if reference is None or (reference.image_url is None and reference.file_id is None):
        text = "input_reference is missing: these models animate a picture, upload one"
        raise Refusal(Code.INVALID_REQUEST, text, param="input_reference")
    if reference.image_url is None:
        raise Refusal(
            Code.NOT_SUPPORTED, "input_reference.file_id: there is no files API here",
            param="input_reference.file_id",
        )  # fmt: skip
    return await references.read(reference.image_url, caller.gateway.service.limits)


async def _job(caller: Access, video_id: str) -> Job:
    job = await caller.queue.get(video_id, caller.owner)
    if job is None:
        raise _unknown(video_id)
    return job


async def _not_ready(caller: Access, job: Job, text: str) -> Refusal:
    """With the time until it is predicted to be completed, unless it never will."""
    eta = (await video_response.placed(caller.queue, job)).eta_seconds
    return Refusal(Code.NOT_READY, f"{job.id} is {job.state}: {text}", retry_after=eta)


def _unknown(video_id: str) -> Refusal:
    return Refusal(Code.NOT_FOUND, f"there is no video {video_id[:100]}", param="video_id")


def _reused() -> Refusal:
    return Refusal(
        Code.IDEMPOTENCY_KEY_REUSED,
        "this Idempotency-Key came with another request before: use a new one",
    )
