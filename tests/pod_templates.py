"""A podTemplate with every field."""

from __future__ import annotations

from typing import Any

FULL: dict[str, Any] = {
    "labels": {"team": "film"},
    "annotations": {"example.com/note": "x"},
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "spot", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 60},
    ],
    "priorityClassName": "system-node-critical",
    "imagePullSecrets": [{"name": "registry"}],
    "serviceAccountName": "trainer",
    "runtimeClassName": "nvidia",
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {
                        "matchExpressions": [
                            {"key": "disk", "operator": "In", "values": ["ssd", "nvme"]},
                            {"key": "example.com/slow", "operator": "DoesNotExist"},
                            {"key": "cores", "operator": "Gt", "values": ["16"]},
                        ],
                        "matchFields": [
                            {"key": "metadata.name", "operator": "NotIn", "values": ["node-9"]}
                        ],
                    }
                ]
            },
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 5,
                    "preference": {
                        "matchExpressions": [{"key": "near", "operator": "Exists"}],
                    },
                }
            ],
        },
        "podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {
                    "topologyKey": "topology.kubernetes.io/zone",
                    "labelSelector": {
                        "matchLabels": {"app": "minio"},
                        "matchExpressions": [
                            {"key": "tier", "operator": "NotIn", "values": ["cold"]}
                        ],
                    },
                    "namespaces": ["minio"],
                }
            ]
        },
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 100,
                    "podAffinityTerm": {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {},
                        "namespaceSelector": {},
                    },
                }
            ]
        },
    },
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"team": "film"}},
            "minDomains": 2,
            "nodeAffinityPolicy": "Honor",
            "nodeTaintsPolicy": "Honor",
            "matchLabelKeys": ["pod-template-hash"],
        },
        {
            "maxSkew": 2,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
        },
    ],
    "securityContext": {
        "runAsUser": 1000650000,
        "runAsGroup": 3000,
        "fsGroup": 1000650000,
        "supplementalGroups": [4000],
        "fsGroupChangePolicy": "Always",
        "seLinuxOptions": {"level": "s0:c26,c25"},
    },
}
