"""One active replica: who leads, and when a leader gives up."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from unit.controller.world import SETTINGS
from wan_operator import lease as lease_module
from wan_operator.errors import TransientError
from wan_operator.kube import Kube
from wan_operator.lease import Lease, LeaseLostError

Raw = dict[str, Any]


class LeaseStore:
    """The one Lease, with the API server's refusals."""

    def __init__(self) -> None:
        self.lease: Raw | None = None
        self.version = 0
        self.away = False

    async def get_lease(self, namespace: str, name: str) -> Raw | None:
        if self.away:
            raise TransientError("away")
        return copy.deepcopy(self.lease)

    async def put_lease(self, lease: Raw) -> Raw:
        if self.away:
            raise TransientError("away")
        held = self.lease["metadata"].get("resourceVersion") if self.lease else None
        if lease["metadata"].get("resourceVersion") != held:
            raise TransientError("conflict", reason="Conflict")
        self.version += 1
        made = copy.deepcopy(lease)
        made["metadata"]["resourceVersion"] = str(self.version)
        self.lease = made
        return copy.deepcopy(made)


def candidate(store: LeaseStore, name: str) -> Lease:
    from dataclasses import replace

    return Lease(cast(Kube, store), replace(SETTINGS, identity=name, lease_seconds=15))


async def test_one_leads_and_the_other_follows_when_it_leaves() -> None:
    store = LeaseStore()
    first, second = candidate(store, "a"), candidate(store, "b")
    await first.acquire()
    assert not await second._attempt()
    await first.release()
    assert await second._attempt(), "at once"
    assert store.lease is not None
    assert store.lease["spec"]["holderIdentity"] == "b"


class CutShort(LeaseStore):
    """Writes whose answers never come. What was written is there at once, or `arrives_late`: just
    before the next write."""

    def __init__(self, arrives_late: bool) -> None:
        super().__init__()
        self.arrives_late = arrives_late
        self.hangs = False
        self.late: Raw | None = None

    async def put_lease(self, lease: Raw) -> Raw:
        if self.late is not None:
            late, self.late = self.late, None
            await super().put_lease(late)
        if not self.hangs:
            return await super().put_lease(lease)
        if self.arrives_late:
            self.late = lease
        else:
            await super().put_lease(lease)
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize(("leads", "arrives_late"), [(True, False), (True, True), (False, False)])
async def test_a_write_that_is_cut_short_does_not_keep_the_lease(
    leads: bool, arrives_late: bool
) -> None:
    store = CutShort(arrives_late)
    first, second = candidate(store, "a"), candidate(store, "b")
    await (first if leads else second).acquire()
    if not leads:
        await second.release()
    store.hangs = True
    writing = asyncio.create_task(first._attempt())
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    store.hangs = False
    await first.release()
    assert store.late is None
    assert store.lease is not None
    assert not store.lease["spec"]["holderIdentity"]
    assert await second._attempt(), "at once"


async def test_a_lease_of_another_is_not_given_back() -> None:
    store = LeaseStore()
    first, second = candidate(store, "a"), candidate(store, "b")
    await first.acquire()
    assert store.lease is not None
    store.lease["spec"]["holderIdentity"] = "b"
    version = store.version
    await first.release()
    await second.release()  # has never claimed it
    assert (store.lease["spec"]["holderIdentity"], store.version) == ("b", version)


async def test_a_silent_leader_is_replaced_by_ones_own_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 100.0
    monkeypatch.setattr(lease_module.time, "monotonic", lambda: clock)
    store = LeaseStore()
    first, second = candidate(store, "a"), candidate(store, "b")
    await first._attempt()
    assert not await second._attempt()
    clock += 14
    assert not await second._attempt()
    await first._attempt()  # renewed: the count starts anew
    clock += 2
    assert not await second._attempt()
    clock += 16
    assert await second._attempt()
    assert not await first._attempt(), "the old leader does not take it back"


async def test_a_leader_that_cannot_renew_gives_up_before_another_may_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 100.0

    async def sleep(seconds: float) -> None:
        nonlocal clock
        clock += seconds

    store = LeaseStore()
    first = candidate(store, "a")
    monkeypatch.setattr(lease_module.time, "monotonic", lambda: clock)
    monkeypatch.setattr(lease_module.asyncio, "sleep", sleep)
    await first.acquire()
    store.away = True
    with pytest.raises(LeaseLostError):
        await first.keep()
    assert 110 < clock < 115


async def test_a_leader_whose_calls_hang_gives_up_in_time_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, limit, hangs = 100.0, 0.0, False

    async def sleep(seconds: float) -> None:
        nonlocal clock
        clock += seconds

    @contextlib.asynccontextmanager
    async def timeout(seconds: float) -> AsyncIterator[None]:
        nonlocal limit
        limit = seconds
        yield

    class SlowStore(LeaseStore):
        async def get_lease(self, namespace: str, name: str) -> Raw | None:
            nonlocal clock
            if hangs:
                clock += limit
                raise TimeoutError
            return await super().get_lease(namespace, name)

        async def put_lease(self, lease: Raw) -> Raw:
            nonlocal clock
            written = await super().put_lease(lease)
            clock += 4  # the answer is slow: the others count from the write
            return written

    monkeypatch.setattr(lease_module.time, "monotonic", lambda: clock)
    monkeypatch.setattr(lease_module.asyncio, "sleep", sleep)
    monkeypatch.setattr(lease_module.asyncio, "timeout", timeout)
    first = candidate(SlowStore(), "a")
    await first.acquire()  # written at 100
    hangs = True
    with pytest.raises(LeaseLostError):
        await first.keep()
    assert 110 <= clock < 115
