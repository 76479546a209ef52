"""The values of the Helm chart: their schema, and how they reach the operator."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from unit.rendered import (
    CHART,
    FULL,
    GPU,
    KUBERNETES,
    NAMESPACE,
    ROOT,
    Manifest,
    Refused,
    at,
    defaults,
    environment,
    helm,
    keys,
    nested,
    of_kind,
    render,
    schema,
)
from wan_operator.crdgen import chart
from wan_operator.settings import Settings
from wan_runtime.planner.gpus import Gpu, with_own

# -- Values and their schema


def test_lint() -> None:
    helm("lint", "--strict", "--kube-version", KUBERNETES, str(CHART))


def test_only_clusters_that_leave_alone_what_was_stored_are_taken() -> None:
    """Older ones refuse each edit and status of an object that the CRDs of its time took."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["kubeVersion"] == ">=1.30.0-0"
    assert "Kubernetes 1.30 or newer" in (ROOT / "README.md").read_text()
    only = ("--show-only", "templates/operator/serviceaccount.yaml")
    assert helm("template", str(CHART), "--kube-version", "1.30.4-gke.1", *only)
    with pytest.raises(Refused, match=r"incompatible with Kubernetes v1\.29\.14"):
        helm("template", str(CHART), "--kube-version", "1.29.14", *only)


def test_values_and_schema_have_the_same_keys() -> None:
    def of_schema(node: Manifest, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        for name, child in node.get("properties", {}).items():
            yield (*path, name)
            yield from of_schema(child, (*path, name))

    # Free objects: what is in them is Kubernetes', not ours.
    free = {("resources",), ("postgresql", "resources")}
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
    (
        {"modelCache": {"persistentVolumeClaim": "models", "hostPath": "/var/models"}},
        "modelCache: set persistentVolumeClaim or hostPath, not both",
    ),
    ({"modelCache": {"hostPath": "models"}}, "/modelCache/hostPath"),
    (
        {"networkPolicy": {"workloads": {"enabled": True}}},
        "networkPolicy.workloads.enabled needs networkPolicy.workloads.namespaces or",
    ),
    ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
    ({"image": {"repository": "wan operator"}}, "/image/repository"),
    ({"image": {"digest": "sha256:abc"}}, "/image/digest"),
    ({"store": {"endpoint": "minio:9000"}}, "/store/endpoint"),
    ({"store": {"endpoint": "http://minio:9000/wan"}}, "/store/endpoint"),
    ({"store": {"bucket": "My_Bucket"}}, "/store/bucket"),
    ({"store": {"prefix": "/runs/"}}, "/store/prefix"),
    ({"database": {"secretName": "My_Database"}}, "/database/secretName"),
    ({"clusterId": "West"}, "/clusterId"),
    ({"postgresql": {"storage": "10 GB"}}, "/postgresql/storage"),
    ({"postgresql": {"enabled": "yes"}}, "/postgresql/enabled"),
    ({"gpuType": "an H100"}, "/gpuType"),
    ({"gpuCatalogue": [{"name": "x"}]}, "/gpuCatalogue/0"),
    ({"gpuCatalogue": [{**GPU, "vendor": "x"}]}, "/gpuCatalogue/0"),
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
        operator_image="registry.example/wan-operator:2",
        image_pull_policy="Always",
        image_pull_secrets=("a", "b"),
        store_endpoint="http://minio:9000",
        store_bucket="wan",
        store_prefix="runs/team",
        store_region="eu-west-1",
        store_secret="wan-store",
        store_ca_config_map="ca",
        store_ca_key="bundle.pem",
        database_secret="wan-database",
        cluster_id="west-2",
        gpu_catalogue=with_own([Gpu.model_validate(GPU)]),
        gpu_type="ours",
        model_cache="models",
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
        runtime_image=f"wan-runtime:{version}",
        operator_image=f"wan-operator:{version}",
        namespace=NAMESPACE,
        identity="wan-operator-0",
    )


# -- The README


def test_the_charts_readme_has_the_words_of_its_values() -> None:
    text = chart.readme(
        "# About the file.\n\n# -- Of a.\na: 1\n# Section\n# of two.\nb:\n"
        "  # -- Of c: x | y,\n  # and more.\n  c: []\n  d:\n    e: {}\n"
        "  # -- Whole.\n  resources:\n    cpu: 1\nresources:\n  cpu: 1\n"
    )
    assert text.split("| --- | --- | --- |\n")[1].splitlines() == [
        "| `a` | `1` | Of a. |",
        "| `b` |  | Section of two. |",
        "| `b.c` | `[]` | Of c: x \\| y, and more. |",
        "| `b.d.e` | `{}` |  |",
        '| `b.resources` | `{"cpu": 1}` | Whole. |',
        '| `resources` | `{"cpu": 1}` |  |',
    ]


def test_every_value_of_the_chart_is_explained() -> None:
    rows = (ROOT / chart.README).read_text().splitlines()
    assert [row for row in rows if row.startswith("| `") and row.endswith("|  |")] == []
