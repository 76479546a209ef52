"""`status.effective` is of what serves: an edit's values follow once its rollout is through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unit.controller.service_world import World, finetune, node, tiny
from wan_operator.reconcile.room import Room

SIZE = {"width": 96, "height": 128}
EDIT = {"defaults": {"frames": 13, "fps": 12, "steps": 4, "guidance": 1.5}, "sizes": [SIZE]}
TOLD = {"frames": 13, "fps": 12.0, "steps": 4, "guidance": 1.5, "sizes": ["96x128"]}
LATER = [{"name": "later", "fineTuneRef": {"name": "later"}}]


def serving(**spec: Any) -> World:
    world = World(tiny(**spec))
    world.settle()
    return world


def is_of_the_edit(world: World) -> bool:
    """All of it, or nothing."""
    effective = world.status["effective"]
    found = {effective[name] == value for name, value in TOLD.items()}
    assert len(found) == 1
    return found == {True}


@pytest.mark.parametrize("strategy", ["Recreate", "Surge", "Canary"])
def test_a_change_is_told_once_it_is_through(strategy: str) -> None:
    world = serving(rollout={"strategy": strategy})
    before, spec = world.status["effective"], world.cr["spec"].copy()
    world.edit(**EDIT)
    for _ in range(3):
        world.turn(5)
        assert world.status["rollout"]["phase"] == "Starting"
        assert world.status["effective"] == before
    world.roll(ready=False)
    world.turn(3600)
    assert world.status["rollout"]["phase"] == "RolledBack"
    world.settle()
    assert world.status["effective"] == before
    world.cr["spec"] = spec
    world.edit(rollout={"strategy": "Surge"})
    world.turn(60)
    world.edit(**EDIT)
    world.settle()
    assert "rollout" not in world.status
    assert is_of_the_edit(world)


def test_a_change_that_waits_for_what_it_names() -> None:
    world = serving()
    before = world.status["effective"]
    world.edit(adapters=LATER, **EDIT)
    world.settle()
    assert world.condition("Stalled")[1] == "FineTuneNotFound"
    assert world.status["effective"] == before
    world.finetunes["later"] = finetune("later")
    world.settle()
    assert is_of_the_edit(world)


def test_a_change_that_waits_for_room() -> None:
    world = serving()
    before, room = world.status["effective"], world.room
    world.room = Room((node("full", gpus=0),))
    world.edit(**EDIT)
    world.settle()
    assert world.status["rollout"]["phase"] == "Waiting"
    assert world.status["effective"] == before
    world.room = room
    world.settle()
    assert is_of_the_edit(world)


def test_before_anything_serves_it_is_of_the_spec() -> None:
    world = World(tiny(adapters=LATER))
    world.turn()
    world.edit(**EDIT)
    world.turn()
    assert is_of_the_edit(world)


def test_what_gateways_have_is_told_at_once() -> None:
    world = serving(store={"bucket": "wan"}, database=None)
    was = world.status["effective"]
    secret = {"secretRef": {"name": "other"}}
    world.settings = replace(world.settings, operator_image="wan-operator:2")
    world.edit(store={"bucket": "wan"} | secret, database=secret, **EDIT)
    world.turn()
    found, store = world.status["effective"], was["store"] | {"secretName": "other"}
    of_gateways = {"gatewayImage": "wan-operator:2", "databaseSecret": "other", "store": store}
    assert found == was | of_gateways


def test_a_change_that_makes_no_other_workers_is_told_at_once() -> None:
    world = serving()
    revision = world.status["revision"]
    world.settings = replace(world.settings, operator_image="wan-operator:2")
    world.status["effective"]["frames"] = 1  # of an earlier release
    world.turn()
    assert world.status["revision"] == revision
    assert world.status["effective"]["gatewayImage"] == "wan-operator:2"
    assert world.status["effective"]["frames"] != 1
