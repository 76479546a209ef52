"""What has not begun follows what is wanted of it now, and what was refused is tried again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unit.controller.service_world import World, node, settings, tiny
from wan_operator.reconcile.room import Room, requests
from wan_operator.resources.labels import RETRIED

NEW = {"defaults": {"frames": 9, "steps": 4}}
FULL = Room((node("full", gpus=0),))
STUCK = {"waiting": {"reason": "ImagePullBackOff"}}
RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def add_pod(world: World, part: str, state: dict[str, Any], **status: Any) -> dict[str, Any]:
    container = {"name": "gateway" if part == "gateway" else "worker", "ready": False}
    container |= {"restartCount": 0, "state": state} | status
    return world.pod(part, containerStatuses=[container])


def first(**spec: Any) -> World:
    """A service whose pods are made and have not worked yet."""
    world = World(tiny(**spec))
    world.turn()
    return world


def serving(*states: dict[str, Any], **spec: Any) -> World:
    """A service that has served, with workers in these states."""
    world = World(tiny(replicas=len(states), **spec))
    world.settle()
    for state in states:
        add_pod(world, "worker", state)
    worker = world.deployment("worker")
    assert worker is not None
    worker["status"]["readyReplicas"] = states.count(RUNNING)
    world.replica_set("worker", 1, replicas=len(states))
    world.turn()
    return world


def spared(world: World, part: str = "worker") -> int:
    """Pods that may go before others are ready."""
    found = world.deployment(part)
    assert found is not None
    count: int = found["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"]
    return count


@pytest.mark.parametrize("strategy", ["Surge", "Canary"])
def test_workers_that_never_worked_are_replaced_without_a_rollout(strategy: str) -> None:
    world = first(rollout={"strategy": strategy})
    add_pod(world, "worker", STUCK)
    before = world.running("worker")
    assert spared(world) == 0
    world.room = FULL
    world.edit(**NEW)
    world.turn()
    assert world.running("worker") == world.status["revision"] != before
    assert "rollout" not in world.status, "there is nothing to go back to"
    assert world.looks_at_nodes == 0, "first workers are left to the scheduler"
    assert spared(world) == 1, "the one that waits goes, with the room that it holds"


@pytest.mark.parametrize(
    "changes",
    [
        {"WAN_RUNTIME_IMAGE": "wan-runtime:2", "WAN_OPERATOR_IMAGE": "wan-operator:2"},
        {"WAN_IMAGE_PULL_SECRETS": "pull"},
    ],
    ids=["image", "pull secret"],
)
def test_the_operators_settings_reach_what_waits(changes: dict[str, str]) -> None:
    world = first()
    parts = ("gateway", "worker")
    for part in parts:
        add_pod(world, part, STUCK)
    before = [world.deployment(part) for part in parts]
    world.settings = settings(**changes)
    world.turn()
    assert [world.deployment(part) for part in parts] != before
    gateway = world.deployment("gateway")
    assert gateway is not None
    assert [spared(world, part) for part in parts] == [gateway["spec"]["replicas"], 1]


def test_a_worker_that_loads_for_the_first_time_is_not_disturbed() -> None:
    world = first()
    add_pod(world, "worker", RUNNING)
    before = world.running("worker")
    world.edit(**NEW)
    world.turn()
    assert world.status["revision"] == before
    assert world.status["rollout"]["phase"] == "Starting"
    assert spared(world) == 0


def test_one_that_ends_again_and_again_does_not_work() -> None:
    world = first()
    add_pod(world, "worker", RUNNING, restartCount=2)
    world.room = FULL
    world.edit(**NEW)
    world.turn()
    assert world.running("worker") == world.status["revision"]
    assert spared(world) == 1


def test_those_that_work_stay_until_others_do() -> None:
    world = serving(RUNNING, STUCK, STUCK)
    world.edit(**NEW)
    world.turn()
    assert spared(world) == 2
    assert world.status["rollout"]["phase"] == "Starting"
    # Its controller has made the new one; the old are still there.
    worker = world.deployment("worker")
    assert worker is not None
    world.replica_set("worker", 2)
    worker["status"]["observedGeneration"] = worker["metadata"]["generation"]
    world.turn(5)
    assert spared(world) == 2
    world.objects["ReplicaSet", "demo-worker-1"]["spec"]["replicas"] = 0
    world.turn(5)
    assert spared(world) == 0
    writes = worker["metadata"]["generation"]
    world.turn(5)
    assert world.objects["Deployment", "demo-worker"]["metadata"]["generation"] == writes + 1


def test_it_holds_until_the_controller_has_seen_it() -> None:
    world = serving(STUCK)
    world.edit(**NEW)
    world.turn()
    assert spared(world) == 1
    world.turn(5)
    assert spared(world) == 1


def test_a_service_at_rest_spares_nobody() -> None:
    world = serving(RUNNING, RUNNING)
    for pod in world.listed("Pod"):
        world.objects.pop(("Pod", pod["metadata"]["name"]))
    worker = world.deployment("worker")
    assert worker is not None
    worker["status"]["readyReplicas"] = 0
    world.turn(5)
    assert spared(world) == 0


def test_more_workers_spare_nobody() -> None:
    world = serving(RUNNING)
    world.edit(replicas=3)
    world.turn()
    assert (world.replicas(), spared(world)) == (3, 0)


def test_a_field_that_is_taken_back_replaces_gateways_that_wait() -> None:
    gateway = tiny()["spec"]["gateway"]
    template = {"podTemplate": {"nodeSelector": {"disk": "none"}}}
    world = first(gateway=gateway | template)
    add_pod(world, "gateway", {"waiting": {"reason": "ContainerCreating"}})
    world.edit(gateway=gateway)
    world.turn()
    made = world.deployment("gateway")
    assert made is not None
    assert spared(world, "gateway") == made["spec"]["replicas"]


def test_a_mended_spec_takes_the_place_of_a_rollout_that_is_stuck() -> None:
    world = serving(RUNNING)
    serves = world.status["revision"]
    world.edit(**NEW)
    world.turn()
    stuck = add_pod(world, "worker", STUCK)
    held = {stuck["metadata"]["uid"]: requests(stuck["spec"])}
    world.room = Room((replace(node("b", gpus=1), requests=held),))
    bad = world.running("worker")
    world.edit(defaults={"frames": 9, "steps": 6})
    world.turn(5)
    assert world.running("worker") not in (bad, serves)
    assert world.status["rollout"]["phase"] == "Starting"
    assert world.status["revision"] == serves
    assert spared(world) == 0, "the one that serves stays"


def test_a_canary_that_waits_is_replaced() -> None:
    world = serving(RUNNING, rollout={"strategy": "Canary"})
    world.edit(**NEW)
    world.turn()
    stuck = add_pod(world, "canary", STUCK)
    held = {stuck["metadata"]["uid"]: requests(stuck["spec"])}
    world.room = Room((replace(node("b", gpus=2), requests=held),))
    bad = world.running("canary")
    world.edit(defaults={"frames": 9, "steps": 6})
    world.turn(5)
    assert world.running("canary") != bad
    assert spared(world, "canary") == 1


def test_the_room_of_workers_that_wait_counts() -> None:
    world = serving(RUNNING, STUCK)
    [_, stuck] = world.listed("Pod")
    held = {stuck["metadata"]["uid"]: requests(stuck["spec"])}
    world.room = Room((replace(node("b", gpus=1), requests=held),))
    world.edit(**NEW)
    world.turn()
    assert world.status["rollout"]["phase"] == "Starting"


def test_where_no_worker_is_left_a_change_waits_for_no_room_and_no_canary() -> None:
    world = serving(STUCK, rollout={"strategy": "Canary"})
    world.status["sizes"] = [{"size": "128x96", "seconds": 1}]
    before = world.status["revision"]
    world.room = FULL
    world.edit(**NEW)
    world.turn()
    assert world.running("worker") != before
    assert world.deployment("canary") is None
    assert world.status["rollout"]["phase"] == "Promoting"
    assert world.status["revision"] == before, "it has served, and is gone back to"


QUOTA = "exceeded quota: small"


def test_what_is_refused_is_tried_again_every_three_seconds() -> None:
    world = first()
    refused = world.replica_set("worker", refused=QUOTA)
    world.turn(2)
    assert world.resyncs == [], "it has just tried"
    for _ in range(9):
        decision = world.turn(1)
        assert decision.requeue_after is not None
        assert decision.requeue_after <= 3
    assert world.resyncs == 3 * ["demo-worker"]
    world.cr["status"]["conditions"] = []
    refused["status"] = {}
    world.turn(60)
    assert len(world.resyncs) == 3


@pytest.mark.parametrize("text", ["yesterday", "2026-01-01"])
def test_a_time_that_somebody_broke_is_written_again(text: str) -> None:
    world = first()
    world.replica_set("worker", refused=QUOTA)
    worker = world.deployment("worker")
    assert worker is not None
    worker["metadata"]["annotations"][RETRIED] = text
    world.turn(30)
    assert world.resyncs == ["demo-worker"]
