"""A rollout that waits for a GPU, by the nodes and pods of a real API server, with no more rights
than the chart gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from integration.apiserver import ApiServer
from integration.cluster import now
from integration.operator_process import Operator, eventually
from integration.runs import ROOT, load
from integration.test_controller_rights import FULL_NAME, account_of_the_chart
from integration.test_service_controller import NOTHING_AWAITED, Team, settled

Raw = dict[str, Any]
GPU = "nvidia.com/gpu"


class Node:
    """One with two GPUs, whose labels only one test's workers select."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self.server, self.namespace = server, namespace
        self.path = f"/api/v1/nodes/gpu-{namespace}"
        self.labels = {"test": namespace}
        metadata = {"name": f"gpu-{namespace}", "labels": self.labels}
        server.request("POST", "/api/v1/nodes", {"metadata": metadata})
        self.edit({"spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}})
        self.is_ready(True)

    def edit(self, body: Raw, part: str = "") -> None:
        self.server.request(
            "PATCH", self.path + part, body, content_type="application/merge-patch+json"
        )

    def is_ready(self, ready: bool) -> None:
        resources = {"cpu": "4", "memory": "16Gi", "pods": "110", GPU: "2"}
        resources["ephemeral-storage"] = "100Gi"
        condition = {"type": "Ready", "status": str(ready), "reason": "Test"}
        condition |= {"lastHeartbeatTime": now(), "lastTransitionTime": now()}
        status = {"capacity": resources, "allocatable": resources, "conditions": [condition]}
        self.edit({"status": status}, "/status")

    def runs(self, name: str, gpus: int) -> str:
        """A pod on it; its path."""
        resources = {"limits": {GPU: str(gpus)}}
        container = {"name": "c", "image": "x", "resources": resources}
        spec = {"nodeName": f"gpu-{self.namespace}", "containers": [container]}
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        self.server.request("POST", pods, {"metadata": {"name": name}, "spec": spec})
        self._cached(name, True)
        return f"{pods}/{name}"

    def ends(self, pod: str) -> None:
        """It stays for its log, and holds nothing."""
        self.server.request(
            "PATCH",
            f"{pod}/status",
            {"status": {"phase": "Succeeded"}},
            content_type="application/merge-patch+json",
        )
        self._cached(pod.rsplit("/", 1)[1], False)

    def _cached(self, pod: str, holds: bool) -> None:
        """Waits until the API server's cache, which the operator reads, knows it too."""
        fields = f"spec.nodeName=gpu-{self.namespace},status.phase!=Succeeded"
        path = f"/api/v1/pods?resourceVersion=0&fieldSelector={fields}"

        def is_known() -> bool:
            found = [each["metadata"]["name"] for each in self.server.request("GET", path)["items"]]
            return (pod in found) is holds

        eventually(is_known, f"pod {pod} in the cache")

    def remove(self) -> None:
        self.server.request("DELETE", self.path)


@pytest.fixture
def node(kubernetes: ApiServer, namespace: str) -> Iterator[Node]:
    made = Node(kubernetes, namespace)
    yield made
    made.remove()


@pytest.fixture
def serving(kubernetes: ApiServer, operator: Operator, namespace: str, node: Node) -> Team:
    """A service, and an operator that may see the nodes of a cluster."""
    operator.kubeconfig = account_of_the_chart(kubernetes, namespace, "watchNamespaces=null")
    operator.settings |= {"WAN_LEASE_NAME": FULL_NAME}
    operator.start()
    team = Team(kubernetes, namespace)
    team.create(**NOTHING_AWAITED, workers=workers(node))
    team.works()
    return team


def workers(node: Node) -> Raw:
    tolerations = [{"key": "gpu", "operator": "Exists"}]
    return {"podTemplate": {"nodeSelector": node.labels, "tolerations": tolerations}}


def revision(team: Team) -> str:
    found: str = team.child("deployments", "demo-worker")["spec"]["template"]["metadata"]["labels"][
        "wan-operator.dev/revision"
    ]
    return found


def message(team: Team) -> str:
    found: str = team.get()["status"]["rollout"]["message"]
    return found


def test_a_rollout_waits_for_a_gpu_and_begins_by_itself(
    serving: Team, operator: Operator, node: Node
) -> None:
    first = revision(serving)
    held = node.runs("training", 2)
    serving.edit(f"{serving.services.path}/demo", {"spec": {"defaults": {"steps": 4}}})
    serving.reaches("Reconciling", "True", "WaitingForCapacity")
    assert f"node gpu-{node.namespace} comes closest, with 0 of 2 {GPU} free" in message(serving)
    before = {key: each["metadata"]["resourceVersion"] for key, each in settled(serving).items()}
    version = serving.get()["metadata"]["resourceVersion"]

    node.edit({"spec": {"unschedulable": True}})
    serving.server.request("DELETE", held, {"gracePeriodSeconds": 0, "kind": "DeleteOptions"})
    eventually(lambda: "1 are cordoned or not ready" in message(serving), "the cordon to be seen")
    assert serving.get()["metadata"]["resourceVersion"] != version
    after = {key: each["metadata"]["resourceVersion"] for key, each in settled(serving).items()}
    assert after == before, "the service is not touched while its change waits"

    node.edit({"spec": {"unschedulable": None}})
    eventually(lambda: revision(serving) != first, "the rollout to begin")
    eventually(lambda: serving.get()["status"]["rollout"]["phase"] == "Starting", "its status")
    events = f"/apis/events.k8s.io/v1/namespaces/{serving.namespace}/events"
    told = [each["reason"] for each in serving.server.request("GET", events)["items"]]
    assert "WaitingForCapacity" in told
    assert operator.terminate() == 0
    assert "forbidden: user" not in operator.log.read_text().lower()


def test_a_canary_needs_room_for_all_that_it_adds(serving: Team, node: Node) -> None:
    """Two more than serve: itself, and the first of those that follow it."""
    path = f"{serving.services.path}/demo"
    node.ends(node.runs("exported", 2))
    held = node.runs("training", 1)
    rollout = {"strategy": "Canary"}
    serving.edit(path, {"spec": {"defaults": {"steps": 4}, "rollout": rollout}})
    serving.reaches("Reconciling", "True", "WaitingForCapacity")
    assert "2 more workers" in message(serving)
    assert "1 of them can start" in message(serving)
    assert ("deployments", "demo-canary") not in serving.children()
    serving.server.request("DELETE", held, {"gracePeriodSeconds": 0, "kind": "DeleteOptions"})
    serving.child("deployments", "demo-canary")


def test_two_that_change_at_once_do_not_count_on_one_gpu(serving: Team, node: Node) -> None:
    other = load(ROOT / "examples" / "inference-tiny.yaml")
    other["metadata"]["name"] = "other"
    other["spec"] |= NOTHING_AWAITED | {"workers": workers(node)}
    serving.services.create(other)
    serving.works("other")
    node.runs("training", 1)
    for name in ("demo", "other"):
        serving.edit(f"{serving.services.path}/{name}", {"spec": {"defaults": {"steps": 4}}})

    def phases() -> set[str]:
        found = [serving.get(name)["status"].get("rollout", {}) for name in ("demo", "other")]
        return {each.get("phase", "") for each in found}

    eventually(lambda: phases() == {"Starting", "Waiting"}, "one to begin and one to wait")


def test_a_cluster_that_grows_is_not_waited_for(serving: Team, node: Node) -> None:
    first = revision(serving)
    node.is_ready(False)
    path = f"{serving.services.path}/demo"
    serving.edit(path, {"spec": {"defaults": {"steps": 4}}})
    serving.reaches("Reconciling", "True", "WaitingForCapacity")
    serving.edit(path, {"spec": {"rollout": {"capacity": "Assume"}}})
    eventually(lambda: revision(serving) != first, "the rollout to begin")


def test_where_nodes_are_not_to_be_seen_room_is_assumed(
    kubernetes: ApiServer, operator: Operator, namespace: str
) -> None:
    setting = f"watchNamespaces={{{namespace}}}"
    # A ClusterRole of the same name, of a release that watches everything, must not help out.
    kubernetes.kubectl("delete", "clusterrolebinding", FULL_NAME, "--ignore-not-found")
    operator.kubeconfig = account_of_the_chart(kubernetes, namespace, setting)
    operator.settings |= {"WAN_LEASE_NAME": FULL_NAME}
    operator.start()
    team = Team(kubernetes, namespace)
    team.create(**NOTHING_AWAITED)
    team.works()
    first = revision(team)
    team.edit(f"{team.services.path}/demo", {"spec": {"defaults": {"steps": 4}}})
    eventually(lambda: revision(team) != first, "the rollout to begin")
    events = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"

    def is_told() -> bool:
        notes = [each["note"] for each in kubernetes.request("GET", events)["items"]]
        return any("room on them is assumed" in note for note in notes)

    eventually(is_told, "it to be told")
