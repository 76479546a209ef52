"""A spec that cannot be acted on says nothing of what serves: that is as ready as it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from unit.controller.service_world import World, report, tiny, track
from wan_operator.kinds.service import SERVICE

HELD = "Until that is mended no change is acted on, and what serves goes on"
STAYS = "; the number of workers stays as it is"
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
    assert world.condition("Stalled")[2].endswith(HELD + STAYS)
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


CANARY = {"strategy": "Canary", "deadlineSeconds": 600, "canary": {"minVideos": 10}}
SURGE = {"strategy": "Surge", "deadlineSeconds": 600}
GOOD = report(stable=track(100, 0, 10.0), canary=track(10, 0, 10.0))
HOLDS = ["SpecInvalid", "StoreNotConfigured", "StoreChanged"]


def spoil(world: World, reason: str) -> None:
    """Make the spec one that cannot be acted on; `mend` takes it back."""
    if reason == "SpecInvalid":
        world.edit(acceleration={"profile": "Finest"})
    else:
        bucket = "others" if reason == "StoreChanged" else ""
        world.settings = replace(world.settings, store_bucket=bucket)


def rolling(rollout: dict[str, Any], reason: str, **spec: Any) -> tuple[World, str]:
    """A service in the middle of a change, whose next spec cannot be acted on; and the revision
    that serves."""
    world = serving(rollout=rollout, **spec)
    before = world.status["revision"]
    world.status["sizes"] = [{"size": "128x96", "seconds": 1}]  # a worker was ready
    world.edit(defaults={"frames": 9, "steps": 4})
    world.turn()
    if rollout is CANARY:
        world.roll()
        world.turn(5)
    spoil(world, reason)
    world.turn(5)
    assert world.condition("Stalled")[1] == reason
    return world, before


def made(world: World) -> dict[Any, Any]:
    return {key: (each.get("spec"), each.get("data")) for key, each in world.objects.items()}


def mend(world: World) -> None:
    world.settings = replace(world.settings, store_bucket="wan")
    world.cr["spec"].pop("acceleration", None)
    world.edit()


def is_back(world: World, before: str, hold: str) -> None:
    """And stays so once the spec is mended."""
    assert world.status["rollout"]["phase"] == "RolledBack"
    assert world.running("worker") == world.status["revision"] == before
    assert world.deployment("canary") is None
    assert world.rollout() == {"weight": 0}
    assert world.condition("Stalled")[1] == hold
    world.settle()
    mend(world)
    world.settle()
    assert world.condition("Stalled")[1] == "RolledBack"
    assert world.running("worker") == before


@pytest.mark.parametrize("hold", HOLDS)
@pytest.mark.parametrize("rollout", [CANARY, SURGE], ids=["Canary", "Surge"])
def test_the_deadline_of_a_rollout_under_way_counts(rollout: dict[str, Any], hold: str) -> None:
    world, before = rolling(rollout, hold)
    world.turn(590)
    assert world.status["rollout"]["phase"] in ("Proving", "Starting")
    events = world.turn(20).events
    assert ["no progress for 600 s" in each.message for each in events] == [True]
    is_back(world, before, hold)


@pytest.mark.parametrize("hold", HOLDS)
def test_a_bad_canary_goes_back_whatever_the_spec_says(hold: str) -> None:
    world, before = rolling(CANARY, hold)
    world.report = report(canary=track(0, 10))
    world.turn(5)
    assert "failed 10 of 10 videos" in world.status["rollout"]["message"]
    is_back(world, before, hold)


@pytest.mark.parametrize("hold", HOLDS)
@pytest.mark.parametrize("rollout", [CANARY, SURGE], ids=["Canary", "Surge"])
def test_a_good_rollout_goes_on_and_its_values_follow(rollout: dict[str, Any], hold: str) -> None:
    """Those of the new revision are of a spec that nobody has any more, until it is mended."""
    world, before = rolling(rollout, hold)
    world.report = GOOD if rollout is CANARY else None
    world.turn(5)
    world.turn(5)
    assert world.running("worker") != before
    assert world.deployment("canary") is None
    world.roll()
    world.turn(5)
    objects, said = made(world), world.status["rollout"]
    assert said["phase"] == "Promoting", "all are new"
    for _ in range(3):
        assert not world.turn(3600).events
        assert world.status["rollout"] == said, "however long ago"
        assert made(world) == objects
    assert world.status["revision"] == before
    mend(world)
    world.settle()
    assert world.status["revision"] == world.running("worker") != before
    assert world.condition("Stalled") == ("", "", "")


@pytest.mark.parametrize("hold", HOLDS)
def test_a_worker_that_is_away_for_a_moment_sends_nothing_back(hold: str) -> None:
    world, before = rolling(SURGE, hold)
    world.roll()
    world.turn(5)
    new = world.running("worker")
    world.turn(7200)
    world.roll(ready=False)
    assert not world.turn(5).events
    assert world.condition("Stalled")[1] == hold
    world.roll()
    world.turn(5)
    assert world.running("worker") == new != before


@pytest.mark.parametrize("hold", HOLDS)
def test_a_canary_goes_though_the_others_are_new_at_once(hold: str) -> None:
    """As where none is wanted, or where the operator was away meanwhile."""
    world, before = rolling(CANARY, hold)
    world.report = GOOD
    world.turn(5)
    world.roll()
    world.turn(5)
    assert world.running("worker") != before
    assert world.deployment("canary") is None
    assert world.rollout() == {"weight": 0}


@pytest.mark.parametrize("hold", HOLDS)
@pytest.mark.parametrize("rollout", [CANARY, SURGE], ids=["Canary", "Surge"])
def test_what_is_refused_of_a_way_back_is_tried_again(rollout: dict[str, Any], hold: str) -> None:
    world, before = rolling(rollout, hold)
    world.now += timedelta(seconds=700)
    status = world.look().status  # none of its children could be written
    assert status is not None
    assert status["rollout"]["phase"] == "RolledBack"
    world.cr["status"] = status
    world.turn(300)
    assert not world.turn(300).children
    is_back(world, before, hold)


@pytest.mark.parametrize("hold", HOLDS)
def test_a_canary_that_somebody_deletes_is_made_again(hold: str) -> None:
    """Its share of the requests would wait for it for ever."""
    world, _ = rolling(CANARY, hold)
    del world.objects["Deployment", "demo-canary"]
    world.turn(5)
    assert world.deployment("canary") is not None
    assert world.rollout() == {"weight": 0}, "until it is ready"


@pytest.mark.parametrize("rollout", ["Never", SURGE, CANARY | {"canary": {"percent": 99}}])
def test_by_a_strategy_that_it_was_not_begun_with_nothing_is_judged(rollout: Any) -> None:
    world, _ = rolling(CANARY, "SpecInvalid")
    world.edit(rollout=rollout)
    objects = world.objects.copy()
    world.report = GOOD
    decision = world.turn(6000)
    assert (decision.children, decision.deletes) == ((), ())
    assert world.objects == objects
    assert world.status["rollout"]["phase"] == "Proving"
