"""The Helm chart as `helm template` renders it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

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
        timeout=300,
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


GPU = {
    "name": "ours",
    "products": ["NVIDIA-L40S"],
    "memoryGib": 44.4,
    "bf16Tflops": 362,
    "fp8Tflops": 733,
    "bandwidthGbs": 864,
    "pricePerHour": 0.75,
}
FULL: Manifest = {
    "image": {"repository": "registry.example/wan-operator", "tag": "2"},
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
    "database": {"secretName": "wan-database"},
    "clusterId": "west-2",
    "gpuType": "ours",
    "gpuCatalogue": [GPU],
    "modelCache": {"persistentVolumeClaim": "models"},
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
"""Every value that becomes a setting."""
