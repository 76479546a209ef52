"""The embedded one-node Kubernetes, for tests: `from cluster import ensure_up, component`.

With `e2e/` on the module path. Everything here works on the full cluster of the default state
folder unless another folder is given.
"""

from __future__ import annotations

from pathlib import Path

from cluster import images as images
from cluster import lifecycle, loading, minio, postgres, teardown
from cluster.components import Component
from cluster.errors import ClusterError
from cluster.kubectl import Kubectl, require_safe
from cluster.layout import Layout, default_api_state, default_state, load

__all__ = [
    "ClusterError",
    "Component",
    "Kubectl",
    "component",
    "down",
    "ensure_api_server",
    "ensure_minio",
    "ensure_postgres",
    "ensure_up",
    "images",
    "layout_of",
    "load_image",
    "require_safe",
]


def layout_of(state: Path | None = None) -> Layout:
    """The record of a cluster that was brought up."""
    folder = state or default_state()
    layout = load(folder)
    if layout is None:
        raise ClusterError(f"no embedded cluster in {folder}: run `python3 e2e/cluster up`")
    return layout


def ensure_up(state: Path | None = None) -> Path:
    """Brings the full cluster up, or repairs it; returns a kubeconfig that tests may use."""
    return require_safe(lifecycle.up(state))


def ensure_api_server(state: Path | None = None, extra: tuple[str, ...] = ()) -> Path:
    """Brings up etcd and the API server alone, in seconds and without root."""
    return require_safe(lifecycle.up(state or default_api_state(), full=False, extra=extra))


def component(name: str, state: Path | None = None) -> Component:
    """One process of the cluster, to stop, start or kill."""
    layout = layout_of(state)
    if name not in layout.components:
        raise ClusterError(f"no component {name!r}; there are {', '.join(layout.components)}")
    return Component(layout, name)


def load_image(archive: Path, state: Path | None = None) -> list[str]:
    """Imports an image archive unless it is there; returns the image names."""
    return loading.load(layout_of(state), archive)


def ensure_minio(state: Path | None = None) -> dict[str, str]:
    """Deploys MinIO; returns `endpoint`, `hostEndpoint`, `accessKey`, `secretKey`."""
    return minio.deploy(layout_of(state))


def ensure_postgres() -> dict[str, str]:
    """Deploys PostgreSQL; returns `host`, `user`, `password`, `database`, `url`, `hostUrl`."""
    return postgres.deploy(layout_of())


def down(state: Path | None = None) -> None:
    """Takes a cluster down, with everything it made on this machine."""
    teardown.down(state or default_state())
