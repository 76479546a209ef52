"""Nodes are looked at seldom, and nobody counts on room that somebody else has just taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from wan_operator import nodes
from wan_operator.errors import PermanentError
from wan_operator.kube import Kube
from wan_operator.nodes import FRESH_SECONDS, Nodes

Raw = dict[str, Any]
READY = [{"type": "Ready", "status": "True"}]
WORKER: Raw = {"containers": [{"resources": {"requests": {"nvidia.com/gpu": "1"}}}]}


def node(name: str, gpus: str = "2", **spec: Any) -> Raw:
    allocatable = {"pods": "110"} | ({"nvidia.com/gpu": gpus} if gpus else {})
    status = {"conditions": READY, "allocatable": allocatable}
    return {"metadata": {"name": name}, "spec": spec, "status": status}


class FakeKube:
    def __init__(self) -> None:
        self.nodes = [node("b"), node("a"), node("cordoned", unschedulable=True), node("cpu", "")]
        self.pods = {"a": [{"metadata": {"uid": "x"}, "spec": WORKER}], "b": []}
        self.error: Exception | None = None
        self.calls: list[str] = []

    async def list_nodes(self) -> AsyncIterator[Raw]:
        self.calls.append("nodes")
        await asyncio.sleep(0)
        for each in self.nodes:
            yield each

    async def list_pods_on(self, name: str) -> AsyncIterator[Raw]:
        self.calls.append(name)
        if self.error is not None:
            raise self.error
        for each in self.pods[name]:
            yield each


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


@pytest.fixture
def looked(kube: FakeKube) -> Nodes:
    return Nodes(cast(Kube, kube))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(nodes.time, "monotonic", lambda: now[0])
    return now


async def test_pods_are_asked_of_nodes_that_could_take_one(kube: FakeKube, looked: Nodes) -> None:
    room = await looked.room()
    assert kube.calls == ["nodes", "b", "a"]
    assert [each.name for each in room.nodes] == ["a", "b"]
    assert room.closed == 1
    assert room.after(WORKER, 9)[1] == 3


async def test_one_look_is_for_all_who_ask_meanwhile(
    kube: FakeKube, looked: Nodes, clock: list[float]
) -> None:
    await asyncio.gather(*(looked.room() for _ in range(5)))
    clock[0] += FRESH_SECONDS - 1
    await looked.room()
    assert kube.calls.count("nodes") == 1
    clock[0] += 1
    await looked.room()
    assert kube.calls.count("nodes") == 2


async def test_what_begins_takes_its_room_from_the_others(
    kube: FakeKube, looked: Nodes, clock: list[float]
) -> None:
    room = await looked.room()
    clock[0] += FRESH_SECONDS - 1
    looked.take(room.after(WORKER, 2)[0])
    clock[0] += FRESH_SECONDS - 1
    assert (await looked.room()).after(WORKER, 9)[1] == 1, "its pods may not be there yet"
    clock[0] += 1
    assert (await looked.room()).after(WORKER, 9)[1] == 3, "what is there counts"


async def test_rights_that_are_missing_are_an_answer(kube: FakeKube, looked: Nodes) -> None:
    kube.error = PermanentError("pods is forbidden", "Forbidden")
    assert not (await looked.room()).is_known
    assert kube.calls == ["nodes", "b"]


async def test_what_else_is_refused_is_an_error(kube: FakeKube, looked: Nodes) -> None:
    kube.error = PermanentError("field label not supported", "BadRequest")
    with pytest.raises(PermanentError):
        await looked.room()
