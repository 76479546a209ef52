"""Children as a service has them, spelt as builders spell them, and edits that somebody makes."""

from __future__ import annotations

from typing import Any

from pod_templates import FULL
from wan_operator.api.v1alpha1.inference import KIND, LABEL
from wan_operator.resources.labels import MANAGED_BY, MANAGER, Owner, metadata

Raw = dict[str, Any]
LABELS = {"app": "demo", MANAGED_BY: MANAGER, LABEL: "demo"}
SELECTOR = {"matchLabels": {"app": "demo"}}
PROBE = {"httpGet": {"path": "/healthz", "port": "pages"}, "periodSeconds": 5}
CONTAINER = {
    "name": "worker",
    "image": "wan:1",
    "args": ["worker"],
    "env": [
        {"name": "EMPTY", "value": ""},
        {"name": "WAN_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "minio", "key": "accessKey"}}},
    ],
    "ports": [{"name": "http", "containerPort": 8080}, {"name": "pages", "containerPort": 9400}],
    "resources": {
        "requests": {"cpu": "0.5", "memory": "1024Mi"},
        "limits": {"memory": "1.5Gi", "nvidia.com/gpu": 1},
    },
    "livenessProbe": PROBE,
    "readinessProbe": PROBE | {"failureThreshold": 1},
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    },
    "volumeMounts": [
        {"name": "service", "mountPath": "/etc/wan", "readOnly": True},
        {"name": "shm", "mountPath": "/dev/shm"},
    ],
}
POD = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "terminationGracePeriodSeconds": 3600,
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "nodeSelector": {"gpu": "h100"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    "runtimeClassName": "nvidia",
    "affinity": FULL["affinity"],
    "topologySpreadConstraints": [
        FULL["topologySpreadConstraints"][0],
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": SELECTOR,
        },
    ],
    "containers": [CONTAINER],
    "volumes": [
        {
            "name": "service",
            "projected": {
                "sources": [
                    {
                        "configMap": {
                            "name": "demo-1",
                            "items": [{"key": "service.json", "path": "service.json"}],
                        }
                    },
                    {"secret": {"name": "keys"}},
                ]
            },
        },
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8192Mi"}},
    ],
}
BACKEND = {"service": {"name": "demo", "port": {"name": "http"}}}
SPECS: dict[str, Raw] = {
    "Deployment": {
        "replicas": 0,
        "selector": SELECTOR,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        },
        "template": {"metadata": {"labels": LABELS}, "spec": POD},
    },
    "Service": {
        "selector": {"app": "demo"},
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
    },
    "PodDisruptionBudget": {
        "maxUnavailable": 1,
        "selector": SELECTOR,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    },
    "NetworkPolicy": {
        "podSelector": SELECTOR,
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [{"podSelector": SELECTOR}], "ports": [{"port": 9400}]},
            {"ports": [{"port": 8080, "protocol": "TCP"}]},
        ],
        "egress": [],
    },
    "Ingress": {
        "ingressClassName": "nginx",
        "rules": [
            {
                "host": "wan.example",
                "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACKEND}]},
            }
        ],
        "tls": [{"hosts": ["wan.example"], "secretName": "tls"}],
    },
}
VERSIONS = {"Deployment": "apps/v1", "Service": "v1", "PodDisruptionBudget": "policy/v1"}
EDITS = {
    "Deployment": {"replicas": 7},
    "Service": {"selector": {"app": "demo", "more": "narrow"}},
    "PodDisruptionBudget": {"maxUnavailable": 3},
    "NetworkPolicy": {"ingress": [{}]},
    "Ingress": {"ingressClassName": "traefik"},
}
"""What somebody changes by hand, of what is ours."""


def manifest(kind: str, namespace: str, spec: Raw | None = None) -> Raw:
    owner = Owner(kind=KIND, label=LABEL, namespace=namespace, name="demo", uid="u" * 36)
    content = SPECS[kind] if spec is None else spec
    return {
        "apiVersion": VERSIONS.get(kind, "networking.k8s.io/v1"),
        "kind": kind,
        "metadata": metadata(owner, "demo", LABELS, content),
        "spec": content,
    }
