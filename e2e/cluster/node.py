"""Brings the node to Ready and gives it its pretended GPUs."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from cluster.errors import ClusterError, tail
from cluster.kubectl import Kubectl
from cluster.layout import FAKE_GPUS, NODE, Layout
from cluster.shell import PATIENCE, wait_for

_GPU = "nvidia.com/gpu"


def find(layout: Layout) -> dict[str, Any] | None:
    """The Node object, or None while the kubelet hasn't registered it."""
    shown = Kubectl(layout.kubeconfig)(
        "get", "node", NODE, "--ignore-not-found", "-o", "json", check=False
    )
    return json.loads(shown) if shown.strip() else None


def _ready_condition(node: dict[str, Any]) -> dict[str, Any]:
    for condition in node.get("status", {}).get("conditions", []):
        if condition["type"] == "Ready":
            return dict(condition)
    return {}


def ready(node: dict[str, Any] | None) -> bool:
    """Whether the kubelet says the node can take pods."""
    return node is not None and _ready_condition(node).get("status") == "True"


def has_gpus(node: dict[str, Any] | None) -> bool:
    """Whether the scheduler sees the pretended GPUs."""
    if node is None:
        return False
    return all(
        node["status"].get(part, {}).get(_GPU) == str(FAKE_GPUS)
        for part in ("capacity", "allocatable")
    )


def _heartbeat(node: dict[str, Any]) -> float:
    stamp = _ready_condition(node).get("lastHeartbeatTime")
    if not stamp:
        return 0.0
    return datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def _patch_gpus(layout: Layout) -> None:
    escaped = _GPU.replace("/", "~1")
    patch = [
        {"op": "add", "path": f"/status/{part}/{escaped}", "value": str(FAKE_GPUS)}
        for part in ("capacity", "allocatable")
    ]
    Kubectl(layout.kubeconfig)(
        "patch", "node", NODE, "--subresource=status", "--type=json", "-p", json.dumps(patch)
    )


def _knows_its_pods(layout: Layout) -> bool:
    """Whether the kubelet has read its pods; before that, `exec` says that none exists."""
    kubectl = Kubectl(layout.kubeconfig)
    selector = f"--field-selector=spec.nodeName={NODE}"
    bound = {pod["metadata"]["uid"] for pod in kubectl.get("pods", "-A", selector)["items"]}
    shown = kubectl("get", "--raw", f"/api/v1/nodes/{NODE}/proxy/pods", check=False)
    if not shown.strip():
        return False
    return bound <= {pod["metadata"]["uid"] for pod in json.loads(shown)["items"] or []}


def prepare(layout: Layout) -> None:
    """Waits until the kubelet that runs now has reported and knows its pods; sets the GPUs.

    A kubelet that starts may reset extended resources to zero when it registers, so the patch
    has to come after its first status report.
    """
    record = layout.state / "run" / "kubelet.json"
    started = int(record.stat().st_mtime)
    if time.time() - started > PATIENCE:
        started = 0  # it has long since reported

    def reported() -> bool:
        node = find(layout)
        return ready(node) and node is not None and _heartbeat(node) >= started

    try:
        wait_for(f"node {NODE} to be Ready", reported, every=0.3)
        if started:
            wait_for("the kubelet to know its pods", lambda: _knows_its_pods(layout))
    except ClusterError as error:
        raise ClusterError(f"{error}; {tail(layout.log('kubelet'))}") from error
    for _ in range(20):
        if has_gpus(find(layout)):
            return
        _patch_gpus(layout)
    raise ClusterError(f"{NODE} does not keep its pretended GPUs; {tail(layout.log('kubelet'))}")
