"""Other controllers are made to try again no more often than they can bear."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from wan_operator import resyncs
from wan_operator.reconcile.decision import Resync
from wan_operator.resyncs import BURST, PER_SECOND, Resyncs


class FakeKube:
    def __init__(self) -> None:
        self.tried: list[str] = []

    async def resync(self, namespace: str, resync: Any) -> None:
        self.tried.append(resync.name)


async def test_a_hundred_refused_jobs_share_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, kube = [1000.0], FakeKube()
    monkeypatch.setattr(resyncs, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    made = Resyncs(kube)  # type: ignore[arg-type]

    async def round_of(count: int) -> int:
        """Tries that were let through."""
        before = len(kube.tried)
        for number in range(count):
            each = Resync(kind="Job", name=f"job-{number}", uid="u", time=datetime.now(UTC))
            await made.carry_out("team", each)
        return len(kube.tried) - before

    assert await round_of(5) == 5
    assert await round_of(100) == BURST - 5
    clock[0] += 1
    assert await round_of(100) == PER_SECOND
    clock[0] += 3600
    assert await round_of(100) == BURST
