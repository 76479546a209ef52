"""Deploys MinIO into the cluster: the store that every kind of this project writes to."""

from __future__ import annotations

import secrets

from cluster import images, loading, server
from cluster.layout import Layout

ENDPOINT = "http://minio.minio.svc.cluster.local:9000"


def deploy(layout: Layout) -> dict[str, str]:
    """Makes MinIO run and waits until it serves; a second call changes nothing."""
    loading.load(layout, images.minio())
    keys = server.secret(layout, "minio") or {
        "accessKey": "wan-admin",
        "secretKey": secrets.token_urlsafe(24),
    }
    server.deploy(layout, "minio", {**keys, "image": images.MINIO_IMAGE})
    outside = f"http://{server.address(layout, 'minio')}"
    return {"endpoint": ENDPOINT, "hostEndpoint": outside, **keys}
