"""What the Helm chart makes for the pods of fine-tunes and services: fences and scrapes."""

from __future__ import annotations

from typing import Any

import pytest

from unit.made_pods import selects as by_labels
from unit.made_pods import serving
from unit.rendered import NAMESPACE, Manifest, of_kind, render
from wan_operator.api.v1alpha1.inference import LABEL
from wan_operator.resources import left
from wan_operator.resources.labels import MANAGED_BY, MANAGER
from wan_operator.resources.service.names import REVISION
from wan_runtime.contract.job import PROGRESS_PORT


def service_pods() -> list[Manifest]:
    """Templates of all that runs of a service, a canary too."""
    found = [each["spec"]["template"] for each in serving().listed("Deployment")]
    assert len(found) == 3
    return found


def selects(selector: Manifest, pod: Manifest) -> bool:
    """Whether a selector finds a pod."""
    return by_labels(selector, pod["metadata"]["labels"])


def ports_out(policy: Manifest) -> list[int]:
    return [port["port"] for way in policy["spec"]["egress"] for port in way["ports"]]


# -- Fences


def test_step_pods_may_be_fenced_in_wherever_they_run() -> None:
    fenced = {"enabled": True, "namespaces": ["team-a", "team-b"], "storePorts": [9000]}
    documents = render({"networkPolicy": {"workloads": fenced}})
    policies = [each for each in documents if each["metadata"]["name"].endswith("-workloads")]
    assert [each["metadata"]["namespace"] for each in policies] == ["team-a", "team-b"]
    for policy in policies:
        spec = policy["spec"]
        assert spec["podSelector"]["matchLabels"] == {MANAGED_BY: MANAGER}
        [way_in] = spec["ingress"]
        assert way_in["ports"] == [{"port": PROGRESS_PORT, "protocol": "TCP"}]
        [source] = way_in["from"]
        pod = of_kind(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
        assert source["podSelector"]["matchLabels"].items() <= pod.items()
        assert source["namespaceSelector"]["matchLabels"] == {
            "kubernetes.io/metadata.name": NAMESPACE
        }
        assert ports_out(policy) == [53, 53, 5353, 5353, 9000]


def test_the_ports_of_dns_are_a_value_and_hold_for_both_protocols() -> None:
    fenced = {"workloads": {"enabled": True, "namespaces": ["team-a"]}, "dnsPorts": [1053]}
    documents = render({"networkPolicy": fenced})
    for suffix in ("", "-workloads"):
        way = of_kind(documents, "NetworkPolicy", suffix)["spec"]["egress"][0]
        assert way == {
            "ports": [{"port": 1053, "protocol": protocol} for protocol in ("UDP", "TCP")]
        }


def test_step_pods_are_fenced_in_the_watched_namespaces_by_default() -> None:
    values = {"watchNamespaces": ["team-c"], "networkPolicy": {"workloads": {"enabled": True}}}
    [policy] = [each for each in render(values) if each["metadata"]["name"].endswith("-workloads")]
    assert policy["metadata"]["namespace"] == "team-c"


def test_gateways_workers_and_clearing_jobs_reach_the_database_and_what_they_call() -> None:
    fenced: dict[str, Any] = {"enabled": True, "namespaces": ["team-a"], "storePorts": [9000]}
    policy = of_kind(render({"networkPolicy": {"workloads": fenced}}), "NetworkPolicy", "-services")
    assert policy["metadata"]["namespace"] == "team-a"
    assert policy["spec"]["policyTypes"] == ["Egress"], "it is no fence against who may call them"
    assert ports_out(policy) == [5432, 443]
    for pod in (*service_pods(), {"metadata": {"labels": left.LABELS}}):
        assert selects(policy["spec"]["podSelector"], pod)
    step = {"metadata": {"labels": {MANAGED_BY: MANAGER, "app.kubernetes.io/component": "train"}}}
    assert not selects(policy["spec"]["podSelector"], step), "steps need neither"
    fenced |= {"databasePorts": [6432], "webPorts": [8000, 6432]}
    policy = of_kind(render({"networkPolicy": {"workloads": fenced}}), "NetworkPolicy", "-services")
    assert ports_out(policy) == [6432, 8000]


def test_pods_that_train_together_reach_each_other_at_all_ports() -> None:
    fenced: dict[str, Any] = {"enabled": True, "namespaces": ["team-a"]}
    documents = render({"networkPolicy": {"workloads": fenced}})
    policy = of_kind(documents, "NetworkPolicy", "-trainings")["spec"]
    [way_in], [way_out] = policy["ingress"], policy["egress"]
    assert (way_in.keys(), way_out.keys()) == ({"from"}, {"to"}), "at all ports"
    assert way_in["from"] == way_out["to"] == [{"podSelector": policy["podSelector"]}]
    for step, trains in (("train", True), ("train-low-noise", True), ("encode", False)):
        labels = {MANAGED_BY: MANAGER, "app.kubernetes.io/component": step}
        assert selects(policy["podSelector"], {"metadata": {"labels": labels}}) is trains


# -- Scrapes


def monitor(part: str, values: Manifest | None = None) -> Manifest:
    on = {"metrics": {"podMonitor": {"enabled": True, "labels": {"release": "p"}}}}
    return of_kind(render(on | (values or {})), "PodMonitor", f"-{part}")


def test_a_pod_monitor_finds_gateways_and_workers_wherever_they_run() -> None:
    assert not [each for each in render() if each["kind"] == "PodMonitor"]
    made = monitor("services")
    assert made["metadata"]["labels"]["release"] == "p"
    assert made["spec"]["namespaceSelector"] == {"any": True}
    [endpoint] = made["spec"]["podMetricsEndpoints"]
    for pod in service_pods():
        assert selects(made["spec"]["selector"], pod)
        ports = {port["name"]: port for port in pod["spec"]["containers"][0]["ports"]}
        assert ports[endpoint["port"]]["containerPort"] == PROGRESS_PORT
    assert made["spec"]["podTargetLabels"] == [LABEL, REVISION]


@pytest.mark.parametrize("part", ["services", "steps"])
def test_a_pod_monitor_keeps_to_the_watched_namespaces(part: str) -> None:
    spec = monitor(part, {"watchNamespaces": ["team-a", "team-b"]})["spec"]
    assert spec["namespaceSelector"] == {"matchNames": ["team-a", "team-b"]}


def test_a_services_own_policies_let_prometheus_in() -> None:
    """Policies add up: the fence around step pods takes nothing away."""
    world = serving()
    for pod in service_pods():
        ways = [
            way
            for policy in world.listed("NetworkPolicy")
            if selects(policy["spec"]["podSelector"], pod)
            for way in policy["spec"]["ingress"]
            if {"port": PROGRESS_PORT, "protocol": "TCP"} in way["ports"]
        ]
        assert {"namespaceSelector": {}} in [each for way in ways for each in way["from"]]
