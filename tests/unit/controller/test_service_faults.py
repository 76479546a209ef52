"""Ready means that a request would work: what gateways find is what the service's status says."""

from __future__ import annotations

import pytest

from unit.controller.service_world import Raw, World, report, tiny
from wan_operator.conditions.service import VOCABULARY
from wan_runtime.contract.reasons import GatewayReason, Reason
from wan_runtime.contract.report import Fault, GatewayState


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
    assert world.condition("Ready") == ("False", reason.value, said)
    assert world.condition(type_) == ("True", reason.value, said)
    assert f"{reason.value}: the store's own words" in world.events
    world.turn()
    assert world.events.count(f"{reason.value}: the store's own words") == 1
    world.faults = ()
    world.turn()
    assert world.condition("Ready")[:2] == ("True", "Serving")
    assert world.condition(type_) == ("", "", "")


def test_every_reason_of_a_fault_is_documented() -> None:
    for reason in (*GatewayReason, *(each for each in Reason if each.value.startswith("Store"))):
        assert reason.value in VOCABULARY.reasons


def test_it_is_the_cause_of_workers_that_are_not_ready() -> None:
    world = serving()
    world.faults = (Fault.of(Reason.STORE_ACCESS_DENIED, "denied"),)
    world.roll(ready=False)
    world.turn()
    assert world.condition("Ready")[1:] == ("StoreAccessDenied", "requests fail: denied")


def gateway(world: World, ready: bool) -> Raw:
    condition = {"type": "Ready", "status": str(ready)}
    state = {"name": "gateway", "ready": ready, "restartCount": 0, "state": {"running": {}}}
    return world.pod("gateway", conditions=[condition], containerStatuses=[state])


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
