"""A rollout that an edit ends is told of, once, with what became of it."""

from __future__ import annotations

from typing import Any

import pytest

from unit.controller.service_world import World, finetune, node, tiny
from wan_operator.reconcile.decision import Decision
from wan_operator.reconcile.room import Room

Raw = dict[str, Any]
NEW = {"defaults": {"frames": 9, "steps": 4}}
LATER = [{"name": "later", "fineTuneRef": {"name": "later"}}]
PRESET = "Wan2.1-I2V-Tiny"


def changing(strategy: str = "Surge", **spec: Any) -> tuple[World, str, str]:
    """In the middle of a change; the revision that serves, and the new one."""
    world = World(tiny(rollout={"strategy": strategy}, **spec))
    world.settle()
    before = world.status["revision"]
    world.edit(**NEW)
    world.turn()
    new = world.status["rollout"]["revision"]
    assert world.status["revision"] == before != new
    return world, before, new


def told(decision: Decision) -> list[tuple[str, str, str]]:
    """Events on rollouts."""
    of_rollouts = ("RollBack", "RollOut", "Wait")
    found = [each for each in decision.events if each.action in of_rollouts]
    return [(each.type, each.reason, each.message) for each in found]


@pytest.mark.parametrize("strategy", ["Recreate", "Surge", "Canary"])
@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"adapters": LATER}, "WanFineTune later does not exist in namespace team"),
        (
            {"model": {"preset": PRESET, "fromEvaluation": {"name": "compare"}}},
            "WanEvaluation compare does not exist in namespace team",
        ),
        ({"model": {"preset": PRESET, "source": {"s3": "s3://models/tiny"}}}, "ImportingModel: "),
    ],
    ids=["adapter", "model", "source"],
)
def test_what_is_not_there_ends_it(strategy: str, change: Raw, missing: str) -> None:
    world, before, new = changing(strategy)
    world.edit(**change)
    [(type_, reason, message)] = told(world.turn(60))
    assert (type_, reason) == ("Warning", "RolledBack")
    assert message.startswith(
        f"the rollout of revision {new}, which was Starting, ended: revision {before} serves on, "
        "and what the spec asks for now is not rolled out, "
    )
    assert missing in message
    assert world.running("worker") == world.status["revision"] == before
    assert "rollout" not in world.status
    for _ in range(3):
        assert not told(world.turn(60))


def test_once_it_is_there_the_next_begins() -> None:
    world, before, new = changing()
    world.edit(adapters=LATER)
    world.turn(60)
    world.finetunes["later"] = finetune("later")
    [(type_, reason, message)] = told(world.turn(60))
    assert (type_, reason) == ("Normal", "RollingOut")
    assert "ended" not in message
    assert world.status["rollout"]["revision"] not in (before, new)


def test_another_edit_takes_its_place() -> None:
    """One that names a Secret, say, which may not be there: pods show that."""
    world, before, new = changing()
    world.edit(store={"secretRef": {"name": "missing"}})
    [(type_, reason, message)] = told(world.turn(60))
    assert (type_, reason) == ("Normal", "RollingOut")
    assert message.startswith(f"revision {world.status['rollout']['revision']} Starting: ")
    assert message.endswith(f"; the rollout of revision {new}, which was Starting, ended for it")
    assert world.status["revision"] == before
    assert not told(world.turn(60))


def test_an_edit_that_takes_the_change_back() -> None:
    world, before, new = changing()
    world.edit(defaults={"frames": 9, "steps": 8})
    assert told(world.turn(60)) == [
        (
            "Normal",
            "RolledBack",
            f"the rollout of revision {new}, which was Starting, ended: the spec asks again for "
            f"revision {before}, which serves",
        )
    ]
    assert not told(world.turn(60))


def test_one_that_waited_for_room() -> None:
    world = World(tiny())
    world.settle()
    world.room = Room((node("full", gpus=0),))
    world.edit(**NEW)
    world.turn()
    new = world.status["rollout"]["revision"]
    world.edit(adapters=LATER)
    [(_, reason, message)] = told(world.turn(60))
    assert reason == "RolledBack"
    assert message.startswith(f"the rollout of revision {new}, which was Waiting, ended: ")


def test_of_one_that_is_through_or_went_back_no_more_is_told() -> None:
    world, _, _ = changing()
    world.roll(ready=False)
    world.turn(3600)
    assert world.status["rollout"]["phase"] == "RolledBack"
    world.settle()
    world.edit(adapters=LATER)
    assert not told(world.turn(60))
    world.edit(adapters=[], defaults={"frames": 9, "steps": 5})
    [(_, _, message)] = told(world.turn(60))
    assert "ended" not in message
    world.roll()
    decision = world.turn(60)
    assert "rollout" not in world.status
    assert not told(decision)
