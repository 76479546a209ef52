"""Whether nodes have room for a pod, and what is told where they have none."""

from __future__ import annotations

from typing import Any

import pytest

from wan_operator.reconcile.room import Node, Room, described, has_gpus, requests, takes_pods
from wan_operator.resources.quantity import amount

Raw = dict[str, Any]
GPU = "nvidia.com/gpu"
H100 = {"nvidia.com/gpu.product": "H100"}
TAINT = {"key": "gpu", "value": "video", "effect": "NoSchedule"}


def container(cpu: str, memory: str = "0", gpus: int = 0, **more: Any) -> Raw:
    return {"resources": {"requests": {"cpu": cpu, "memory": memory, GPU: str(gpus)}}} | more


def worker(**more: Any) -> Raw:
    return {"containers": [container("8", "64Gi", 1)]} | more


def on_it(uid: str, **spec: Any) -> Raw:
    return {"metadata": {"uid": uid}, "spec": {"containers": [container("1")]} | spec}


def raw(name: str = "a", gpus: int = 8, **more: Any) -> Raw:
    allocatable = {"cpu": "64", "memory": "512Gi", "pods": "110", GPU: str(gpus)}
    return {
        "metadata": {"name": name, "labels": more.get("labels", {})},
        "spec": {"taints": more.get("taints", [])},
        "status": {"allocatable": allocatable | more.get("allocatable", {})},
    }


def node(*pods: Raw, **more: Any) -> Node:
    return Node.read(raw(**more), pods)


def placed(room: Room, pod: Raw, count: int = 1) -> int:
    return room.after(pod, count)[1]


@pytest.mark.parametrize(
    ("free", "lacking"),
    [
        ({"allocatable": {GPU: "0"}}, "0 of 0 nvidia.com/gpu"),
        ({"allocatable": {"cpu": "7999m"}}, "7.999 of 7.999 cpu"),
        ({"allocatable": {"memory": "65535Mi"}}, "64Gi of 64Gi memory"),
        ({"allocatable": {"pods": "0"}}, "0 of 0 pods"),
    ],
    ids=["gpu", "cpu", "memory", "pods"],
)
def test_each_resource_counts(free: Raw, lacking: str) -> None:
    room = Room((node(**free),))
    assert placed(room, worker()) == 0
    assert placed(Room((node(),)), worker()) == 1
    assert room.closest(worker()) == f"node a comes closest, with {lacking} free"


def test_what_pods_ask_for_is_not_free() -> None:
    holder = on_it("x", containers=[container("1", "1Gi", 8)])
    room = Room((node(holder),))
    assert placed(room, worker()) == 0
    assert "0 of 8 nvidia.com/gpu free" in room.closest(worker())
    assert placed(room.without({"x"}), worker()) == 1
    assert placed(room.without({"another"}), worker()) == 0


def test_several_need_not_share_a_node() -> None:
    room = Room((node(name="a", gpus=1), node(name="b", gpus=1)))
    left, count = room.after(worker(), 2)
    assert count == 2
    assert placed(left, worker()) == 0
    assert placed(room, worker(), 3) == 2


def test_the_node_that_lacks_least_is_told() -> None:
    full = on_it("x", containers=[container("60", "500Gi", 7)])
    room = Room((node(full, name="a"), node(name="b", gpus=0), node(name="c", gpus=0)))
    assert room.closest(worker()) == "node b comes closest, with 0 of 0 nvidia.com/gpu free"
    room = Room((node(full, name="a"),))
    told_of = "node a comes closest, with 4 of 64 cpu, 12Gi of 512Gi memory free"
    assert room.closest(worker()) == told_of


@pytest.mark.parametrize(
    ("tolerations", "suits"),
    [
        ([], False),
        ([{"operator": "Exists"}], True),
        ([{"key": "gpu", "operator": "Exists"}], True),
        ([{"key": "gpu", "value": "video"}], True),
        ([{"key": "gpu", "operator": "Equal", "value": "video", "effect": "NoSchedule"}], True),
        ([{"key": "gpu", "value": "text"}], False),
        ([{"key": "cpu", "operator": "Exists"}], False),
        ([{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}], False),
    ],
)
def test_taints_and_what_tolerates_them(tolerations: list[Raw], suits: bool) -> None:
    room = Room((node(taints=[TAINT]),), closed=2)
    assert placed(room, worker(tolerations=tolerations)) == suits
    if not suits:
        said = "2 are cordoned or not ready, and 1 lack a label of its node selector or affinity, "
        assert said in room.closest(worker(tolerations=tolerations))


def test_a_taint_that_only_prefers_keeps_nobody_away() -> None:
    assert placed(Room((node(taints=[TAINT | {"effect": "PreferNoSchedule"}]),)), worker()) == 1


def test_the_node_selector() -> None:
    pod = worker(nodeSelector=H100)
    assert placed(Room((node(),)), pod) == 0
    assert placed(Room((node(labels=H100 | {"zone": "a"}),)), pod) == 1
    assert Room().closest(pod) == "no node has nvidia.com/gpu"


def test_which_nodes_take_pods() -> None:
    ready = {"type": "Ready", "status": "True"}
    found = raw()
    found["status"]["conditions"] = [{"type": "MemoryPressure", "status": "False"}, ready]
    assert takes_pods(found)
    assert not takes_pods(found | {"spec": {"unschedulable": True}}), "cordoned"
    found["status"]["conditions"] = [ready | {"status": "Unknown"}]
    assert not takes_pods(found), "its kubelet is silent"
    assert has_gpus(found)
    assert not has_gpus({"status": {"allocatable": {"cpu": "4"}}})


def test_a_pod_asks_for_the_most_of_its_start_and_its_run() -> None:
    sidecar = container("2", restartPolicy="Always")
    pod = worker(
        initContainers=[container("3"), sidecar, container("7")], overhead={"memory": "1Gi"}
    )
    assert requests(pod)["cpu"] == 10_000, "8 and the sidecar's 2, more than the step's 7 and 2"
    assert requests(worker(initContainers=[sidecar, container("9")]))["cpu"] == 11_000
    assert requests(pod)["memory"] == 65 * 2**30 * 1000
    assert requests(worker(resources={"requests": {"cpu": "20"}}))["cpu"] == 20_000, "of the pod"
    assert requests(worker())["pods"] == 1000
    assert described(requests(worker())) == "1 nvidia.com/gpu, 8 cpu, 64Gi memory"


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", "0.5"), (".5", "0.5"), ("2", "2"), ("1Ki", "1024"), ("1e3", "1000"), ("5.", "5")],
)
def test_quantities(text: str, number: str) -> None:
    assert str(amount(text).normalize()) == str(amount(number).normalize())


def test_what_is_no_quantity() -> None:
    with pytest.raises(ValueError, match="'8 GPUs' is not a quantity"):
        amount("8 GPUs")


def required(*terms: Raw) -> Raw:
    selector = {"nodeSelectorTerms": list(terms)}
    return worker(
        affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": selector}}
    )


def expressions(*each: tuple[str, str, list[str]]) -> Raw:
    return {
        "matchExpressions": [
            {"key": key, "operator": operator, **({"values": values} if values else {})}
            for key, operator, values in each
        ]
    }


@pytest.mark.parametrize(
    ("terms", "fits"),
    [
        ([expressions(("pool", "In", ["a", "b"]))], True),
        ([expressions(("pool", "In", ["c"]))], False),
        ([expressions(("pool", "In", ["c"])), expressions(("cores", "Exists", []))], True),
        ([expressions(("pool", "In", ["a"]), ("cores", "NotIn", ["64"]))], False),
        ([expressions(("other", "NotIn", ["64"]))], True),
        ([expressions(("other", "DoesNotExist", []))], True),
        ([expressions(("pool", "DoesNotExist", []))], False),
        ([expressions(("cores", "Gt", ["63"]))], True),
        ([expressions(("cores", "Gt", ["64"]))], False),
        ([expressions(("cores", "Lt", ["65"]))], True),
        ([expressions(("pool", "Gt", ["1"]))], False),
        ([expressions(("other", "Lt", ["1"]))], False),
        ([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}], True),
        ([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}], False),
        ([{}], False),
    ],
)
def test_what_the_affinity_requires_of_nodes_counts(terms: list[Raw], fits: bool) -> None:
    room = Room((node(labels={"pool": "a", "cores": "64"}),))
    assert placed(room, required(*terms)) == int(fits)
    if not fits:
        assert "lack a label of its node selector or affinity" in room.closest(required(*terms))
