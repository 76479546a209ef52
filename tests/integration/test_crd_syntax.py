"""What Kubernetes or the store would refuse later and elsewhere is refused when it is applied, with
the field, the value and what would be right."""

from __future__ import annotations

from typing import Any

import pytest

from integration.apiserver import ApiError
from integration.runs import Manifest, Runs, minimal
from integration.test_crd_evaluations import minimal as minimal_evaluation
from integration.test_crd_services import minimal as minimal_service
from pod_templates import FULL
from unit.controller.test_pod_template import all_pods

SOURCES = {
    "s3:///x": False,
    "s3://b/x": False,
    "s3://wan//x": False,
    "s3://wan/x//y": False,
    "s3://wan/x//": False,
    "s3://wan/x/../y": False,
    "s3://wan/./x": False,
    "s3://wa..n/x": False,
    "s3://wan-/x": False,
    "s3://Wan/x": False,
    "s3://wan": True,
    "s3://wan/": True,
    "s3://wan/x/": True,
    "s3://wan/x y/..z/clips": True,
    "s3://my.wan-1/x": True,
}
NAMES = {
    "a..b": False,
    "a.-b": False,
    "-a": False,
    "A": False,
    "a_b": False,
    "9.a-b": True,
}
KEYS = {
    "cost center": False,
    "-a": False,
    "a/b/c": False,
    "/a": False,
    "a/": False,
    "team_x/a": False,
    "k" * 64: False,
    "example.com/" + "k" * 64: False,
    "p" * 254 + "/a": False,
    "example.com/" + "k" * 63: True,
    "a": True,
    "A.b_c-d": True,
}
VALUES = {"a b": False, "-a": False, "a/b": False, "v" * 64: False, "": True, "A_b.c-d": True}
CPUS = {"-1": False, "0": False, "0m": False, "two": False, "1e-3": True, "500m": True}
BYTES = {"-1Gi": False, "0": False, "64": False, "500m": False, "64GB": False, "1Mi": True}


def pods(**template: Any) -> Manifest:
    return {"podTemplate": template}


RUNS: dict[str, tuple[Manifest, str, dict[str, bool]]] = {
    "source": ({"dataset": {"source": "{}"}}, "spec.dataset.source", SOURCES),
    "prefix": (
        {"store": {"prefix": "{}"}},
        "spec.store.prefix",
        {"a//b": False, "a/../b": False, "./a": False, "/a": False, "a/b..c": True},
    ),
    "bucket": (
        {"store": {"bucket": "{}"}},
        "spec.store.bucket",
        {"a..b": False, "a.-b": False, "a-b.c": True},
    ),
    "secret": (
        {"store": {"secretRef": {"name": "{}"}}},
        "spec.store.secretRef.name",
        NAMES,
    ),
    "label": (pods(labels={"{}": "x"}), "spec.podTemplate.labels", KEYS),
    "label value": (pods(labels={"a": "{}"}), "spec.podTemplate.labels[a]", VALUES),
    "annotation": (
        pods(annotations={"{}": "any text: even this"}),
        "spec.podTemplate.annotations",
        KEYS | {"Example.com/a": True},
    ),
    "node selector": (pods(nodeSelector={"{}": "x"}), "spec.podTemplate.nodeSelector", KEYS),
    "taint": (
        pods(tolerations=[{"key": "{}"}]),
        "spec.podTemplate.tolerations[0].key",
        KEYS,
    ),
    "taint's value": (
        pods(tolerations=[{"key": "a", "value": "{}"}]),
        "spec.podTemplate.tolerations[0].value",
        VALUES,
    ),
    "cpu": ({"resources": {"cpu": "{}"}}, "spec.resources.cpu", CPUS),
    "memory": ({"resources": {"memory": "{}"}}, "spec.resources.memory", BYTES),
    "cache": ({"resources": {"cache": "{}"}}, "spec.resources.cache", BYTES),
}


def filled(template: Any, text: str) -> Any:
    if isinstance(template, dict):
        return {key.replace("{}", text): filled(value, text) for key, value in template.items()}
    if isinstance(template, list):
        return [filled(each, text) for each in template]
    return template.replace("{}", text) if isinstance(template, str) else template


def dry(runs: Runs, manifest: Manifest) -> None:
    runs.server.request("POST", f"{runs.path}?dryRun=All", manifest)


@pytest.mark.parametrize("case", RUNS)
def test_syntax_is_checked(runs: Runs, case: str) -> None:
    spec, field, texts = RUNS[case]
    for text, is_right in texts.items():
        manifest = minimal(**filled(spec, text))
        if is_right:
            dry(runs, manifest)
            continue
        with pytest.raises(ApiError) as refused:
            dry(runs, manifest)
        assert refused.value.code == 422, text
        if len(text) < 63:
            assert text in refused.value.message, "the value is named"
            assert any(each.startswith(field) for each in refused.value.fields), refused.value
            assert "must " in refused.value.message or "is not a key of" in refused.value.message


@pytest.mark.parametrize(("uri", "is_right"), [("s3://wan/", False), ("s3://wan/a", True)])
def test_an_adapter_is_a_file(services: Runs, uri: str, is_right: bool) -> None:
    manifest = minimal_service(adapters=[{"name": "anime", "files": {"uri": uri}}])
    if is_right:
        dry(services, manifest)
        return
    with pytest.raises(ApiError, match=f'no whole bucket; it is "{uri}"') as refused:
        dry(services, manifest)
    assert refused.value.fields == ["spec.adapters[0].files.uri"]


@pytest.mark.parametrize(
    ("toleration", "field"),
    [
        ({"operator": "Equal"}, "operator"),
        ({"value": "x"}, "operator"),
        ({"key": "a", "operator": "Exists", "value": "x"}, "value"),
        ({"key": "a", "tolerationSeconds": 3}, "effect"),
        ({"key": "a", "effect": "NoSchedule", "tolerationSeconds": 3}, "effect"),
        ({"operator": "Exists"}, ""),
        ({"key": "a", "operator": "Exists", "value": ""}, ""),
        ({"key": "a", "effect": "NoExecute", "tolerationSeconds": 3}, ""),
    ],
)
def test_a_toleration_is_one_that_pods_take(runs: Runs, toleration: Any, field: str) -> None:
    manifest = minimal(**pods(tolerations=[toleration]))
    if not field:
        dry(runs, manifest)
        return
    with pytest.raises(ApiError) as refused:
        dry(runs, manifest)
    assert refused.value.fields == [f"spec.podTemplate.tolerations[0].{field}"]


def test_a_warm_up_ends_within_the_run(runs: Runs) -> None:
    dry(runs, minimal(training={"steps": 20, "schedule": {"warmupSteps": 20}}))
    dry(runs, minimal(training={"epochs": 1, "schedule": {"warmupSteps": 20}}))


@pytest.mark.parametrize(("name", "is_right"), [("9lives", False), ("v9", True)])
def test_a_service_has_a_name_that_services_take(services: Runs, name: str, is_right: bool) -> None:
    if is_right:
        dry(services, minimal_service(name))
        return
    with pytest.raises(ApiError, match="must begin with a letter: a Service has") as refused:
        dry(services, minimal_service(name))
    assert refused.value.fields == ["metadata.name"]


def test_a_run_of_several_nodes_has_a_name_that_services_take(runs: Runs) -> None:
    several = {"parallelism": {"nodes": 2}, "training": {"gradientAccumulation": 2}}
    dry(runs, minimal("9lives"))
    dry(runs, minimal("v9", **several))
    with pytest.raises(ApiError, match=r"a letter where parallelism\.nodes is") as refused:
        dry(runs, minimal("9lives", **several))
    assert refused.value.fields == ["metadata.name"]


def test_an_evaluation_with_a_page_has_a_name_that_services_take(evaluations: Runs) -> None:
    rated = {"ratings": {"raters": ["bob"]}}
    dry(evaluations, minimal_evaluation("9lives"))
    dry(evaluations, minimal_evaluation("v9", **rated))
    with pytest.raises(ApiError, match="a letter where ratings are wanted") as refused:
        dry(evaluations, minimal_evaluation("9lives", **rated))
    assert refused.value.fields == ["metadata.name"]


@pytest.mark.parametrize(
    ("host", "is_right"),
    [("a..b", False), ("a.*.b", False), ("*.videos.example", True), ("videos.example", True)],
)
def test_a_host_is_one_that_routes_take(services: Runs, host: str, is_right: bool) -> None:
    gateway = {"keysSecretRef": {"name": "k"}, "ingress": {"host": host}}
    if is_right:
        dry(services, minimal_service(gateway=gateway))
        return
    with pytest.raises(ApiError, match="must be a host name"):
        dry(services, minimal_service(gateway=gateway))


TALL = {"width": 720, "height": 1280}
WIDE = {"width": 1280, "height": 720}


@pytest.mark.parametrize(
    "spec",
    [
        {"effects": [{"name": "a", "sampling": {"size": WIDE}}]},
        {"sizes": [WIDE, TALL], "effects": [{"name": "a", "sampling": {"size": TALL}}]},
        {"sizes": [WIDE, TALL], "defaults": {"size": TALL, "frames": 121}},
        {"defaults": {"size": WIDE}},
        {"limits": {"frames": 161}, "effects": [{"name": "a", "sampling": {"frames": 161}}]},
        {"limits": {"frames": 49}},
    ],
)
def test_what_is_served_may_be_a_default(services: Runs, spec: Manifest) -> None:
    dry(services, minimal_service(**spec))


def test_the_size_of_another_preset_is_no_default(services: Runs) -> None:
    size = {"width": 832, "height": 480}
    with pytest.raises(ApiError, match=r"832x480 is not listed in spec\.sizes"):
        dry(services, minimal_service(defaults={"size": size}))
    model = {"preset": "Wan2.1-I2V-14B-480P", "source": {"s3": "s3://models/480P"}}
    dry(services, minimal_service(defaults={"size": size}, model=model))


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def node_affinity(**expression: Any) -> Manifest:
    terms = [{"matchExpressions": [expression]}]
    return {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": terms}}}}


def spread(**constraint: Any) -> Manifest:
    whole = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    return {"topologySpreadConstraints": [whole | constraint]}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (node_affinity(key="a", operator="In"), "Exists and DoesNotExist take no values"),
        (node_affinity(key="a", operator="In", values=[]), "the other operators need some"),
        (node_affinity(key="a", operator="Exists", values=["b"]), "take no values"),
        (node_affinity(key="a", operator="Gt", values=["many"]), "Gt and Lt take one whole number"),
        (node_affinity(key="a", operator="Gt", values=["1", "2"]), "take one whole number"),
        (node_affinity(key="a b", operator="Exists"), "should match"),
        (node_affinity(key="a", operator="Near"), "supported values"),
        (spread(maxSkew=0), "greater than or equal to 1"),
        (spread(whenUnsatisfiable="Never"), "supported values"),
        (spread(minDomains=2), "minDomains applies to DoNotSchedule only"),
        ({"securityContext": {"runAsUser": 0}}, "greater than or equal to 1"),
        ({"runtimeClassName": "Not_a_name"}, "must be the name of an object"),
    ],
)
def test_a_placement_is_one_that_pods_take(runs: Runs, template: Manifest, message: str) -> None:
    with pytest.raises(ApiError) as refused:
        dry(runs, minimal(podTemplate=template))
    assert message in refused.value.message


def test_a_cpu_limit_is_not_below_the_request(runs: Runs) -> None:
    dry(runs, minimal(resources={"cpu": "2", "cpuLimit": "2000m"}))
    with pytest.raises(ApiError, match="must not be below cpu") as refused:
        dry(runs, minimal(resources={"cpu": "2", "cpuLimit": "1999m"}))
    assert refused.value.fields == ["spec.resources.cpuLimit"]


def test_the_server_takes_pods_of_every_field(runs: Runs, services: Runs) -> None:
    """And keeps what was given, in the resources."""
    part = {"podTemplate": FULL, "resources": {"cpu": "1", "cpuLimit": "2"}}
    stored = runs.create(minimal(**part))["spec"]["podTemplate"]
    assert stored == FULL
    gateway = {"keysSecretRef": {"name": "keys"}} | part
    kept = services.create(minimal_service(gateway=gateway, workers=part))["spec"]
    assert kept["gateway"]["podTemplate"] == kept["workers"]["podTemplate"] == FULL
    runtime_class = {"metadata": {"name": "nvidia"}, "handler": "nvidia"}
    runs.server.request("POST", "/apis/node.k8s.io/v1/runtimeclasses", runtime_class)
    for name, pod in all_pods(FULL, cpuLimit="2").items():
        path = f"/api/v1/namespaces/{runs.namespace}/pods?dryRun=All"
        body = {"metadata": {"name": name, "labels": FULL["labels"]}, "spec": pod}
        runs.server.request("POST", path, body)
