"""Adapters that are not ready, looked at again until a rank has said what they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any, cast

from wan_runtime.contract.base import Contract
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.report import AdapterNote
from wan_runtime.contract.service import AdapterSpec, AdapterUse, ServiceSpec
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InfrastructureError
from wan_runtime.models.adapters.applied import AppliedAdapter
from wan_runtime.models.adapters.files import AdapterFiles
from wan_runtime.serving.worker.adapter_recheck import Recheck
from wan_runtime.serving.worker.messages import Check, Checked
from wan_runtime.serving.worker.processes import Processes
from wan_runtime.serving.worker.rank import Channel, Opened, Rank
from wan_runtime.serving.worker.status import Status

SPEC = ServiceSpec.model_validate(
    {
        "namespace": "team",
        "name": "demo",
        "uid": "0123456789ab",
        "model": {"preset": "Wan2.1-I2V-Tiny", "path": "/model"},
        "store": {"endpoint": "http://store", "bucket": "wan"},
        "sizes": [{"width": 64, "height": 64}],
        "adapters": [{"name": "style", "files": {Expert.ONLY: "s3://wan/style.safetensors"}}],
    }
)


def bad(message: str = "it is torn") -> AdapterNote:
    return AdapterNote(name="style", ready=False, reason=Reason.MODEL_INVALID, message=message)


class Files:
    """Others once, as the store's are after they were mended."""

    def __init__(self, on_fetch: Callable[[], None] = lambda: None) -> None:
        self._looks, self._on_fetch = 0, on_fetch

    def renew(self, spec: AdapterSpec) -> bool:
        self._looks += 1
        return self._looks == 1

    def apply(self, spec: AdapterSpec, use: AdapterUse) -> AppliedAdapter:
        self._on_fetch()
        return AppliedAdapter(name=spec.name, files={}, strength=1)


class Gang:
    """Ranks that are asked, and say nothing of their own accord."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()

    def check(self, adapters: tuple[AppliedAdapter, ...]) -> None:
        self.asked.put_nowait(tuple(each.name for each in adapters))


@asynccontextmanager
async def at_work(files: Files, gang: Callable[[], Gang | None]) -> AsyncIterator[Recheck]:
    status = Status("w", SPEC, 1)
    status.note(bad())
    recheck = Recheck(SPEC, cast(AdapterFiles, files), status, pauses=(0, 0))
    ranks = cast(Callable[[], Processes | None], gang)
    task = asyncio.create_task(recheck.run(ranks, lambda: None))
    try:
        async with asyncio.timeout(60):
            yield recheck
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_what_is_not_answered_is_sent_again() -> None:
    gang, turns = Gang(), asyncio.Queue[None]()

    def turn() -> Gang:
        turns.put_nowait(None)
        return gang

    async with at_work(Files(), turn) as recheck:
        for _ in range(3):
            assert await gang.asked.get() == ("style",)
        recheck.answered([bad()])
        for each in (gang.asked, turns):
            while not each.empty():
                each.get_nowait()
        for _ in range(6):
            await turns.get()
        assert gang.asked.empty(), "it was looked at"


async def test_ranks_that_came_meanwhile_are_asked() -> None:
    old, new = Gang(), Gang()
    now = [old]
    async with at_work(Files(on_fetch=lambda: now.__setitem__(0, new)), lambda: now[0]):
        assert await new.asked.get() == ("style",)
    assert old.asked.empty()


def test_a_rank_tells_of_those_that_it_could_look_at() -> None:
    def again(use: AppliedAdapter) -> AdapterNote:
        if use.name == "style":
            raise InfrastructureError(Reason.DISK_FULL, "no room")
        return AdapterNote(name=use.name, ready=True)

    sent: list[Contract] = []
    opened: Any = SimpleNamespace(
        ranks=SimpleNamespace(rank=0), renderer=None, checks=SimpleNamespace(again=again)
    )
    uses = tuple(AppliedAdapter(name=name, files={}, strength=1) for name in ("style", "good"))
    tasks = iter((Check(adapters=uses), None))
    channel: Any = SimpleNamespace(
        tasks=lambda: SimpleNamespace(get=lambda: next(tasks)), send=sent.append
    )
    Rank(cast(Opened, opened), cast(Channel, channel)).run()
    assert sent == [Checked(rank=0, adapters=(AdapterNote(name="good", ready=True),))]
