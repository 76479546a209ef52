"""Pages of pods, read from a pod that may say anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from pydantic import BaseModel

from wan_operator import pages
from wan_operator.kinds import FINETUNE
from wan_runtime.contract.job import Progress

SAID = Progress(step_id="train", activity="training", current=1, total=9)
Ask = Callable[[], Awaitable[dict[str, BaseModel]]]


@asynccontextmanager
async def pod(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ask]:
    """A pod that answers so, and what asks it."""
    app = web.Application()
    app.router.add_get("/{path}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setattr(pages, "PROGRESS_PORT", runner.addresses[0][1])
    assert FINETUNE.page is not None
    async with aiohttp.ClientSession() as http:
        page = FINETUNE.page
        yield lambda: pages.ask(http, page, {"train": "127.0.0.1"})
        await runner.cleanup()
        assert await pages.ask(http, page, {"train": "127.0.0.1"}) == {}, "nobody listens"


async def test_an_answer_in_pieces_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        text = SAID.model_dump_json(by_alias=True).encode()
        for piece in (text[:10], text[10:]):
            await response.write(piece)
            await asyncio.sleep(0.02)  # two packets, not one
        return response

    async with pod(answer, monkeypatch) as ask:
        assert await ask() == {"train": SAID}


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, ""), (200, "not json"), (200, '{"stepId": 1}'), (200, "x" * 100_000)],
)
async def test_a_pod_that_talks_nonsense_is_no_error(
    status: int, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body, status=status)

    async with pod(answer, monkeypatch) as ask:
        assert await ask() == {}


async def test_a_longer_answer_than_allowed_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=SAID.model_dump_json(by_alias=True) + " " * 100_000)

    async with pod(answer, monkeypatch) as ask:
        assert await ask() == {}


async def test_a_pod_cannot_send_the_operator_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path == "/progress":
            raise web.HTTPFound("/elsewhere")
        return web.Response(text=SAID.model_dump_json(by_alias=True))

    async with pod(answer, monkeypatch) as ask:
        assert await ask() == {}
    assert asked == ["/progress"]
