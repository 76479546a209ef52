"""How raters reach the page of an evaluation, and what may reach it."""

from __future__ import annotations

from typing import Any

from wan_operator.resources.labels import Manifest, Owner, labels, metadata, selector
from wan_runtime.contract.evaluation import RATING_PORT
from wan_runtime.contract.job import PROGRESS_PORT

HTTP = 80


def page_name(owner: Owner) -> str:
    return f"{owner.name}-ratings"


def url(owner: Owner) -> str:
    """Address within the cluster; elsewhere, of what `kubectl port-forward` opens."""
    return f"http://{page_name(owner)}.{owner.namespace}.svc"


def page_service(owner: Owner, step: str) -> Manifest:
    """Service of the pod of a step, which serves the page."""
    port = {"name": "http", "port": HTTP, "targetPort": RATING_PORT, "protocol": "TCP"}
    spec = {"type": "ClusterIP", "selector": selector(owner, step), "ports": [port]}
    return _child(owner, step, "v1", "Service", spec)


def page_policy(owner: Owner, step: str) -> Manifest:
    """The page for everybody, who needs a rater's token; progress for the cluster's pods alone."""
    page = {"ports": [{"port": RATING_PORT, "protocol": "TCP"}]}
    progress = {
        "from": [{"namespaceSelector": {}}],
        "ports": [{"port": PROGRESS_PORT, "protocol": "TCP"}],
    }
    spec = {
        "podSelector": {"matchLabels": selector(owner, step)},
        "policyTypes": ["Ingress"],
        "ingress": [page, progress],
    }
    return _child(owner, step, "networking.k8s.io/v1", "NetworkPolicy", spec)


def _child(owner: Owner, step: str, api_version: str, kind: str, spec: dict[str, Any]) -> Manifest:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": metadata(owner, page_name(owner), labels(owner, step), spec),
        "spec": spec,
    }
