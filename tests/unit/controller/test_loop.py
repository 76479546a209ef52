"""The controller's loop and its health, on an API server made of dicts."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import aiohttp
import pytest

from unit.controller.test_events import event
from unit.controller.test_kueue import of_job
from unit.controller.world import SETTINGS, World
from wan_operator import process
from wan_operator.answers import NOT_SERVED
from wan_operator.controller import Controller
from wan_operator.errors import PermanentError, TransientError
from wan_operator.health import Health
from wan_operator.kube import Kube
from wan_operator.metrics import Metrics
from wan_operator.reconcile.decision import Event
from wan_operator.reconcile.observed import Key, Observed

Raw = dict[str, Any]


class FakeKube:
    """Holds WanFineTunes; fails where a test says so."""

    def __init__(self) -> None:
        self.crs: dict[str, Raw] = {}
        self.children: dict[str, list[Raw]] = {}
        self.warnings: list[Raw] = []
        self.workloads: list[Raw] = []
        self.failures: dict[str, list[Exception]] = {}
        self.calls: list[str] = []
        self.posted: list[str] = []
        """Messages of Events."""
        self.gate: Callable[[], Awaitable[None]] | None = None

    def add(self, name: str) -> None:
        self.crs[name] = copy.deepcopy(World(name=name).cr)

    def _call(self, what: str) -> None:
        self.calls.append(what)
        if self.failures.get(what):
            raise self.failures[what].pop(0)

    async def get(self, key: Key) -> Raw | None:
        self._call(f"get {key.name}")
        return self.crs.get(key.name)

    async def observe(self, key: Key) -> Observed:
        if self.gate is not None:
            await self.gate()
        return Observed(children=self.children)

    async def list_warnings(self, namespace: str) -> AsyncIterator[Raw]:
        self._call("warnings")
        for each in self.warnings:
            yield each

    async def list_workloads(self, namespace: str, job_uids: Sequence[str]) -> list[Raw]:
        self._call(f"workloads {' '.join(job_uids)}")
        return self.workloads

    async def resync(self, namespace: str, resync: Any) -> None:
        self._call(f"resync {resync.name}")

    async def ensure(self, manifest: Raw) -> None:
        self._call(f"ensure {manifest['metadata']['name']}")

    async def delete(self, namespace: str, target: Any) -> None:
        self._call(f"delete {target.name}")

    async def patch_status(self, cr: Raw, status: Raw) -> Raw | None:
        name = cr["metadata"]["name"]
        self._call(f"status {name}")
        changed = self.crs[name].get("status") != status
        self.crs[name]["status"] = status
        return self.crs[name] if changed else None

    async def post_event(self, cr: Raw, event: Event) -> None:
        self._call(f"event {event.reason}")
        self.posted.append(event.message)

    async def list_all(self, kind: str, namespace: str | None) -> AsyncIterator[Raw]:
        self._call(f"list {kind}")
        for cr in [] if kind in ("Job", "Pod") else list(self.crs.values()):
            cr["metadata"].setdefault("resourceVersion", "1")
            yield cr


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


@pytest.fixture
async def controller(kube: FakeKube) -> AsyncIterator[Controller]:
    async with aiohttp.ClientSession() as http:
        made = Controller(cast(Kube, kube), SETTINGS, Metrics(), http)
        running = asyncio.create_task(made.run())
        yield made
        made.stop()
        await running


async def until(probe: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not probe():  # noqa: ASYNC110 - a condition of plain dicts
            await asyncio.sleep(0.005)


def leading(kube: FakeKube, name: str) -> tuple[str, str]:
    listed = kube.crs[name].get("status", {}).get("conditions", [])
    return (listed[0]["type"], listed[0]["reason"]) if listed else ("", "")


async def test_a_bug_with_one_resource_does_not_stop_the_others(
    controller: Controller, kube: FakeKube, caplog: pytest.LogCaptureFixture
) -> None:
    kube.add("good")
    kube.add("bad")
    kube.failures["get bad"] = [ZeroDivisionError("a bug")]
    controller.enqueue(Key("WanFineTune", "team", "bad"))
    controller.enqueue(Key("WanFineTune", "team", "good"))
    await until(lambda: leading(kube, "good") == ("Reconciling", "StepStarting"))
    await until(lambda: leading(kube, "bad") == ("Reconciling", "StepStarting"))
    assert "a bug" in caplog.text


async def test_a_busy_server_is_asked_again_when_it_said(
    controller: Controller, kube: FakeKube, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    kube.add("demo")
    kube.failures["get demo"] = [TransientError("busy", retry_after=0.05)] * 3
    start = time.monotonic()
    controller.enqueue(Key("WanFineTune", "team", "demo"))
    await until(lambda: leading(kube, "demo")[0] == "Reconciling")
    assert time.monotonic() - start >= 0.15
    pauses = [vars(each)["in"] for each in caplog.records if each.message == "will try again"]
    assert pauses == [0.05] * 3, "obeyed, and no longer"


async def test_a_refused_child_is_told_in_the_status_and_not_hammered(
    controller: Controller, kube: FakeKube
) -> None:
    kube.add("demo")
    kube.failures["ensure demo-prepare-1"] = [PermanentError("exceeded quota", "Forbidden")]
    controller.enqueue(Key("WanFineTune", "team", "demo"))
    await until(lambda: leading(kube, "demo") == ("Stalled", "RequestRefused"))
    await until(lambda: controller.queue.is_scheduled(Key("WanFineTune", "team", "demo")))
    assert controller.queue.depth() == 0, "later, not now"
    assert kube.calls.count("ensure demo-prepare-1") == 1
    controller.enqueue(Key("WanFineTune", "team", "demo"))
    await until(lambda: leading(kube, "demo") == ("Reconciling", "StepStarting"))


async def test_what_a_refusal_misses_is_missing_in_a_namespace(
    controller: Controller, kube: FakeKube, caplog: pytest.LogCaptureFixture
) -> None:
    kube.add("demo")
    missing = PermanentError('error: serviceaccount "ghost" not found', "Forbidden")
    kube.failures["ensure demo-prepare-1"] = [missing]
    controller.enqueue(Key("WanFineTune", "team", "demo"))
    await until(lambda: bool(kube.posted))
    assert leading(kube, "demo") == ("Stalled", "RequestRefused")
    said = 'serviceaccount "ghost" not found in namespace team'
    assert said in kube.crs["demo"]["status"]["conditions"][0]["message"]
    assert said in kube.posted[0]
    assert "Job team/demo-prepare-1" in [getattr(each, "child", "") for each in caplog.records]


async def test_an_event_that_cannot_be_posted_is_no_failure(
    controller: Controller, kube: FakeKube
) -> None:
    kube.add("demo")
    kube.failures["event StepStarting"] = [TransientError("no")]
    controller.enqueue(Key("WanFineTune", "team", "demo"))
    await until(lambda: leading(kube, "demo") == ("Reconciling", "StepStarting"))
    await until(lambda: "event StepStarting" in kube.calls)
    assert kube.calls.count("get demo") == 1


async def test_children_come_before_the_status_that_speaks_of_them(
    controller: Controller, kube: FakeKube
) -> None:
    kube.add("demo")
    controller.enqueue(Key("WanFineTune", "team", "demo"))
    await until(lambda: "event StepStarting" in kube.calls)
    writes = [call for call in kube.calls if not call.startswith(("get", "list"))]
    assert writes == [
        "ensure demo-prepare",
        "ensure demo-prepare-1",
        "status demo",
        "event StepStarting",
    ]


async def test_stopping_finishes_what_is_held_and_takes_nothing_new(kube: FakeKube) -> None:
    kube.add("demo")
    reached, go = asyncio.Event(), asyncio.Event()

    async def gate() -> None:
        reached.set()
        await go.wait()

    kube.gate = gate
    async with aiohttp.ClientSession() as http:
        controller = Controller(cast(Kube, kube), SETTINGS, Metrics(), http)
        running = asyncio.create_task(controller.run())
        controller.enqueue(Key("WanFineTune", "team", "demo"))
        await reached.wait()
        controller.stop()
        controller.enqueue(Key("WanFineTune", "team", "other"))
        go.set()
        await running
    assert "status demo" in kube.calls
    assert "get other" not in kube.calls


async def test_the_sweep_finds_what_no_watch_delivered(
    controller: Controller, kube: FakeKube
) -> None:
    await controller.synced.wait()
    kube.add("silent")
    await controller.sweep()
    await until(lambda: leading(kube, "silent") == ("Reconciling", "StepStarting"))


async def test_a_resource_that_trips_the_decision_does_not_stop_the_sweep(
    controller: Controller, kube: FakeKube, caplog: pytest.LogCaptureFixture
) -> None:
    await controller.synced.wait()
    kube.add("bad")
    kube.add("good")
    del kube.crs["bad"]["spec"]  # which the API server would never let through
    await controller.sweep()
    await until(lambda: leading(kube, "good") == ("Reconciling", "StepStarting"))
    await until(lambda: "KeyError" in caplog.text)


async def test_liveness_knows_a_stuck_worker_a_dead_watch_and_a_blocked_loop(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = Health(Metrics())
    assert "has not answered" in health.waits_for()
    health.connected = True
    assert health.waits_for() == "", "a standby is ready"
    health.controller = controller
    await controller.synced.wait()
    assert health.waits_for() == ""
    assert health.problems() == []
    monkeypatch.setattr(controller.queue, "longest_work", lambda: 320.0)
    monkeypatch.setattr(controller.watchdog, "dead", lambda: ["Job"])
    health._beat -= 60
    told = " ".join(health.problems())
    for sign in ("event loop has been blocked", "worker has been at one key", "watch of Job"):
        assert sign in told


async def test_an_operator_that_starts_before_the_api_server_waits_for_it(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "CONNECT_SECONDS", 0.01)
    kube.failures["list WanFineTune"] = [TransientError("connection refused")] * 3
    await process.check_installed(cast(Kube, kube), SETTINGS, asyncio.Event())
    assert kube.calls == ["list WanFineTune"] * 4 + [
        "list WanInferenceService",
        "list WanEvaluation",
    ]
    stop = asyncio.Event()
    stop.set()
    kube.failures["list WanFineTune"] = [TransientError("connection refused")] * 3
    await process.check_installed(cast(Kube, kube), SETTINGS, stop)
    kube.failures["list WanFineTune"] = [PermanentError("not found", NOT_SERVED)]
    with pytest.raises(SystemExit, match="CRD is not installed"):
        await process.check_installed(cast(Kube, kube), SETTINGS, asyncio.Event())


async def test_waiting_for_write_tokens_is_not_being_stuck(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a write in ten seconds, eight workers with a few writes each wait for ten minutes."""
    async with aiohttp.ClientSession() as http:
        slow = replace(SETTINGS, writes_per_second=0.1)
        controller = Controller(cast(Kube, kube), slow, Metrics(), http)
        health = Health(Metrics())
        health.controller = controller
        monkeypatch.setattr(controller.queue, "longest_work", lambda: 640.0)
        assert health.problems() == []
        monkeypatch.setattr(controller.queue, "longest_work", lambda: 3600.0)
        assert "worker has been at one key" in health.problems()[0]


def without_pod(kube: FakeKube) -> Raw:
    """The Job of a run that has had no pod for long."""
    world = World()
    world.settle()
    world.pods.clear()
    kube.crs["demo"], kube.children = world.cr, world.children
    return world.jobs["demo-prepare-1"]


async def test_events_are_read_where_nothing_else_says_why_and_the_job_tries_again(
    controller: Controller, kube: FakeKube, caplog: pytest.LogCaptureFixture
) -> None:
    job = without_pod(kube)
    kube.warnings = [event(job["metadata"]["uid"], 1)]
    kube.failures["resync demo-prepare-1"] = [PermanentError("jobs.batch forbidden", "Forbidden")]
    controller.enqueue(Key("WanFineTune", "team", "demo"))
    await until(lambda: leading(kube, "demo") == ("Reconciling", "PodRefused"))
    assert "resync demo-prepare-1" in kube.calls
    assert "not hastened" in caplog.text, "without the right to it nothing else fails"


async def test_kueue_is_asked_about_a_suspended_job(controller: Controller, kube: FakeKube) -> None:
    job = without_pod(kube)
    job["spec"]["suspend"] = True
    uid = job["metadata"]["uid"]
    kube.workloads = [of_job(uid, "mine", 1)]
    kube.workloads[0]["spec"]["active"] = False
    controller.enqueue(Key("WanFineTune", "team", "demo"))
    await until(lambda: leading(kube, "demo") == ("Stalled", "WorkloadDeactivated"))
    assert f"workloads {uid}" in kube.calls
    assert "warnings" not in kube.calls
