"""The Helm chart: what it renders, what it grants, what it refuses."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from wan_operator.settings import Settings
from wan_runtime.job import PROGRESS_PORT

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "wan-operator"
NAMESPACE = "wan-system"
KUBERNETES = "1.34.0"

Manifest = dict[str, Any]


class Refused(Exception):
    """Helm did not render; the text is its message."""


def helm(*arguments: str, stdin: str = "") -> str:
    assert "WAN_BIN" in os.environ, "WAN_BIN must name a folder with helm"
    done = subprocess.run(
        [Path(os.environ["WAN_BIN"]) / "helm", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env={"HOME": "/nonexistent"},
    )
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def render(values: Manifest | None = None, release: str = "wan-operator") -> list[Manifest]:
    """Without the CRDs, which take longest to parse, unless `values` has a say on them."""
    values = {"crds": {"enabled": False}} | (values or {})
    arguments = ("template", release, str(CHART), "-n", NAMESPACE, "--kube-version", KUBERNETES)
    text = helm(*arguments, "-f", "-", stdin=json.dumps(values))
    assert "<no value>" not in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]
    return [document for document in yaml.load_all(text, StrictLoader) if document]


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, as the API server does and PyYAML does not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        keys = [self.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"twice in one object: {keys}"
        return super().construct_mapping(node, deep)


@cache
def defaults() -> Manifest:
    found: Manifest = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


@cache
def schema() -> Manifest:
    found: Manifest = json.loads((CHART / "values.schema.json").read_text())
    return found


def of_kind(documents: list[Manifest], kind: str, suffix: str = "") -> Manifest:
    [one] = [
        document
        for document in documents
        if document["kind"] == kind and document["metadata"]["name"] == f"wan-operator{suffix}"
    ]
    return one


def keys(values: Manifest, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all values, sections included."""
    for name, value in values.items():
        yield (*path, name)
        if isinstance(value, dict):
            yield from keys(value, (*path, name))


def at(path: tuple[str, ...]) -> Any:
    value: Any = defaults()
    for name in path:
        value = value[name]
    return value


def nested(path: tuple[str, ...], value: Any) -> Manifest:
    for name in reversed(path):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def environment(documents: list[Manifest]) -> dict[str, str]:
    [container] = of_kind(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", "") for each in container["env"]}


# -- Values and their schema


def test_lint() -> None:
    helm("lint", "--strict", "--kube-version", KUBERNETES, str(CHART))


def test_values_and_schema_have_the_same_keys() -> None:
    def of_schema(node: Manifest, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        for name, child in node.get("properties", {}).items():
            yield (*path, name)
            yield from of_schema(child, (*path, name))

    # Free objects: what is in them is Kubernetes', not ours.
    free = {("resources",)}
    ours = {path for path in keys(defaults()) if not any(path[: len(f)] == f for f in free)} | free
    assert ours == set(of_schema(schema())) - {("global",)}


def test_the_schema_is_closed_all_the_way_down() -> None:
    def open_objects(node: Manifest, path: str) -> Iterator[str]:
        if "properties" in node:
            if node.get("additionalProperties") is not False:
                yield path
            for name, child in node["properties"].items():
                yield from open_objects(child, f"{path}.{name}")

    assert list(open_objects(schema(), "")) == []


@pytest.mark.parametrize("section", [(), ("image",), ("store", "caBundle")], ids="-".join)
def test_an_unknown_key_is_refused(section: tuple[str, ...]) -> None:
    with pytest.raises(Refused, match="additional properties 'mispelt' not allowed"):
        render(nested((*section, "mispelt"), "x"))


def empties(path: tuple[str, ...]) -> list[Any]:
    """But for those that are the default anyway, as every other test renders it."""
    return [empty for empty in (None, type(at(path))()) if empty != at(path)]


@pytest.mark.parametrize("path", list(keys(defaults())), ids="-".join)
def test_a_value_left_empty_renders_or_is_refused_by_name(path: tuple[str, ...]) -> None:
    """Nobody gets a template's stack trace."""
    for empty in empties(path):
        try:
            documents = render(nested(path, empty))
        except Refused as refused:
            message = str(refused)
            assert "values don't meet the specifications of the schema" in message
            assert f"at '/{'/'.join(path)}'" in message or f"'{path[-1]}'" in message
        else:
            of_kind(documents, "Deployment")


REFUSED = [
    ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
    ({"image": {"repository": "wan operator"}}, "/image/repository"),
    ({"image": {"digest": "sha256:abc"}}, "/image/digest"),
    ({"store": {"endpoint": "minio:9000"}}, "/store/endpoint"),
    ({"store": {"endpoint": "http://minio:9000/wan"}}, "/store/endpoint"),
    ({"store": {"bucket": "My_Bucket"}}, "/store/bucket"),
    ({"store": {"prefix": "/runs/"}}, "/store/prefix"),
    ({"watchNamespaces": ["a,b"]}, "/watchNamespaces/0"),
    ({"watchNamespaces": "team-a"}, "/watchNamespaces"),
    ({"log": {"level": "loud"}}, "/log/level"),
    ({"replicas": 3}, "/replicas"),
    ({"runAsUser": 0}, "/runAsUser"),
    ({"reconcile": {"workers": 0}}, "/reconcile/workers"),
    ({"leaderElection": {"leaseSeconds": 1}}, "/leaderElection/leaseSeconds"),
    (
        {"metrics": {"service": {"enabled": False}, "serviceMonitor": {"enabled": True}}},
        "metrics.serviceMonitor.enabled needs metrics.service.enabled",
    ),
]


@pytest.mark.parametrize(("values", "named"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_wrong_value_is_refused_by_name(values: Manifest, named: str) -> None:
    with pytest.raises(Refused) as refused:
        render(values)
    assert named in str(refused.value)


# -- The operator's settings

FULL = {
    "runtime": {
        "image": "wan-runtime@sha256:" + "0" * 64,
        "pullPolicy": "Always",
        "pullSecrets": ["a", "b"],
    },
    "store": {
        "endpoint": "http://minio:9000",
        "bucket": "wan",
        "prefix": "runs/team",
        "region": "eu-west-1",
        "secretName": "wan-store",
        "caBundle": {"configMap": "ca", "key": "bundle.pem"},
    },
    "watchNamespaces": ["team-a", "team-b"],
    "log": {"level": "DEBUG", "format": "text"},
    "reconcile": {
        "workers": 2,
        "writesPerSecond": 1.5,
        "sweepSeconds": 60,
        "progressSeconds": 5,
        "retryBaseSeconds": 0.5,
    },
    "leaderElection": {"leaseSeconds": 30},
}


def settings_of(values: Manifest) -> Settings:
    """As the operator would read them in its pod."""
    downward = {"WAN_NAMESPACE": NAMESPACE, "WAN_POD_NAME": "wan-operator-0"}
    return Settings.from_env(environment(render(values)) | downward)


def test_every_setting_is_a_value() -> None:
    variables = {field.metadata["variable"] for field in dataclasses.fields(Settings)}
    assert set(environment(render(FULL))) == variables


def test_values_reach_the_operator() -> None:
    assert settings_of(FULL) == Settings(
        runtime_image="wan-runtime@sha256:" + "0" * 64,
        image_pull_policy="Always",
        image_pull_secrets=("a", "b"),
        store_endpoint="http://minio:9000",
        store_bucket="wan",
        store_prefix="runs/team",
        store_region="eu-west-1",
        store_secret="wan-store",
        store_ca_config_map="ca",
        store_ca_key="bundle.pem",
        watch_namespaces=("team-a", "team-b"),
        namespace=NAMESPACE,
        lease_name="wan-operator",
        lease_seconds=30,
        identity="wan-operator-0",
        log_level="DEBUG",
        log_format="text",
        workers=2,
        writes_per_second=1.5,
        sweep_seconds=60,
        progress_seconds=5,
        retry_base_seconds=0.5,
    )


def test_the_defaults_of_chart_and_operator_are_the_same() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert settings_of({}) == Settings(
        runtime_image=f"wan-runtime:{version}", namespace=NAMESPACE, identity="wan-operator-0"
    )


# -- Permissions


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


def test_the_operator_gets_what_it_needs_and_nothing_else() -> None:
    granted: dict[str, set[str]] = {}
    for group, resource, verb in rules([of_kind(render(), "ClusterRole")]):
        granted.setdefault(f"{group}/{resource}", set()).add(verb)
    assert granted == {
        "wan-operator.dev/wanfinetunes": {"get", "list", "watch"},
        "wan-operator.dev/wanfinetunes/status": {"patch"},
        "wan-operator.dev/wanfinetunes/finalizers": {"update"},
        "batch/jobs": {"get", "list", "watch", "create", "delete"},
        "/configmaps": {"get", "list", "create", "patch", "delete"},
        "/pods": {"list", "watch"},
        "events.k8s.io/events": {"create"},
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
        written = {verb for _, resource, verb in granted if resource == "wanfinetunes/status"}
        assert not written - {"get", "list", "watch"}


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
    assert set(out) == {53, 443, 6443, PROGRESS_PORT}
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
    [crd] = [each for each in documents if each["kind"] == "CustomResourceDefinition"]
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
