"""Why a service or its change does not go on, in its conditions as soon as the cluster knows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from unit.controller.service_world import World, tiny
from wan_operator.reconcile.observed import WarningEvent

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
    said = f"ReplicaSet demo-{part}-1 cannot create its pod: exceeded quota: gpus, used: 4"
    for type_, status in (("Ready", "False"), ("Reconciling", "True")):
        assert world.condition(type_)[:2] == (status, "QuotaExceeded")
        assert said in world.condition(type_)[2]


def test_a_replica_set_that_is_refused_is_told() -> None:
    world = starting()
    said = 'Failed to create new replica set "demo-worker-1": exceeded quota: sets'
    worker = world.deployment("worker")
    assert worker is not None
    progress = {"type": "Progressing", "status": "False", "reason": "ReplicaSetCreateError"}
    worker["status"] = {"conditions": [progress | {"message": said}]}
    world.turn()
    assert world.condition("Ready")[1] == "QuotaExceeded"
    assert f"Deployment demo-worker cannot create its pod: {said}" in world.condition("Ready")[2]


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
    assert (
        "0 of 1 workers take videos: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu; pod "
        in said
    )


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


def test_a_node_that_rejects_pods_is_told() -> None:
    """Each is made, scheduled and rejected within a second."""
    world = starting()
    said = "Allocate failed due to no healthy devices present, which is unexpected"
    pod = world.pod("worker", phase="Failed", reason="UnexpectedAdmissionError", message=said)
    pod["spec"] = pod["spec"] | {"nodeName": "gpu-1"}
    world.pod("worker", phase="Pending")
    world.turn()
    assert world.condition("Ready")[1] == "PodRejected"
    assert f"node gpu-1 rejects pods: {said}" in world.condition("Ready")[2]
    world.turn(120)
    assert world.condition("Ready")[1] != "PodRejected", "others were taken in since"


@pytest.mark.parametrize(("strategy", "part"), [("Surge", "worker"), ("Canary", "canary")])
@pytest.mark.parametrize("kind", ["image", "quota"])
def test_a_rollout_that_cannot_go_on_says_so_at_once(strategy: str, part: str, kind: str) -> None:
    world = rolling(strategy)
    if kind == "image":
        world.pod(part, **kept("ImagePullBackOff", "no such tag"))
        reason, said = "ImagePullBackOff", "image wan-runtime:1 cannot be pulled: no such tag"
    else:
        world.replica_set(part, 2, refused=QUOTA)
        reason, said = "QuotaExceeded", "exceeded quota: gpus, used: 4, limited: 4"
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


def test_a_refusal_that_does_not_pass_is_stalled_and_no_reason_to_go_back() -> None:
    """Whoever makes the class has mended it, without another spec."""
    world = rolling()
    said = 'pods "x" is forbidden: no PriorityClass with name urgent was found'
    world.replica_set("worker", 2, refused=said)
    world.turn(5)
    assert world.status["rollout"]["phase"] == "Starting"
    assert world.condition("Stalled")[:2] == ("True", "PriorityClassNotFound")
    assert world.condition("Ready")[0] == "True"
    world.objects["ReplicaSet", "demo-worker-2"]["status"] = {}
    world.turn(5)
    assert world.condition("Stalled") == ("", "", "")


def warned(reason: str, message: str, seconds: float = 0) -> WarningEvent:
    time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return WarningEvent(kind="Pod", name="x", reason=reason, message=message, time=time)


@pytest.mark.parametrize("part", ["gateway", "worker"])
def test_a_volume_that_is_missing_is_told(part: str) -> None:
    world = starting()
    pod = world.pod(part, **kept("ContainerCreating", container=part))
    said = 'MountVolume.SetUp failed for volume "keys" : secret "wan-keys" not found'
    world.warnings = {pod["metadata"]["uid"]: warned("FailedMount", said)}
    world.turn(5)
    assert world.condition("Ready")[1] == "SecretNotFound"
    assert 'secret "wan-keys" not found' in world.condition("Ready")[2]


def test_the_newest_words_are_those_of_the_event() -> None:
    """A ReplicaSet's condition keeps those of its first try."""
    world = starting()
    replica_set = world.replica_set("worker", refused=QUOTA)
    said = 'Error creating: pods "x" is forbidden: no PriorityClass with name urgent was found'
    world.warnings = {replica_set["metadata"]["uid"]: warned("FailedCreate", said, 30)}
    world.turn(40)
    assert world.condition("Ready")[1] == "PriorityClassNotFound"
    world.warnings = {replica_set["metadata"]["uid"]: warned("FailedCreate", said, -30)}
    world.turn(5)
    assert world.condition("Ready")[1] == "QuotaExceeded", "of a refusal that is over"


@pytest.mark.parametrize(
    ("status", "seconds", "asks"),
    [
        (kept("ContainerCreating"), 1, False),
        (kept("ContainerCreating"), 5, True),
        (kept("ErrImagePull", "no such tag"), 5, False),
    ],
    ids=["young", "unexplained", "explained"],
)
def test_events_are_read_where_they_may_say_more(
    status: dict[str, Any], seconds: float, asks: bool
) -> None:
    world = starting()
    world.pod("worker", **status)
    world.now += timedelta(seconds=seconds)
    assert world.asks_warnings() == asks
