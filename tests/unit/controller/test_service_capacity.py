"""A rollout begins once nodes have room for the workers that it adds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unit.controller.service_world import World, node, report, tiny, track
from wan_operator.reconcile.room import Room, requests

FULL = Room((node("full", gpus=0),))
NEW = {"defaults": {"frames": 9, "steps": 4}}


def free(gpus: int) -> Room:
    return Room((node("b", gpus=gpus),))


def changed(room: Room, **spec: Any) -> tuple[World, str]:
    """A service whose workers shall become others; and the revision that serves."""
    world = World(tiny(**{"rollout": {"deadlineSeconds": 600}} | spec))
    world.settle()
    assert world.looks_at_nodes == 0, "the first workers are left to the scheduler"
    world.room = room
    world.edit(**NEW)
    world.turn()
    return world, world.status["revision"]


def canary(**more: Any) -> dict[str, Any]:
    return {"rollout": {"strategy": "Canary", "canary": {"minVideos": 1} | more}}


@pytest.mark.parametrize("strategy", ["Surge", "Canary"])
def test_without_room_nothing_begins(strategy: str) -> None:
    world, before = changed(FULL, rollout={"strategy": strategy})
    assert world.running("worker") == before
    assert world.deployment("canary") is None
    assert [name for kind, name in world.objects if kind == "ConfigMap"] == [
        "demo-gateway", "demo-rollout", f"demo-{before}",
    ]  # fmt: skip
    assert world.condition("Ready")[:2] == ("True", "Serving")
    status, reason, message = world.condition("Reconciling")
    assert (status, reason) == ("True", "WaitingForCapacity")
    assert "each with 1 nvidia.com/gpu, 0.1 cpu, 0.5Gi ephemeral-storage, 1.5Gi memory" in message
    assert "node full comes closest, with 0 of 0 nvidia.com/gpu free" in message
    assert "spec.rollout.strategy Recreate needs none" in message
    assert world.status["rollout"]["phase"] == "Waiting"
    assert [each for each in world.events if "Waiting" in each] == world.events[-1:]


def test_what_waits_writes_nothing_and_looks_now_and_then() -> None:
    world, _ = changed(FULL)
    world.settle()
    before = world.cr["status"]
    told = len(world.events)
    decision = world.turn(3600)
    assert world.cr["status"] == before
    assert len(world.events) == told
    assert decision.requeue_after == 15.0


def test_it_begins_by_itself_and_has_its_whole_time() -> None:
    world, before = changed(FULL)
    world.turn(3600)
    world.room = free(1)
    world.turn(15)
    new = world.running("worker")
    assert new != before
    assert world.status["rollout"]["phase"] == "Starting"
    assert world.status["rollout"]["revision"] == new
    world.roll(ready=False)
    world.room = FULL  # its own pod is there now
    world.turn(599)
    assert world.status["rollout"]["phase"] == "Starting"
    world.settle()
    assert world.status["revision"] == new
    assert world.looks_at_nodes == 3, "none once it has begun"


def test_who_renders_is_who_is_offered_meanwhile() -> None:
    world, _ = changed(FULL, sizes=[{"width": 128, "height": 96}])
    served = world.served()
    world.edit(sizes=[{"width": 96, "height": 128}], limits={"frames": 33})
    world.turn()
    assert world.served()["sizes"] == served["sizes"]
    assert world.served()["defaults"] == served["defaults"]
    assert world.served()["limits"]["frames"] == 33, "what is the gateway's own holds at once"


@pytest.mark.parametrize(
    ("spec", "gpus"),
    [
        ({"rollout": {"strategy": "Surge"}, "replicas": 4}, 1),
        (canary(), 2),
        (canary(replicas=3), 4),
        (canary() | {"replicas": 0}, 1),
    ],
    ids=["surge", "canary", "large canary", "canary of none"],
)
def test_how_many_run_beside_those_that_serve(spec: dict[str, Any], gpus: int) -> None:
    """A canary stays until it is followed by all, and they surge."""
    world, _ = changed(free(gpus - 1), **spec)
    assert world.status["rollout"]["phase"] == "Waiting"
    said = world.status["rollout"]["message"]
    assert said.startswith(f"{gpus} more worker")
    assert (f", {gpus - 1} of them can start: node b" in said) == (gpus > 1)
    world.room = free(gpus)
    world.turn(15)
    assert world.status["rollout"]["phase"] == "Starting"


@pytest.mark.parametrize(
    "spec",
    [
        {"rollout": {"strategy": "Recreate"}},
        {"rollout": {"capacity": "Assume"}},
        {"rollout": {"strategy": "Surge"}, "replicas": 0},
    ],
    ids=["Recreate", "Assume", "no worker"],
)
def test_what_needs_no_look(spec: dict[str, Any]) -> None:
    world, _ = changed(FULL, **spec)
    assert world.status.get("rollout", {}).get("phase") != "Waiting"
    assert world.looks_at_nodes == 0


@pytest.mark.parametrize("rollout", [{"strategy": "Recreate"}, {"capacity": "Assume"}])
def test_one_that_waits_is_let_go(rollout: dict[str, Any]) -> None:
    world, before = changed(FULL)
    world.edit(rollout=rollout)
    world.turn()
    assert world.running("worker") != before


def test_taking_the_change_back_ends_the_wait() -> None:
    world, before = changed(FULL)
    world.edit(defaults={"frames": 9, "steps": 8})
    world.settle()
    assert "rollout" not in world.status
    assert world.status["revision"] == before
    assert world.condition("Reconciling") == ("", "", "")


def test_more_workers_are_no_rollout() -> None:
    world, _ = changed(FULL)
    world.edit(replicas=3)
    world.turn()
    assert world.replicas() == 3
    assert world.status["rollout"]["phase"] == "Waiting"


def test_where_nodes_may_not_be_read_room_is_assumed_and_that_is_told() -> None:
    world, before = changed(Room(is_known=False))
    assert world.running("worker") != before
    assert world.events[-1].endswith("may not look at nodes, so room on them is assumed")


def test_what_has_begun_goes_on_if_its_status_was_not_written() -> None:
    world, before = changed(free(1))
    new = world.running("worker")
    world.status["rollout"] |= {"phase": "Waiting"}
    world.room = FULL
    world.turn()
    assert world.running("worker") == new != before
    assert world.status["rollout"]["phase"] == "Starting"


def test_an_attempt_that_is_superseded_leaves_its_room() -> None:
    world, _ = changed(free(1))
    kept = world.pod("worker")
    kept["metadata"]["labels"] = kept["metadata"]["labels"] | {
        "wan-operator.dev/revision": world.status["revision"]
    }
    going = world.pod("worker")
    held = node("b", gpus=1)
    world.room = Room(
        (replace(held, requests={going["metadata"]["uid"]: requests(going["spec"])}),)
    )
    first = world.running("worker")
    world.edit(defaults={"frames": 9, "steps": 6})
    world.turn()
    assert world.running("worker") != first
    assert world.status["rollout"]["phase"] == "Starting"


def test_one_that_stands_for_a_worker_is_no_room() -> None:
    """Of two workers one is of the attempt before: it stays until another can serve."""
    world, _ = changed(free(1), replicas=2)
    for revision in (world.status["revision"], world.running("worker")):
        pod = world.pod("worker")
        pod["metadata"]["labels"] |= {"wan-operator.dev/revision": revision}
        running = {"name": "worker", "restartCount": 0, "state": {"running": {}}}
        pod["status"] = {"containerStatuses": [running]}
    held = {pod["metadata"]["uid"]: requests(pod["spec"])}
    world.room = Room((replace(node("b", gpus=1), requests=held),))
    world.edit(defaults={"frames": 9, "steps": 6})
    world.turn()
    assert world.status["rollout"]["phase"] == "Waiting"


def test_what_is_left_is_told_to_the_next() -> None:
    world, _ = changed(FULL)
    world.room = free(2)
    decision = world.turn(15)
    assert decision.room_left is not None
    pod = world.listed("Deployment")[-1]["spec"]["template"]["spec"]
    assert decision.room_left.after(pod, 2)[1] == 1


def test_a_canary_that_is_good_waits_for_nobody() -> None:
    world, _ = changed(free(2), **canary())
    world.roll()
    world.turn()
    world.room = FULL
    world.report = report(stable=track(10, 0, 10.0), canary=track(5, 0, 10.0))
    world.turn(15)
    assert world.status["rollout"]["phase"] == "Promoting"
