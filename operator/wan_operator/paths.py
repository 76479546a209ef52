"""Paths of the API server's resources."""

from __future__ import annotations

from urllib.parse import quote

from wan_operator.api.v1alpha1.common import GROUP, VERSION
from wan_operator.kinds import KINDS

APIS = {
    "Deployment": ("apps", "v1", "deployments"),
    "ReplicaSet": ("apps", "v1", "replicasets"),
    "Job": ("batch", "v1", "jobs"),
    "Pod": ("", "v1", "pods"),
    "ConfigMap": ("", "v1", "configmaps"),
    "Service": ("", "v1", "services"),
    "PodDisruptionBudget": ("policy", "v1", "poddisruptionbudgets"),
    "NetworkPolicy": ("networking.k8s.io", "v1", "networkpolicies"),
    "Ingress": ("networking.k8s.io", "v1", "ingresses"),
    "HTTPRoute": ("gateway.networking.k8s.io", "v1", "httproutes"),
    "Lease": ("coordination.k8s.io", "v1", "leases"),
    "Event": ("events.k8s.io", "v1", "events"),
    "Node": ("", "v1", "nodes"),
}
"""Kind -> (group, version, plural)."""


def path_of(kind: str, namespace: str | None, name: str = "") -> str:
    group, version, plural = api_of(kind)
    prefix = f"/apis/{group}" if group else "/api"
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{prefix}/{version}{scope}/{plural}" + (f"/{quote(name)}" if name else "")


def api_of(kind: str) -> tuple[str, str, str]:
    """(group, version, plural)"""
    return (GROUP, VERSION, KINDS[kind].definition.plural) if kind in KINDS else APIS[kind]
