"""The Helm chart: what it renders and what it grants."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import yaml

from unit.rendered import (
    CHART,
    FULL,
    NAMESPACE,
    ROOT,
    Manifest,
    defaults,
    environment,
    of_kind,
    render,
)
from wan_operator import kinds, sweep
from wan_operator.paths import api_of
from wan_runtime.contract.job import PROGRESS_PORT

# -- Permissions

KINDS = [kind.definition.plural for kind in kinds.KINDS.values()]
NOT_MADE = {"Pod", "ReplicaSet"}
"""By the Job's or the Deployment's controller."""


def rules(documents: list[Manifest]) -> Iterator[tuple[str, str, str]]:
    """(group, resource, verb) of every Role and ClusterRole."""
    for document in documents:
        for rule in document.get("rules", []):
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        yield group, resource, verb


@pytest.mark.parametrize("values", [{}, FULL], ids=["cluster", "namespaces"])
def test_permissions(values: Manifest) -> None:
    granted = set(rules(render(values)))
    assert not {rule for rule in granted if "*" in rule}
    assert not {rule for rule in granted if rule[1].startswith("secrets")}
    assert {verb for _, resource, verb in granted if resource.startswith("pods")} == {
        "list",
        "watch",
    }
    assert not {rule for rule in granted if rule[2] in ("impersonate", "bind", "escalate")}


def resource_of(child: str) -> str:
    group, _, plural = api_of(child)
    return f"{group}/{plural}"


def verbs_of(child: str) -> set[str]:
    """What the engine does with children of a kind, by the registry."""
    verbs = {"list"}
    if any(child in kind.watched for kind in kinds.KINDS.values()):
        verbs |= {"watch"}
    if child not in NOT_MADE:
        verbs |= {"get", "create", "patch", "delete"}
    return verbs


def test_the_operator_gets_what_it_needs_and_nothing_else() -> None:
    granted: dict[str, set[str]] = {}
    for group, resource, verb in rules([of_kind(render(), "ClusterRole")]):
        granted.setdefault(f"{group}/{resource}", set()).add(verb)
    assert granted == {
        **{f"wan-operator.dev/{kind}": {"get", "list", "watch"} for kind in KINDS},
        **{f"wan-operator.dev/{kind}/status": {"patch"} for kind in KINDS},
        **{f"wan-operator.dev/{kind}/finalizers": {"update"} for kind in KINDS},
        **{resource_of(child): verbs_of(child) for child in sweep.children()},
        "/nodes": {"list"},
        "kueue.x-k8s.io/workloads": {"list"},
        "events.k8s.io/events": {"create", "list"},
    }


def test_the_lease_is_the_operators_own() -> None:
    documents = render()
    create, hold = of_kind(documents, "Role", "-leader-election")["rules"]
    assert (create["verbs"], "resourceNames" in create) == (["create"], False)
    assert hold["resourceNames"] == [environment(documents)["WAN_LEASE_NAME"]]
    assert set(hold["verbs"]) == {"get", "update"}


def test_with_namespaces_there_is_a_role_in_each_and_none_for_the_cluster() -> None:
    documents = render({"watchNamespaces": ["team-a", "team-b"], "rbac": {"aggregate": False}})
    assert not [each for each in documents if each["kind"] in ("ClusterRole", "ClusterRoleBinding")]
    for kind in ("Role", "RoleBinding"):
        namespaces = {
            each["metadata"]["namespace"]
            for each in documents
            if each["kind"] == kind and each["metadata"]["name"] == "wan-operator"
        }
        assert namespaces == {"team-a", "team-b"}


@pytest.mark.parametrize(
    "values", [{}, {"watchNamespaces": ["team-a"]}], ids=["cluster", "namespaces"]
)
def test_bindings_name_the_account_of_the_pod(values: Manifest) -> None:
    documents = render(values | {"serviceAccount": {"name": "somebody"}})
    subjects = [each["subjects"] for each in documents if each["kind"].endswith("Binding")]
    assert len(subjects) == 2
    account = {"kind": "ServiceAccount", "name": "somebody", "namespace": NAMESPACE}
    assert all(each == [account] for each in subjects)
    pod = of_kind(documents, "Deployment")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "somebody"


def test_users_write_runs_and_nobody_writes_a_status() -> None:
    documents = render()
    for suffix in ("-viewer", "-editor"):
        granted = set(rules([of_kind(documents, "ClusterRole", suffix)]))
        for kind in KINDS:
            assert ("wan-operator.dev", kind, "watch") in granted
            verbs = {verb for _, resource, verb in granted if resource == f"{kind}/status"}
            assert verbs
            assert not verbs - {"get", "list", "watch"}


# -- The pod


def test_the_pod_is_restricted() -> None:
    """As Pod Security `restricted` asks, and with a file system that cannot be written."""
    pod = of_kind(render(), "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod.get("hostNetwork")
    assert {next(key for key in volume if key != "name") for volume in pod["volumes"]} == {
        "emptyDir"
    }


def test_a_platform_may_choose_the_user() -> None:
    pod = of_kind(render({"runAsUser": None}), "Deployment")["spec"]["template"]["spec"]
    assert set(pod["securityContext"]) == {"runAsNonRoot", "seccompProfile"}
    pod = of_kind(render({"runAsUser": 1000650000}), "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == 1000650000


def test_probes_and_metrics_meet_the_port_of_the_operator() -> None:
    documents = render()
    [container] = of_kind(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    [port] = container["ports"]
    assert str(port["containerPort"]) == environment(documents)["WAN_HEALTH_PORT"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": port["name"]}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}
    [service] = of_kind(documents, "Service", "-metrics")["spec"]["ports"]
    assert service["targetPort"] == port["name"]


def test_selectors_find_the_pod() -> None:
    documents = render({"podLabels": {"team": "video", "app.kubernetes.io/name": "other"}})
    labels = of_kind(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels["team"] == "video"
    assert labels["app.kubernetes.io/name"] == "wan-operator", "no label of ours can be replaced"
    for selector in (
        of_kind(documents, "Deployment")["spec"]["selector"]["matchLabels"],
        of_kind(documents, "Service", "-metrics")["spec"]["selector"],
        of_kind(documents, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()


def test_the_old_operator_stops_before_the_new_one_starts() -> None:
    spec = of_kind(render(), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_two_operators_are_apart_and_a_drain_takes_one_at_a_time() -> None:
    alone, documents = render(), render({"replicas": 2})
    assert not [each for each in alone if each["kind"] == "PodDisruptionBudget"], "nothing to keep"
    assert (
        "topologySpreadConstraints" not in of_kind(alone, "Deployment")["spec"]["template"]["spec"]
    )
    template = of_kind(documents, "Deployment")["spec"]["template"]
    labels = template["metadata"]["labels"].items()
    [apart] = template["spec"]["topologySpreadConstraints"]
    assert apart["labelSelector"]["matchLabels"].items() <= labels
    assert apart["topologyKey"] == "kubernetes.io/hostname"
    assert apart["whenUnsatisfiable"] == "ScheduleAnyway", "a cluster of one node may run both"
    budget = of_kind(documents, "PodDisruptionBudget")["spec"]
    assert budget["selector"]["matchLabels"].items() <= labels
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, "wan-operator:0.1.0"),
        ({"repository": "host:5000/team/wan", "tag": "v2"}, "host:5000/team/wan:v2"),
        ({"tag": "v2", "digest": "sha256:" + "a" * 64}, "wan-operator@sha256:" + "a" * 64),
    ],
    ids=["default", "tag", "digest"],
)
def test_the_image(image: Manifest, reference: str) -> None:
    pod = of_kind(render({"image": image}), "Deployment")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == reference


def test_the_network_policy_lets_the_operator_work() -> None:
    policy = of_kind(render(), "NetworkPolicy")["spec"]
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"port": 8080, "protocol": "TCP"}]]
    out = {port["port"]: rule.get("to") for rule in policy["egress"] for port in rule["ports"]}
    assert set(out) == {53, 5353, 443, 6443, PROGRESS_PORT}
    [pods] = out[PROGRESS_PORT] or []
    assert pods["podSelector"]["matchLabels"] == {"app.kubernetes.io/managed-by": "wan-operator"}


def test_a_service_monitor_finds_the_service() -> None:
    documents = render(
        {"metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "p"}}}}
    )
    monitor = of_kind(documents, "ServiceMonitor")
    service = of_kind(documents, "Service", "-metrics")
    assert monitor["metadata"]["labels"]["release"] == "p"
    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


def test_the_hook_of_helm_test_asks_the_operator_and_is_not_taken_for_it() -> None:
    documents = render()
    hook = of_kind(documents, "Pod", "-test")
    assert hook["metadata"]["annotations"]["helm.sh/hook"] == "test"
    service = of_kind(documents, "Service", "-metrics")
    [port] = service["spec"]["ports"]
    [container] = hook["spec"]["containers"]
    host = f"{service['metadata']['name']}.{NAMESPACE}"
    assert container["args"][1] == f"http://{host}:{port['port']}/readyz"
    operator = of_kind(documents, "Deployment")["spec"]["template"]["spec"]
    assert container["image"] == operator["containers"][0]["image"]
    assert container["securityContext"] == operator["containers"][0]["securityContext"]
    assert hook["spec"]["securityContext"] == operator["securityContext"]
    labels = hook["metadata"]["labels"].items()
    assert not service["spec"]["selector"].items() <= labels


def test_the_hook_of_helm_test_waits_for_an_operator_that_is_not_ready_for_a_moment() -> None:
    [container] = of_kind(render(), "Pod", "-test")["spec"]["containers"]
    statuses = iter((503, 200))

    class Operator(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(next(statuses))
            self.end_headers()
            self.wfile.write(b"ok, leading")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Operator) as server:
        Thread(target=server.serve_forever, args=(0.02,)).start()
        url = f"http://127.0.0.1:{server.server_port}/readyz"
        command = [sys.executable, *container["command"][1:], container["args"][0], url]
        done = subprocess.run(command, capture_output=True, text=True)
        server.shutdown()
    assert done.stdout.splitlines()[-1] == "200 ok, leading", done.stderr


def test_without_its_service_there_is_no_hook() -> None:
    documents = render({"metrics": {"service": {"enabled": False}}})
    assert not [each for each in documents if each["kind"] == "Pod"]


# -- CRDs and names


def test_crds_are_those_of_the_repository() -> None:
    rendered = {
        each["metadata"]["name"]: each["spec"]
        for each in render({"crds": defaults()["crds"]})
        if each["kind"] == "CustomResourceDefinition"
    }
    files = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    assert rendered == {each["metadata"]["name"]: each["spec"] for each in files}


@pytest.mark.parametrize("keep", [True, False])
def test_crds_survive_an_uninstall_unless_told_otherwise(keep: bool) -> None:
    documents = render({"crds": {"keep": keep}})
    crds = [each for each in documents if each["kind"] == "CustomResourceDefinition"]
    assert len(crds) == len(kinds.KINDS)
    for crd in crds:
        annotations = crd["metadata"].get("annotations", {})
        assert annotations == ({"helm.sh/resource-policy": "keep"} if keep else {})


def test_crds_may_be_left_to_others() -> None:
    assert defaults()["crds"] == {"enabled": True, "keep": True}
    kinds = {each["kind"] for each in render({"crds": {"enabled": False}})}
    assert "CustomResourceDefinition" not in kinds


def test_long_names_fit() -> None:
    for document in render({"crds": defaults()["crds"]}, release="r" * 53):
        assert len(document["metadata"]["name"]) <= 63
        labels = document["metadata"]["labels"]
        assert all(len(value) <= 63 for value in labels.values())


def test_everything_is_labelled_and_namespaced() -> None:
    cluster = ("CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding")
    for document in render({"crds": defaults()["crds"]}):
        metadata = document["metadata"]
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        assert metadata.get("namespace") == (None if document["kind"] in cluster else NAMESPACE)


def test_the_notes_name_every_kind_and_every_crd() -> None:
    notes = (CHART / "templates" / "NOTES.txt").read_text()
    listed = re.search(r"kubectl delete crd (.+)", notes)
    assert listed is not None
    names = [f"{plural}.wan-operator.dev" for plural in KINDS]
    assert listed[1].split() == sorted(names)
    assert sorted(path.stem.partition("_")[2] for path in (ROOT / "crds").glob("*.yaml")) == sorted(
        KINDS
    )
    for kind in kinds.KINDS.values():
        assert kind.definition.name in notes.partition("kubectl delete crd")[0]
