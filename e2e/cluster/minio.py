"""Deploys MinIO into the cluster: the store that every kind of this project writes to."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path

from cluster import images, loading
from cluster.errors import ClusterError
from cluster.kubectl import Kubectl
from cluster.layout import Layout
from cluster.shell import wait_for

ENDPOINT = "http://minio.minio.svc.cluster.local:9000"
_MANIFEST = Path(__file__).resolve().parent / "manifests" / "minio.yaml"


def credentials(layout: Layout) -> dict[str, str]:
    """The keys in the cluster's Secret, or new ones when there is none yet."""
    kubectl = Kubectl(layout.kubeconfig)
    shown = kubectl("get", "secret", "minio-credentials", "-n", "minio",
                    "--ignore-not-found", "-o", "json", check=False)  # fmt: skip
    if shown.strip():
        data = json.loads(shown)["data"]
        return {name: base64.b64decode(data[name]).decode() for name in ("accessKey", "secretKey")}
    return {"accessKey": "wan-admin", "secretKey": secrets.token_urlsafe(24)}


def endpoint_from_host(layout: Layout) -> str:
    """MinIO's address for a process outside the cluster: the Service's, by kube-proxy."""
    service = Kubectl(layout.kubeconfig).get("service", "minio", "-n", "minio")
    return f"http://{service['spec']['clusterIP']}:9000"


def deploy(layout: Layout) -> dict[str, str]:
    """Makes MinIO run and waits until it serves; a second call changes nothing."""
    loading.load(layout, images.minio())
    kubectl = Kubectl(layout.kubeconfig)
    keys = credentials(layout)
    kubectl.apply(_MANIFEST, {**keys, "image": images.MINIO_IMAGE})

    def ready() -> bool:
        state = kubectl.get("statefulset", "minio", "-n", "minio")["status"]
        return bool(
            state.get("readyReplicas") == 1
            and state.get("updateRevision") == state.get("currentRevision")
        )

    try:
        wait_for("MinIO to serve", ready, timeout=120, every=0.3)
    except ClusterError as error:
        described = kubectl("describe", "pods", "-n", "minio", check=False)[-2000:]
        raise ClusterError(f"{error}\n{described}") from error
    return {"endpoint": ENDPOINT, "hostEndpoint": endpoint_from_host(layout), **keys}
