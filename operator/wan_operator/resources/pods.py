"""What all our pods share: Pod Security `restricted`, the user's template, volumes, environment."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from wan_operator.api.v1alpha1.common import ConfigMapKey
from wan_operator.api.v1alpha1.pods import PodTemplate
from wan_operator.resources.labels import Manifest

RUN_AS = 10001
"""User and group of our images."""
CA_PATH = "/etc/wan-ca"
"""Beside /etc/wan, which holds what the operator writes."""
CA_FILE = f"{CA_PATH}/ca.crt"
HOME = "/home/wan"
GPU = "nvidia.com/gpu"

Volume = tuple[Manifest, Manifest]
"""A volume, and the mount of it."""


def pod_spec(
    container: Manifest,
    volumes: Sequence[Volume],
    template: PodTemplate,
    *,
    pull_secrets: Collection[str],
    grace_seconds: int,
    **more: Any,
) -> Manifest:
    """`pull_secrets`: beside those of the template. `more`: further fields; empty ones are left
    out."""
    spec: Manifest = {
        "terminationGracePeriodSeconds": grace_seconds,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": RUN_AS,
            "runAsGroup": RUN_AS,
            "fsGroup": RUN_AS,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [source for source, _ in volumes],
    }
    pull = {*pull_secrets, *(ref.name for ref in template.image_pull_secrets)}
    optional: Manifest = {
        "imagePullSecrets": [{"name": name} for name in sorted(pull)],
        "nodeSelector": dict(template.node_selector),
        "tolerations": [
            toleration.model_dump(by_alias=True, exclude_none=True)
            for toleration in template.tolerations
        ],
        "priorityClassName": template.priority_class_name,
        "serviceAccountName": template.service_account_name,
        **more,
    }
    return spec | {key: value for key, value in optional.items() if value}


def security_context() -> Manifest:
    """Security context of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def store_env(secret: str) -> list[Manifest]:
    """The store's credentials, and a home that can be written to."""
    return [
        {"name": "HOME", "value": HOME},
        secret_env("AWS_ACCESS_KEY_ID", secret, "accessKey"),
        secret_env("AWS_SECRET_ACCESS_KEY", secret, "secretKey"),
    ]


def secret_env(variable: str, secret: str, key: str) -> Manifest:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def field_env(variable: str, path: str) -> Manifest:
    """Environment variable from a field of the pod itself, such as metadata.name."""
    return {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def volume(name: str, path: str, read_only: bool = False, **source: Any) -> Volume:
    mount: Manifest = {"name": name, "mountPath": path}
    return {"name": name, **source}, mount | ({"readOnly": True} if read_only else {})


def scratch(name: str, path: str, limit: str) -> Volume:
    return volume(name, path, emptyDir={"sizeLimit": limit})


def shared_memory(limit: str) -> Volume:
    return volume("shm", "/dev/shm", emptyDir={"medium": "Memory", "sizeLimit": limit})


def authority(bundle: ConfigMapKey) -> Volume:
    """The store's private certificate authority."""
    source = items(bundle.name, bundle.key, "ca.crt")
    return volume("store-ca", CA_PATH, read_only=True, configMap=source)


def items(config_map: str, key: str, path: str) -> Manifest:
    return {"name": config_map, "items": [{"key": key, "path": path}]}
