"""Small orders of videos, and queues of them."""

from __future__ import annotations

import asyncpg

from wan_runtime.contract.report import WorkerInfo
from wan_runtime.contract.service import Size
from wan_runtime.rendering.order import Job, Rendered, Stage, VideoOrder
from wan_runtime.serving.queue.database import SETTINGS
from wan_runtime.serving.queue.queue import Queue

PREFIX = "lab/team/wan"


def order(prompt: str = "a fairy waves", image: str | None = None) -> VideoOrder:
    """Of 17 small frames."""
    return VideoOrder(
        prompt=prompt,
        negative_prompt="",
        size=Size(width=64, height=64),
        frames=17,
        fps=16,
        steps=4,
        guidance=5,
        guidance_low=5,
        shift=5,
        seed=7,
        model="wan",
        image=image,
    )


def rendered(key: str = "videos/x/video.mp4") -> Rendered:
    """What a worker leaves."""
    return Rendered(
        files={"video": key}, bytes=1000, sha256="0" * 64, seconds={Stage.DENOISING: 2.5}
    )


def sign(worker: str, *, ready: bool = True, revision: str = "") -> WorkerInfo:
    """A worker's sign of life."""
    return WorkerInfo(name=worker, ready=ready, ranks=1, revision=revision)


async def submitted(
    queue: Queue,
    owner: str = "ann",
    seconds: float = 60.0,
    *,
    priority: int = 0,
    image: str | None = None,
    webhook: str | None = None,
) -> Job:
    """A new job, whatever waits already."""
    answer = await queue.submit(
        order(image=image),
        owner=owner,
        predicted_seconds=seconds,
        limit_seconds=1e9,
        priority=priority,
        webhook=webhook,
    )
    assert not answer.repeated
    return answer.job


async def claimed(queue: Queue, worker: str = "w1", lease_seconds: float = 30) -> Job:
    """The next job, which must be there."""
    job = await queue.claim(worker, lease_seconds)
    assert job is not None
    return job


async def found(queue: Queue, job_id: str) -> Job:
    """The job as it is now."""
    job = await queue.get(job_id)
    assert job is not None
    return job


async def sql(url: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
    """Rows of a statement on a connection of its own."""
    connection = await asyncpg.connect(url, server_settings=SETTINGS)
    try:
        return await connection.fetch(statement, *arguments)
    finally:
        await connection.close()


async def fill(url: str, service: str = "team/wan") -> None:
    """10,000 finished jobs and 1,000 queued ones of 20 owners, by one statement: as many
    submissions would take a while."""
    await sql(
        url,
        """
        insert into jobs (id, service, owner, priority, "order", predicted_seconds, state,
            expires_at)
        select 'video_' || n, $2, 'o' || n % 20, 0, $1, 60,
            case when n <= 10000 then 'completed' else 'queued' end,
            case when n <= 10000 then now() + interval '7 days' end
        from generate_series(1, 11000) n
        """,
        order().model_dump_json(by_alias=True),
        service,
    )
    await sql(url, "vacuum analyze jobs")
