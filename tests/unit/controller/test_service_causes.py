"""Why a service or its change does not go on, in its conditions as soon as the cluster knows."""

from __future__ import annotations

from typing import Any

import pytest

from unit.controller.service_world import World, tiny

QUOTA = 'pods "demo-worker-1-x" is forbidden: exceeded quota: gpus, used: 4, limited: 4'


def kept(reason: str, message: str = "", container: str = "worker") -> dict[str, Any]:
    """Status of a pod whose container waits."""
    state = {"waiting": {"reason": reason, "message": message}}
    status = {"name": container, "ready": False, "restartCount": 0, "state": state}
    return {"phase": "Pending", "containerStatuses": [status]}


def unschedulable(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


def serving(**spec: Any) -> World:
    world = World(tiny(**spec))
    world.settle()
    return world


def starting() -> World:
    """One whose first pods are made."""
    world = World(tiny())
    world.turn()
    return world


def rolling(strategy: str = "Surge") -> World:
    """One whose change has begun."""
    world = serving(rollout={"strategy": strategy})
    world.edit(defaults={"frames": 9, "steps": 4})
    world.turn()
    return world


@pytest.mark.parametrize("part", ["gateway", "worker"])
def test_pods_that_are_refused_are_told_in_the_api_servers_words(part: str) -> None:
    world = starting()
    world.replica_set(part, refused=QUOTA)
    world.turn()
    said = f"ReplicaSet demo-{part}-1 is refused: {QUOTA}"
    for type_, status in (("Ready", "False"), ("Reconciling", "True")):
        assert world.condition(type_)[:2] == (status, "PodNotCreated")
        assert said in world.condition(type_)[2]


def test_a_replica_set_that_is_refused_is_told() -> None:
    world = starting()
    said = 'Failed to create new replica set "demo-worker-1": exceeded quota: sets'
    worker = world.deployment("worker")
    assert worker is not None
    progress = {"type": "Progressing", "status": "False", "reason": "ReplicaSetCreateError"}
    worker["status"] = {"conditions": [progress | {"message": said}]}
    world.turn()
    assert world.condition("Ready")[1] == "PodNotCreated"
    assert f"Deployment demo-worker is refused: {said}" in world.condition("Ready")[2]


def test_a_replica_set_that_wants_no_pod_is_no_cause() -> None:
    world = starting()
    world.replica_set("worker", 1, replicas=0, refused=QUOTA)
    world.replica_set("worker", 2)
    world.turn()
    assert world.condition("Ready")[:2] == ("False", "GatewayStarting")


def test_what_keeps_workers_is_told_while_gateways_start() -> None:
    world = starting()
    world.pod("gateway", phase="Pending")
    world.pod("worker", **unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu"))
    world.turn()
    assert world.condition("Ready")[:2] == ("False", "Unschedulable")
    said = world.condition("Ready")[2]
    assert said.startswith("no pod of the gateway answers: pod demo-gateway-0 waits")
    assert said.endswith("0 of 1 workers take videos: 0/3 nodes are available: 3 Insufficient "
                         "nvidia.com/gpu")  # fmt: skip


def test_a_pod_that_only_starts_hides_no_other() -> None:
    world = starting()
    world.pod("worker", phase="Pending")
    world.pod("worker", **kept("ErrImagePull", "no such tag"))
    world.turn()
    assert world.condition("Ready")[1] == "ImagePullBackOff"
    assert "image wan-runtime:1 cannot be pulled: no such tag" in world.condition("Ready")[2]


def test_a_pod_that_was_evicted_is_no_cause() -> None:
    """Another has taken its place."""
    world = starting()
    terminated = {"exitCode": 10, "message": "as it was"}
    [status] = kept("")["containerStatuses"]
    world.pod("worker", phase="Failed",
              containerStatuses=[status | {"state": {"terminated": terminated}}])  # fmt: skip
    world.turn()
    assert world.condition("Stalled") == ("", "", "")
    assert "as it was" not in world.condition("Ready")[2]


@pytest.mark.parametrize(("strategy", "part"), [("Surge", "worker"), ("Canary", "canary")])
@pytest.mark.parametrize("kind", ["image", "quota"])
def test_a_rollout_that_cannot_go_on_says_so_at_once(strategy: str, part: str, kind: str) -> None:
    world = rolling(strategy)
    if kind == "image":
        world.pod(part, **kept("ImagePullBackOff", "no such tag"))
        reason, said = "ImagePullBackOff", "image wan-runtime:1 cannot be pulled: no such tag"
    else:
        world.replica_set(part, 2, refused=QUOTA)
        reason, said = "PodNotCreated", QUOTA
    world.turn(5)
    assert world.status["rollout"]["phase"] == "Starting"
    assert said in world.status["rollout"]["message"]
    assert world.condition("Reconciling")[:2] == ("True", reason)
    assert said in world.condition("Reconciling")[2]
    status, ready, message = world.condition("Ready")
    assert (status, ready) == ("True", "Serving"), "the old one serves"
    assert said in message, "what kubectl get shows first"


def test_a_gateway_that_cannot_follow_a_change_is_told() -> None:
    world = serving()
    missing = 'secret "wan-keys" not found in namespace team'
    world.pod("gateway", **kept("CreateContainerConfigError", missing, "gateway"))
    world.turn()
    assert world.condition("Ready")[:2] == ("True", "Serving")
    assert world.condition("Ready")[2].endswith(f"answers. A change waits: {missing}")
    assert world.condition("Reconciling")[:2] == ("True", "SecretNotFound")


def test_a_change_that_only_starts_is_no_cause() -> None:
    world = rolling()
    world.pod("worker", phase="Pending")
    world.turn()
    assert world.condition("Reconciling")[1] == "RollingOut"
    assert "A change waits" not in world.condition("Ready")[2]
