"""Workers of two revisions on one queue: each renders by its own schedule, and says so."""

from __future__ import annotations

import io
import json
from typing import Any

import av
import pytest

from orders import sign
from wan_runtime.contract.sampling import SamplingSpec
from wan_runtime.contract.service import AdapterUse, Distilled
from wan_runtime.rendering.order import Choices, Job, State
from wan_runtime.serving.gateway.video_response import video
from worker_service import Service

pytest_plugins = ["worker_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def asked(service: Service, **chosen: Any) -> Job:
    """With the adapter, as a gateway queues it for whom it is plain."""
    template = await service.submit("good", steps=40, guidance=5.0, guidance_low=5.0)
    assert await service.queue.cancel(template.id, "ann")
    uses = (AdapterUse(name="good"),)
    made = await service.queue.submit(
        template.order, owner="ann", predicted_seconds=100, limit_seconds=1e9,
        choices=Choices(sampling=SamplingSpec(**chosen), adapters=uses),
    )  # fmt: skip
    return made.job


def written(service: Service, job: Job) -> dict[str, Any]:
    """What the mp4 says of itself."""
    with av.open(io.BytesIO(service.video(job))) as container:
        found: dict[str, Any] = json.loads(container.metadata["comment"])
    return found


async def test_each_worker_renders_by_its_own_schedule(video_service: Service) -> None:
    (good,) = video_service.spec.adapters
    schedule = Distilled(steps=2, shift=3.0)
    distilled = video_service.changed(adapters=(good.model_copy(update={"distilled": schedule}),))
    plain = video_service.changed(defaults=SamplingSpec(frames=5, steps=3, guidance=2.0))
    async with distilled.worker(revision="new"):
        quick = await distilled.completed(await asked(distilled))
        chosen = await distilled.end(await asked(distilled, steps=5))
    async with plain.worker(revision="old"):
        slow = await plain.completed(await asked(plain))
    assert chosen.state is State.FAILED
    assert chosen.problem is not None
    assert chosen.problem.code == "invalid_request"
    assert "5 contradicts adapter good, which was distilled for 2" in chosen.problem.message
    assert "the service was changed while the video waited" in chosen.problem.message
    for job, steps, shift, guidance in ((quick, 2, 3.0, 1.0), (slow, 3, 5.0, 2.0)):
        told, inside = video(job), written(distilled, job)
        assert (told.steps, told.shift, told.guidance) == (steps, shift, guidance)
        assert (inside["steps"], inside["shift"]) == (steps, shift)
        assert inside["guidance"] == [guidance, guidance]
        assert (told.quality, told.seed) == (inside["profile"].lower(), inside["seed"])
        assert job.rendered is not None
        assert (job.rendered.computed, job.rendered.gpus) == (steps, inside["gpus"])


async def test_what_one_revision_cannot_render_waits_for_the_other(
    video_service: Service,
) -> None:
    (good,) = video_service.spec.adapters
    schedule = Distilled(steps=2, shift=3.0)
    distilled = video_service.changed(adapters=(good.model_copy(update={"distilled": schedule}),))
    async with distilled.worker(revision="new"):
        await distilled.queue.alive(sign("old", ready=False, revision="old"))
        job = await asked(distilled, steps=5)
        quick = await distilled.completed(await asked(distilled))
        assert quick.order.steps == 2
        waiting = await distilled.queue.get(job.id)
        assert waiting is not None
        assert waiting.state is State.QUEUED
    async with video_service.worker(revision="old"):
        done = await video_service.completed(job)
    assert (done.order.steps, done.order.guidance) == (5, 2.0)
