"""A server in the cluster: one StatefulSet in a namespace, both of its name."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from cluster.errors import ClusterError
from cluster.kubectl import Kubectl
from cluster.layout import Layout
from cluster.shell import wait_for

_MANIFESTS = Path(__file__).resolve().parent / "manifests"


def secret(layout: Layout, name: str) -> dict[str, str] | None:
    """What is in the server's Secret; None before it was deployed."""
    shown = Kubectl(layout.kubeconfig)("get", "secret", f"{name}-credentials", "-n", name,
                                       "--ignore-not-found", "-o", "json", check=False)  # fmt: skip
    if not shown.strip():
        return None
    data = json.loads(shown)["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def deploy(layout: Layout, name: str, values: Mapping[str, str]) -> None:
    """Applies `manifests/<name>.yaml` and waits until it serves; a second call changes nothing."""
    kubectl = Kubectl(layout.kubeconfig)
    kubectl.apply(_MANIFESTS / f"{name}.yaml", values)

    def ready() -> bool:
        found = kubectl.get("statefulset", name, "-n", name)
        state = found["status"]
        return bool(
            state.get("observedGeneration") == found["metadata"]["generation"]
            and state.get("readyReplicas") == 1
            and state.get("updateRevision") == state.get("currentRevision")
        )

    try:
        wait_for(f"{name} to serve", ready, every=0.3)
    except ClusterError as error:
        described = kubectl("describe", "pods", "-n", name, check=False)[-2000:]
        raise ClusterError(f"{error}\n{described}") from error


def address(layout: Layout, name: str) -> str:
    """host:port for a process outside the cluster: the Service's, by kube-proxy."""
    spec = Kubectl(layout.kubeconfig).get("service", name, "-n", name)["spec"]
    return f"{spec['clusterIP']}:{spec['ports'][0]['port']}"
