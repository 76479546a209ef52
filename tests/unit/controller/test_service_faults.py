"""Ready means that a request would work: what gateways find is what the service's status says."""

from __future__ import annotations

from typing import Any

import pytest

from unit.controller.service_world import Raw, World, report, tiny
from wan_operator.conditions.service import VOCABULARY
from wan_operator.reconcile.service.reconcile import addresses
from wan_runtime.contract.job import STORE_SECRET
from wan_runtime.contract.reasons import OF_SECRETS, GatewayReason, Reason
from wan_runtime.contract.report import Fault, GatewayState

RESTART = (
    ". A change of a Secret reaches its pods within two minutes, or at once with kubectl -n team "
    "rollout restart deployment demo-gateway"
)


def serving() -> World:
    world = World(tiny())
    world.report = report()
    world.settle()
    assert world.condition("Ready")[:2] == ("True", "Serving")
    return world


@pytest.mark.parametrize(
    ("reason", "type_"),
    [
        (Reason.STORE_NOT_FOUND, "Stalled"),
        (Reason.STORE_ACCESS_DENIED, "Stalled"),
        (Reason.STORE_REGION_WRONG, "Stalled"),
        (Reason.STORE_UNREACHABLE, "Reconciling"),
        (GatewayReason.DATABASE_UNREACHABLE, "Reconciling"),
        (GatewayReason.DATABASE_REFUSED, "Stalled"),
        (GatewayReason.NO_API_KEY, "Stalled"),
        (GatewayReason.WEBHOOK_SECRET_INVALID, "Stalled"),
        (GatewayReason.CHECK_FAILED, "Reconciling"),
    ],
)
def test_a_service_whose_requests_fail_is_not_ready(
    reason: Reason | GatewayReason, type_: str
) -> None:
    world = serving()
    world.faults = (Fault.of(reason, "the store's own words"),)
    assert world.turn().requeue_after == 5, "so that the cure is seen soon"
    said = "requests fail: the store's own words"
    said += RESTART if reason in OF_SECRETS else ""
    assert world.condition("Ready") == ("False", reason.value, said)
    assert world.condition(type_) == ("True", reason.value, said)
    assert f"{reason.value}: the store's own words" in world.events
    world.turn()
    assert world.events.count(f"{reason.value}: the store's own words") == 1
    world.faults = ()
    world.turn()
    assert world.condition("Ready")[:2] == ("True", "Serving")
    assert world.condition(type_) == ("", "", "")


@pytest.mark.parametrize(
    ("store", "named"),
    [
        ({"secretRef": {"name": "ours"}}, "Secret ours (spec.store.secretRef)"),
        ({}, "Secret wan-store (the Helm value store.secretName)"),
    ],
)
def test_the_secret_of_the_store_is_named(store: dict[str, Any], named: str) -> None:
    world = World(tiny(store=store))
    world.report = report()
    world.settle()
    world.faults = (Fault.of(Reason.STORE_ACCESS_DENIED, f"correct it in {STORE_SECRET}"),)
    world.turn()
    assert world.condition("Ready")[2] == f"requests fail: correct it in {named}{RESTART}"


def test_every_reason_of_a_fault_is_documented() -> None:
    for reason in (*GatewayReason, *(each for each in Reason if each.value.startswith("Store"))):
        assert reason.value in VOCABULARY.reasons


def test_it_is_the_cause_of_workers_that_are_not_ready() -> None:
    world = serving()
    world.faults = (Fault.of(Reason.STORE_ACCESS_DENIED, "denied"),)
    world.roll(ready=False)
    world.turn()
    assert world.condition("Ready")[1:] == ("StoreAccessDenied", f"requests fail: denied{RESTART}")


def running(world: World, part: str, ready: bool) -> Raw:
    container = "gateway" if part == "gateway" else "worker"
    condition = {"type": "Ready", "status": str(ready)}
    state = {"name": container, "ready": ready, "restartCount": 0, "state": {"running": {}}}
    statuses = {"conditions": [condition], "containerStatuses": [state]}
    return world.pod(part, **statuses, podIP=f"10.0.0.{len(world.listed('Pod'))}")


def gateway(world: World, ready: bool) -> Raw:
    return running(world, "gateway", ready)


REFUSED = Fault.of(GatewayReason.DATABASE_REFUSED, "PostgreSQL refuses: no password")


def test_a_gateway_that_does_not_begin_says_why_beside_one_that_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = serving()
    well, ill = (gateway(world, ready)["metadata"]["name"] for ready in (True, False))
    pages = {ill: GatewayState(faults=(REFUSED,)), well: GatewayState(service=report())}
    monkeypatch.setattr(world, "pages", lambda: pages)
    world.turn()
    said = f"A change waits: pod {ill}: {REFUSED.message}"
    assert world.condition("Ready")[:2] == ("True", "Serving")
    assert world.condition("Ready")[2].endswith(said)
    assert world.condition("Stalled")[:2] == ("True", "DatabaseRefused")
    del pages[well]
    world.turn()
    said = f"requests fail: {REFUSED.message}{RESTART}"
    assert world.condition("Ready") == ("False", "DatabaseRefused", said), "once, not twice"


def test_a_worker_that_does_not_begin_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    world = serving()
    pods = [gateway(world, ready=True), running(world, "worker", ready=False)]
    well, ill = (pod["metadata"]["name"] for pod in pods)
    pages = {well: GatewayState(service=report()), ill: GatewayState(faults=(REFUSED,))}
    monkeypatch.setattr(world, "pages", lambda: pages)
    worker = world.deployment("worker")
    assert worker is not None
    worker["status"]["readyReplicas"] = 0
    heard = addresses(world.cr, world._observed(), world.settings, world.now)
    assert heard == {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods}
    world.turn()
    for type_ in ("Ready", "Stalled"):
        assert world.condition(type_)[1:] == (
            *("DatabaseRefused", f"0 of 1 workers take videos: pod {ill}: {REFUSED.message}"),
        )
    world.edit(defaults={"frames": 9, "steps": 4})
    world.turn()
    strategy = world.objects["Deployment", "demo-worker"]["spec"]["strategy"]
    assert strategy["rollingUpdate"]["maxUnavailable"] == 1, "it holds the room of its successor"
    pages[ill] = GatewayState()
    world.turn()
    assert world.condition("Ready")[1] != "DatabaseRefused"


def test_a_gateway_that_gets_no_requests_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    world = serving()
    well, ill = (gateway(world, ready)["metadata"]["name"] for ready in (True, False))
    fault = Fault.of(GatewayReason.DATABASE_UNREACHABLE, "away")
    pages = {ill: GatewayState(faults=(fault,)), well: GatewayState(service=report())}
    monkeypatch.setattr(world, "pages", lambda: pages)
    world.turn()
    assert world.condition("Ready")[:2] == ("True", "Serving")
    pages[well] = GatewayState(faults=(fault,), service=report())
    world.turn()
    assert world.condition("Ready")[:2] == ("False", "DatabaseUnreachable")
    del pages[well]
    world.turn()
    assert world.condition("Ready")[:2] == ("False", "DatabaseUnreachable"), "better than no word"
