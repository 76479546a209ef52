"""Warnings about children are read seldom, by one LIST for all, and nothing fails for want of
them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from wan_operator import events
from wan_operator.errors import PermanentError, TransientError
from wan_operator.events import FRESH_SECONDS, REFUSED_SECONDS, Warnings
from wan_operator.kube import Kube
from wan_operator.reconcile.observed import Observed, WarningEvent

Raw = dict[str, Any]
AT = "2026-11-29T10:00:{:02d}Z"


def event(uid: str, second: int, reason: str = "FailedCreate", kind: str = "Job") -> Raw:
    """As the API server shows what Kubernetes' own controllers post in the older API."""
    return {
        "metadata": {"name": f"{uid}.{second}", "creationTimestamp": AT.format(0)},
        "eventTime": None,
        "deprecatedLastTimestamp": AT.format(second),
        "regarding": {"kind": kind, "name": f"name-of-{uid}", "uid": uid},
        "reason": reason,
        "note": f" {reason} of {uid} ",
        "type": "Warning",
    }


class FakeKube:
    def __init__(self) -> None:
        self.events: list[Raw] = []
        self.error: Exception | None = None
        self.calls: list[str] = []

    async def list_warnings(self, namespace: str) -> AsyncIterator[Raw]:
        self.calls.append(namespace)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        for each in self.events:
            yield each


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


@pytest.fixture
def warnings(kube: FakeKube) -> Warnings:
    return Warnings(cast(Kube, kube))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(events.time, "monotonic", lambda: now[0])
    return now


async def test_the_newest_about_each_object_counts(kube: FakeKube, warnings: Warnings) -> None:
    kube.events = [event("a", 7, "FailedMount", "Pod"), event("a", 5), event("b", 1)]
    kube.events += [event("c", 9, kind="Node"), event("", 9)]
    found = await warnings.of("team")
    assert set(found) == {"a", "b"}
    assert found["a"] == WarningEvent(
        kind="Pod",
        name="name-of-a",
        reason="FailedMount",
        message="FailedMount of a",
        time=datetime(2026, 11, 29, 10, 0, 7, tzinfo=UTC),
    )
    observed = Observed(warnings=found)
    assert observed.warning_about({"metadata": {"uid": "b"}}) == found["b"]
    assert observed.warning_about({"metadata": {"uid": "z"}}) is None
    assert Observed().warning_about({"metadata": {"uid": "b"}}) is None, "not read"


async def test_the_kubelets_summary_says_less_than_what_it_sums_up(
    kube: FakeKube, warnings: Warnings
) -> None:
    summary = event("a", 9, "FailedMount", "Pod")
    summary["note"] = "Unable to attach or mount volumes: unmounted volumes=[ca]"
    kube.events = [summary, event("a", 5, "FailedMount", "Pod"), summary]
    assert (await warnings.of("team"))["a"].message == "FailedMount of a"


async def test_a_series_is_as_new_as_its_last(kube: FakeKube, warnings: Warnings) -> None:
    scheduler = event("a", 1, "FailedScheduling", "Pod") | {
        "eventTime": "2026-11-29T10:00:01.000001Z",
        "series": {"count": 9, "lastObservedTime": "2026-11-29T10:00:42.000001Z"},
    }
    kube.events = [scheduler, event("a", 41)]
    assert (await warnings.of("team"))["a"].reason == "FailedScheduling"


async def test_one_list_is_for_all_who_ask_meanwhile(
    kube: FakeKube, warnings: Warnings, clock: list[float]
) -> None:
    await asyncio.gather(*(warnings.of("team") for _ in range(5)), warnings.of("other"))
    clock[0] += FRESH_SECONDS - 1
    await warnings.of("team")
    assert sorted(kube.calls) == ["other", "team"]
    clock[0] += 1
    await warnings.of("team")
    assert sorted(kube.calls) == ["other", "team", "team"]


async def test_what_is_kept_is_bounded(
    kube: FakeKube, warnings: Warnings, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LIMIT", 3)
    kube.events = [event(f"uid-{number}", number) for number in range(20)]
    assert set(await warnings.of("team")) == {"uid-17", "uid-18", "uid-19"}
    clock[0] += FRESH_SECONDS
    await warnings.of("other")
    assert set(warnings._read) == {"other"}, "nothing waits in the first any more"


async def test_a_right_that_is_missing_costs_a_call_every_few_minutes(
    kube: FakeKube, warnings: Warnings, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    kube.error = PermanentError("events.events.k8s.io is forbidden", "Forbidden")
    assert await warnings.of("team") == {}
    clock[0] += REFUSED_SECONDS - 1
    assert await warnings.of("team") == {}
    assert kube.calls == ["team"]
    assert [each.getMessage() for each in caplog.records] == ["events not read"]
    kube.error, kube.events = None, [event("a", 1)]
    clock[0] += 1
    assert set(await warnings.of("team")) == {"a"}


async def test_what_was_known_stays_known_while_the_server_is_busy(
    kube: FakeKube, warnings: Warnings, clock: list[float]
) -> None:
    kube.events = [event("a", 1)]
    await warnings.of("team")
    kube.error = TransientError("429 too many requests")
    clock[0] += FRESH_SECONDS
    assert set(await warnings.of("team")) == {"a"}
