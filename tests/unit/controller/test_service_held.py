"""A spec that cannot be acted on says nothing of what serves: that is as ready as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unit.controller.service_world import World, tiny
from wan_operator.kinds.service import SERVICE

HELD = "Until that is mended no change is acted on, and what serves goes on"
STORE = {"store_endpoint": "", "store_bucket": "", "store_secret": ""}
UNREADABLE = [
    ({"acceleration": {"profile": "Finest"}}, "spec.acceleration.profile"),
    ({"model": {"preset": "Wan9.9-I2V"}}, "spec.model.preset"),
    ({"gateway": {"keysSecretRef": "keys"}}, "spec.gateway.keysSecretRef"),
    ({"rollout": "Never", "autoscaling": [], "adapters": "none", "store": 7}, "spec.rollout"),
]


def serving(**spec: Any) -> World:
    world = World(tiny(store=None, database=None, **spec))
    world.settle()
    assert world.condition("Ready")[:2] == ("True", "Serving")
    return world


def goes_on(world: World, reason: str, said: str) -> None:
    """What serves does, and its status is of now."""
    before, told = world.objects.copy(), {**world.status}
    decision = world.turn(60)
    assert not decision.children
    assert not decision.deletes
    assert world.objects == before
    assert world.condition("Stalled")[:2] == ("True", reason)
    assert said in world.condition("Stalled")[2]
    assert world.condition("Ready")[:2] == ("True", "Serving")
    assert world.condition("Stalled")[2].endswith(HELD)
    assert [(each.type, each.reason) for each in decision.events] == [("Warning", reason)]
    for name in ("revision", "url", "effective", "adapters", "ready"):
        assert world.status.get(name) == told.get(name), name
    assert world.status["observedGeneration"] == world.cr["metadata"]["generation"]
    assert not world.turn(3600).events
    world.roll(ready=False)
    world.turn(60)
    assert world.condition("Ready")[0] == "False", "the numbers are those of now"
    assert world.condition("Ready")[1] != reason
    assert world.status["ready"] == "0/1"
    world.roll()


def heals(world: World) -> None:
    world.settle()
    assert world.condition("Stalled") == ("", "", "")
    assert world.condition("Ready")[:2] == ("True", "Serving")


@pytest.mark.parametrize(("change", "said"), UNREADABLE)
def test_a_spec_that_cannot_be_read(change: dict[str, Any], said: str) -> None:
    world = serving()
    spec = world.cr["spec"].copy()
    world.edit(**change)
    goes_on(world, "SpecInvalid", said)
    world.cr["spec"] = spec
    world.edit()
    heals(world)


@pytest.mark.parametrize(
    ("lost", "reason", "said"),
    [
        (STORE, "StoreNotConfigured", "spec.store.bucket (or the Helm value store.bucket)"),
        ({"database_secret": ""}, "DatabaseNotConfigured", "spec.database.secretRef.name"),
    ],
)
def test_settings_that_a_spec_needs_are_gone(lost: dict[str, Any], reason: str, said: str) -> None:
    world = serving()
    settings = world.settings
    world.settings = replace(settings, **lost)
    goes_on(world, reason, said)
    world.settings = settings
    heals(world)


@pytest.mark.parametrize(("change", "said"), UNREADABLE)
def test_where_nothing_serves_that_is_why(change: dict[str, Any], said: str) -> None:
    world = World(tiny(**change))
    world.turn()
    for type_, status in (("Stalled", "True"), ("Ready", "False")):
        assert world.condition(type_)[:2] == (status, "SpecInvalid")
        assert said in world.condition(type_)[2]
    assert world.objects == {}


@pytest.mark.parametrize("bucket", ["", "others"])
def test_the_address_is_of_what_serves(bucket: str) -> None:
    world = serving()
    world.status["sizes"] = [{"size": "128x96", "seconds": 1}]  # a worker was ready
    url, gateway = world.status["url"], world.cr["spec"]["gateway"]
    world.settings = replace(world.settings, store_bucket=bucket)
    world.edit(gateway=gateway | {"ingress": {"host": "videos.example.com"}})
    world.turn(60)
    assert world.condition("Stalled")[1] == ("StoreChanged" if bucket else "StoreNotConfigured")
    assert world.status["url"] == url
    world.settings = replace(world.settings, store_bucket="wan")
    world.settle()
    assert world.status["url"] == "http://videos.example.com"


def test_of_what_cannot_be_looked_at_it_is_unknown_whether_it_is_ready() -> None:
    """A status of another release; and one that the API server refuses."""
    world = serving()
    refused = SERVICE.stalled(world.cr, "RequestRefused", "delete is forbidden", world.now)
    world.status["desiredReplicas"] = "two"
    told = {**world.status}
    unread = world.look()
    for decision, reason in ((refused, "RequestRefused"), (unread, "SpecInvalid")):
        assert decision.status is not None
        found = {each["type"]: each for each in decision.status["conditions"]}
        assert (found["Stalled"]["status"], found["Stalled"]["reason"]) == ("True", reason)
        assert (found["Ready"]["status"], found["Ready"]["reason"]) == ("Unknown", reason)
    assert unread.status is not None
    assert unread.status["revision"] == told["revision"], "and all else stays as it was written"
