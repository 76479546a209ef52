"""Why a pod does not run yet, in words."""

from __future__ import annotations

import pytest

from unit.controller.world import World

CAUSES = [
    ("ErrImagePull", "rpc error: not found", "ImagePullBackOff", "registry.example/x"),
    ("CreateContainerConfigError", 'secret "minio" not found', "SecretNotFound", '"minio"'),
    (
        "CreateContainerConfigError",
        "couldn't find key accessKey in Secret team/minio",
        "SecretNotFound",
        "accessKey",
    ),
    ("CreateContainerConfigError", 'configmap "x" not found', "ConfigMapNotFound", '"x"'),
    ("ContainerCreating", "", "PodStarting", "node-1"),
]


@pytest.mark.parametrize(("why", "text", "reason", "telling"), CAUSES)
def test_the_deepest_cause_of_waiting_is_told(
    why: str, text: str, reason: str, telling: str
) -> None:
    world = World()
    world.settle()
    world.waits(why, text)
    decision = world.settle()
    assert world.leading == ("Reconciling", reason)
    assert telling in world.status["conditions"][0]["message"]
    assert decision.requeue_after is not None
    assert decision.requeue_after <= 30
    world.starts()
    world.settle()
    assert world.leading == ("Running", "StepRunning"), "healed"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", "Unschedulable"),
        ('persistentvolumeclaim "models" not found', "VolumePending"),
    ],
)
def test_the_schedulers_words_are_passed_on(text: str, reason: str) -> None:
    world = World()
    world.settle()
    refused = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": text,
    }
    world.pods["demo-prepare-1"]["status"]["conditions"] = [refused]
    world.settle()
    assert world.leading == ("Reconciling", reason)
    where = text.replace("not found", "not found in namespace team")
    assert world.status["conditions"][0]["message"] == where


LABELS = {"nvidia.com/gpu.product": "H100"}
NO_NODE = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector"
PREEMPTION = (
    ". no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not "
    "helpful for scheduling."
)


@pytest.mark.parametrize(
    ("said", "needs"),
    [
        (
            NO_NODE + PREEMPTION,
            f"{NO_NODE}; podTemplate.nodeSelector needs a node with the labels "
            "nvidia.com/gpu.product=H100",
        ),
        (
            "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. preemption: none.",
            "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory; pod "
            "demo-prepare-1-abcde requests cpu 500m, memory 1Gi",
        ),
    ],
)
def test_what_a_pod_asks_of_a_node_is_said(said: str, needs: str) -> None:
    world = World()
    world.settle()
    pod = world.pods["demo-prepare-1"]
    pod["spec"]["nodeSelector"] = LABELS
    [container] = pod["spec"]["containers"]
    container["resources"] = {"requests": {"cpu": "500m", "memory": "1Gi"}}
    refused = {"type": "PodScheduled", "status": "False", "message": said}
    pod["status"]["conditions"] = [refused]
    world.settle()
    assert world.status["conditions"][0]["message"] == needs.replace(
        "demo-prepare-1-abcde", pod["metadata"]["name"]
    )


def test_a_job_without_a_pod_is_told_after_a_minute_and_a_queued_one_at_once() -> None:
    world = World()
    world.settle()
    del world.pods["demo-prepare-1"]
    world.settle()
    assert world.leading == ("Reconciling", "StepStarting")
    world.passes(61)
    world.settle()
    assert world.leading == ("Reconciling", "PodNotCreated")
    world.jobs["demo-prepare-1"]["spec"]["suspend"] = True
    world.settle()
    assert world.leading == ("Reconciling", "Queued")


def test_a_silent_node_is_told_and_its_pod_is_not_doubled() -> None:
    world = World()
    world.reach("train")
    world.starts()
    world.pods["demo-train-1"]["metadata"]["deletionTimestamp"] = world.now.isoformat()
    world.passes(600)
    world.settle()
    assert world.leading == ("Reconciling", "NodeLost")
    assert world.open_job == "demo-train-1"
