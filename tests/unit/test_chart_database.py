"""The PostgreSQL that the Helm chart may run beside the operator."""

from __future__ import annotations

import base64

from unit.rendered import NAMESPACE, Manifest, environment, of_kind, render
from unit.test_chart_workloads import selects, service_pods
from wan_operator.resources import left
from wan_operator.resources.labels import MANAGED_BY, MANAGER

KINDS = {"StatefulSet", "Service", "Secret", "PodDisruptionBudget", "NetworkPolicy"}


def database(release: str = "wan-operator", **values: object) -> list[Manifest]:
    """What it adds, with these values of `postgresql`."""
    documents = render({"postgresql": {"enabled": True, **values}}, release)
    return [each for each in documents if each["metadata"]["name"].endswith("-db")]


def pod(documents: list[Manifest]) -> Manifest:
    found: Manifest = of_kind(documents, "StatefulSet", "-db")["spec"]["template"]
    return found


def test_nobody_gets_one_unasked() -> None:
    assert {each["kind"] for each in database()} == KINDS
    assert not [each for each in render() if each["metadata"]["name"].endswith("-db")]


def test_its_pod_is_restricted() -> None:
    spec = pod(database())["spec"]
    operator = of_kind(render(), "Deployment")["spec"]["template"]["spec"]
    assert spec["securityContext"] == {
        **operator["securityContext"],
        "runAsUser": 999,
        "runAsGroup": 999,
        "fsGroup": 999,
        "fsGroupChangePolicy": "OnRootMismatch",
    }
    [container] = spec["containers"]
    [other] = operator["containers"]
    assert container["securityContext"] == other["securityContext"]
    assert spec["automountServiceAccountToken"] is False
    assert container["resources"]["requests"]


def test_selectors_find_its_pod_and_the_operators_do_not() -> None:
    documents = database()
    labels = pod(documents)["metadata"]["labels"].items()
    stateful = of_kind(documents, "StatefulSet", "-db")["spec"]
    service = of_kind(documents, "Service", "-db")["spec"]
    budget = of_kind(documents, "PodDisruptionBudget", "-db")["spec"]
    policy = of_kind(documents, "NetworkPolicy", "-db")["spec"]
    for selector in (stateful["selector"], budget["selector"], policy["podSelector"]):
        assert selector["matchLabels"].items() <= labels
    assert service["selector"].items() <= labels
    assert not of_kind(render(), "Deployment")["spec"]["selector"]["matchLabels"].items() <= labels
    [port] = stateful["template"]["spec"]["containers"][0]["ports"]
    assert (service["ports"][0]["port"], service["ports"][0]["targetPort"]) == (5432, port["name"])
    assert port["containerPort"] == 5432


def test_a_node_is_drained_also_of_a_database_that_does_not_start() -> None:
    """Of one that is not ready, a budget of one replica allows no eviction otherwise."""
    budget = of_kind(database(), "PodDisruptionBudget", "-db")["spec"]
    assert budget["maxUnavailable"] == of_kind(database(), "StatefulSet", "-db")["spec"]["replicas"]
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_an_upgrade_of_the_operator_does_not_restart_it() -> None:
    labels = pod(database(image="postgres:15"))["metadata"]["labels"]
    assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(labels)


def test_only_the_pods_of_services_and_what_clears_up_after_them_reach_it() -> None:
    policy = of_kind(database(), "NetworkPolicy", "-db")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy
    [way_in] = policy["ingress"]
    assert way_in["ports"] == [{"port": 5432, "protocol": "TCP"}]
    [source] = way_in["from"]
    assert source["namespaceSelector"] == {}
    for caller in (*service_pods(), {"metadata": {"labels": left.LABELS}}):
        assert selects(source["podSelector"], caller)
    step = {"metadata": {"labels": {MANAGED_BY: MANAGER, "app.kubernetes.io/component": "train"}}}
    assert not selects(source["podSelector"], step)


def test_only_watched_namespaces_reach_it() -> None:
    values = {"postgresql": {"enabled": True}, "watchNamespaces": ["team-a", "team-b"]}
    policy = of_kind(render(values), "NetworkPolicy", "-db")["spec"]
    [namespaces] = policy["ingress"][0]["from"][0]["namespaceSelector"]["matchExpressions"]
    assert namespaces["key"] == "kubernetes.io/metadata.name"
    assert namespaces["values"] == ["team-a", "team-b"]


def test_without_network_policies_it_has_none() -> None:
    documents = render({"postgresql": {"enabled": True}, "networkPolicy": {"enabled": False}})
    assert not [each for each in documents if each["kind"] == "NetworkPolicy"]


def test_its_password_is_made_and_outlives_the_release_as_its_volume_does() -> None:
    documents = database()
    secret = of_kind(documents, "Secret", "-db")
    assert secret["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert len(base64.b64decode(secret["data"]["password"])) == 32
    assert password_from(documents) == {"name": "wan-operator-db", "key": "password"}


def test_a_password_of_ones_own() -> None:
    documents = database(secretName="mine")
    assert {each["kind"] for each in documents} == KINDS - {"Secret"}
    assert password_from(documents) == {"name": "mine", "key": "password"}


def password_from(documents: list[Manifest]) -> Manifest:
    [container] = pod(documents)["spec"]["containers"]
    [found] = [each for each in container["env"] if each["name"] == "POSTGRES_PASSWORD"]
    reference: Manifest = found["valueFrom"]["secretKeyRef"]
    return reference


def test_its_image_and_volume() -> None:
    documents = database()
    assert pod(documents)["spec"]["containers"][0]["image"] == "wan-postgres:0.1.0"
    [claim] = of_kind(documents, "StatefulSet", "-db")["spec"]["volumeClaimTemplates"]
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "10Gi"}},
    }
    documents = database(image="postgres:15", storage="1Ti", storageClassName="fast")
    assert pod(documents)["spec"]["containers"][0]["image"] == "postgres:15"
    [claim] = of_kind(documents, "StatefulSet", "-db")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Ti"


def test_the_longest_names_fit() -> None:
    """Its pods carry its name, a dash and ten letters in a label of 63."""
    for document in database(release="r" * 53):
        assert len(document["metadata"]["name"]) <= 52
        assert all(len(value) <= 63 for value in document["metadata"]["labels"].values())
        assert document["metadata"]["namespace"] == NAMESPACE


def test_the_operator_does_not_take_it_for_the_services_database() -> None:
    """It never reads a URL: services find the Secret in their own namespace."""
    assert "WAN_DATABASE_SECRET" not in environment(render({"postgresql": {"enabled": True}}))
