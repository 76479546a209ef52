"""The queue and the service file of an earlier commit are gone on from."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

import written_before
from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from orders import rendered
from postgres import Postgres
from running_gateway import RunningGateway
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.rendering.order import Job, State, VideoOrder
from wan_runtime.serving.queue import upkeep
from wan_runtime.serving.queue.database import SETTINGS
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.webhook_secret import WebhookSecret

STABLE, CANARY = "a1b2c3", "d4e5f6"


def service_files(end: str = "") -> list[str]:
    """As gateways and workers of all recorded services mount them: those of ConfigMaps whose names
    end so."""
    return [
        each["object"]["data"]["service.json"]
        for state in written_before.read("services").values()
        for each in state["objects"]
        if "service.json" in each["object"].get("data", {}) and each["name"].endswith(end)
    ]


def spec() -> ServiceSpec:
    """The service whose queue it is."""
    (text,) = (each for each in service_files("-gateway") if "anime-fairy-lora" in each)
    return ServiceSpec.model_validate_json(text)


def by_prompt() -> dict[str, Any]:
    """The jobs as the old queue returned them."""
    return {each["order"]["prompt"]: each for each in written_before.read("queue")["jobs"] if each}


@pytest_asyncio.fixture
async def url(postgres: Postgres) -> str:
    """Of a database as the old release left it."""
    made = postgres.create(f"w{uuid4().hex}")
    connection = await asyncpg.connect(made)
    try:
        await connection.execute(written_before.dump())
    finally:
        await connection.close()
    return made


@pytest_asyncio.fixture
async def written(url: str) -> AsyncIterator[Queue]:
    opened = await Queue.of(spec(), url)
    yield opened
    await opened.close()


def test_service_files_come_out_as_they_were_written() -> None:
    """Their text makes the name of a revision: another one would replace all workers."""
    files = service_files()
    assert len(files) == 9
    for text in files:
        made = ServiceSpec.model_validate_json(text)
        assert made.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n" == text


async def test_jobs_are_what_they_were(written: Queue) -> None:
    for before in by_prompt().values():
        job = await written.get(before["id"])
        assert job is not None
        found = json.loads(job.model_dump_json(by_alias=True))
        assert before.pop("order").items() <= found.pop("order").items()
        rendered_before, rendered_now = before.pop("rendered"), found.pop("rendered")
        assert (rendered_before or {}).items() <= (rendered_now or {}).items()
        assert before.items() <= found.items()


async def test_workers_go_on_with_them(written: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "GRACE_SECONDS", 0)
    ids = {prompt: job["id"] for prompt, job in by_prompt().items()}
    assert await written.reap() == 3
    stopped = await written.get(ids["stopping"])
    assert stopped is not None
    assert stopped.state is State.CANCELLED
    tried = await claim_all(written, CANARY)
    assert [job.order.prompt for job in tried] == ["canary"]
    jobs = await claim_all(written, STABLE)
    assert [job.order.prompt for job in jobs] == ["other owner", "lost", "handed back", "remixed"]
    assert [job.attempts for job in jobs] == [1, 2, 2, 1]
    assert await written.complete(jobs[0].id, STABLE, rendered())
    report = await written.report()
    assert (report.queue.queued, report.queue.running) == (0, 4)
    assert (report.rollout.canary, report.rollout.number) == (CANARY, 2)
    due = [await written.next_webhook(), await written.next_webhook()]
    assert [each and each.job.id for each in due] == [ids["completed"], ids["failed"]]
    keys = await written.rubbish(100)
    assert f"{spec().prefix}/videos/{ids['failed']}/" in keys
    assert await written.expire() == 0


async def claim_all(queue: Queue, revision: str) -> list[Job]:
    """What a worker of a revision is given."""
    jobs = []
    while (job := await queue.claim(revision, 30, revision)) is not None:
        jobs.append(job)
    return jobs


def test_a_gateway_lists_them(
    url: str, server: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    before = by_prompt()
    service = spec()
    store = service.store.model_copy(update={"endpoint": server.endpoint})
    service = service.model_copy(update={"store": store})
    (tmp_path / "keys").mkdir()
    with (
        RunningGateway(service, url, tmp_path / "keys", WebhookSecret(), 10) as gateway,
        gateway.http("app") as http,
    ):
        gateway.store.put_bytes(before["completed"]["rendered"]["files"]["video"], b"mp4" * 100)
        listed = http.get("/v1/videos?limit=100&order=asc").json()["data"]
        owned = [each["id"] for each in before.values() if each["owner"] == "app"]
        assert [each["id"] for each in listed] == owned
        status = {each["id"]: each["status"] for each in listed}
        for prompt in ("completed", "failed"):
            assert status[before[prompt]["id"]] == prompt
        failed = http.get(f"/v1/videos/{before['failed']['id']}").json()
        assert failed["error"]["code"] == "out_of_memory"
        video = http.get(f"/v1/videos/{before['completed']['id']}/content")
        assert video.content == b"mp4" * 100


async def test_workers_of_the_release_before_read_what_is_written(url: str, written: Queue) -> None:
    """A request that chooses nothing new has no new field, which they would refuse."""
    before = next(iter(by_prompt().values()))["order"]
    order = VideoOrder.model_validate(before)
    await written.submit(order, owner="ann", predicted_seconds=1, limit_seconds=1e9)
    connection = await asyncpg.connect(url, server_settings=SETTINGS)
    try:
        text = await connection.fetchval(
            'select "order" from jobs order by created_at desc limit 1'
        )
    finally:
        await connection.close()
    assert json.loads(text).keys() <= before.keys()
