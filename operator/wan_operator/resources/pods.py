"""What all our pods share: Pod Security `restricted`, the user's template, volumes, environment."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from wan_operator.api.v1alpha1.common import ApiModel, ConfigMapKey
from wan_operator.api.v1alpha1.pods import PodTemplate
from wan_operator.resources.labels import Manifest
from wan_operator.resources.quantity import amount

RUN_AS = 10001
"""User and group of our images."""
CA_PATH = "/etc/wan-ca"
"""Beside /etc/wan, which holds what the operator writes."""
CA_FILE = f"{CA_PATH}/ca.crt"
STORE_SECRET, STORE_PATH = "store-secret", "/etc/wan-store"
STORE_FOLDER, SESSION_TOKEN = "WAN_STORE_CREDENTIALS", "AWS_SESSION_TOKEN"
DATABASE_SECRET, DATABASE_PATH = "database-secret", "/etc/wan-database"
DATABASE_FILE = "WAN_DATABASE_URL_FILE"
HOME = "/home/wan"
GPU = "nvidia.com/gpu"
STORAGE = "ephemeral-storage"

Volume = tuple[Manifest, Manifest]
"""A volume, and the mount of it."""


def pod_spec(
    container: Manifest,
    volumes: Sequence[Volume],
    template: PodTemplate,
    *,
    pull_secrets: Collection[str],
    grace_seconds: int,
    counted: Manifest,
    **more: Any,
) -> Manifest:
    """Spec of a pod.

    `pull_secrets`: beside those of the template. `counted`: selector of the pods that are spread,
    for constraints that have none. `more`: further fields, which take the place of the template's;
    empty ones are left out.
    """
    spec: Manifest = {
        "terminationGracePeriodSeconds": grace_seconds,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": user_of(template) | {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [named(container) if template.security_context else container],
        "volumes": [source for source, _ in volumes],
    }
    pull = {*pull_secrets, *(ref.name for ref in template.image_pull_secrets)}
    optional: Manifest = {
        "imagePullSecrets": [{"name": name} for name in sorted(pull)],
        "nodeSelector": dict(template.node_selector),
        "tolerations": [written(toleration) for toleration in template.tolerations],
        "priorityClassName": template.priority_class_name,
        "serviceAccountName": template.service_account_name,
        "runtimeClassName": template.runtime_class_name,
        "affinity": affinity_of(template),
        "topologySpreadConstraints": [
            {"labelSelector": counted} | written(each)
            for each in template.topology_spread_constraints
        ],
        **more,
    }
    return spec | {key: value for key, value in optional.items() if value}


def written(model: ApiModel) -> Manifest:
    """A type of Kubernetes as it is written in a manifest."""
    return model.model_dump(by_alias=True, exclude_none=True)


def affinity_of(template: PodTemplate) -> Manifest:
    """The template's own affinity, without parts that say nothing."""
    parts = written(template.affinity) if template.affinity is not None else {}
    said = {name: {key: each for key, each in part.items() if each} for name, part in parts.items()}
    return {name: part for name, part in said.items() if part}


def user_of(template: PodTemplate) -> Manifest:
    """User and groups of the processes: those of our images, or those that the template gives."""
    given = template.security_context
    fixed = {"runAsUser": RUN_AS, "runAsGroup": RUN_AS, "fsGroup": RUN_AS}
    return {
        "runAsNonRoot": True,
        "fsGroupChangePolicy": "OnRootMismatch",
        **(fixed if given is None else written(given)),
    }


def named(container: Manifest) -> Manifest:
    """The container with a name for its user, whose ID may not be in the image's list of users:
    torch asks for the name."""
    return container | {"env": [*container["env"], {"name": "USER", "value": "wan"}]}


def cpu_of(request: str, limit: str | None) -> tuple[str, Manifest]:
    """Request of CPU and the limit, if there is one. A request of ours is not above the limit."""
    if limit is None:
        return request, {}
    return min(request, limit, key=amount), {"cpu": limit}


def as_before(spec: Manifest) -> tuple[Manifest, Manifest]:
    """A pod's spec as earlier releases made it: without the Secrets of store and database as files
    and the store's session token, and the oldest without the request for ephemeral storage
    either."""
    before = without(
        spec,
        env=(STORE_FOLDER, SESSION_TOKEN, DATABASE_FILE),
        volumes=(STORE_SECRET, DATABASE_SECRET),
    )
    [only] = before["containers"]
    requests = {
        name: each for name, each in only["resources"]["requests"].items() if name != STORAGE
    }
    oldest = only | {"resources": only["resources"] | {"requests": requests}}
    return before, before | {"containers": [oldest]}


def without(spec: Manifest, *, env: Collection[str], volumes: Collection[str]) -> Manifest:
    """The spec of a pod of one container, without the variables and volumes of these names."""

    def others(items: list[Manifest], names: Collection[str]) -> list[Manifest]:
        return [each for each in items if each["name"] not in names]

    [only] = spec["containers"]
    left = {"env": others(only["env"], env), "volumeMounts": others(only["volumeMounts"], volumes)}
    return spec | {"containers": [only | left], "volumes": others(spec["volumes"], volumes)}


def security_context() -> Manifest:
    """Security context of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def store_env(secret: str) -> list[Manifest]:
    """The store's credentials, where `store_files` mounts them, and a home that can be written
    to."""
    return [
        {"name": "HOME", "value": HOME},
        secret_env("AWS_ACCESS_KEY_ID", secret, "accessKey"),
        secret_env("AWS_SECRET_ACCESS_KEY", secret, "secretKey"),
        secret_env(SESSION_TOKEN, secret, "sessionToken", optional=True),
        {"name": STORE_FOLDER, "value": STORE_PATH},
    ]


def store_files(secret: str) -> Volume:
    """The store's Secret as files, which follow its changes."""
    return secret_files(STORE_SECRET, STORE_PATH, secret)


def database_env(secret: str) -> list[Manifest]:
    """The database's connection string, and the file with it that `database_files` mounts."""
    return [
        secret_env("WAN_DATABASE_URL", secret, "url"),
        {"name": DATABASE_FILE, "value": f"{DATABASE_PATH}/url"},
    ]


def database_files(secret: str) -> Volume:
    """The database's Secret as files, which follow its changes."""
    return secret_files(DATABASE_SECRET, DATABASE_PATH, secret)


def secret_files(name: str, path: str, secret: str) -> Volume:
    """A Secret as files, beside variables of it. Optional: where the Secret is missing, the
    variables say so better than a mount that waits."""
    return volume(name, path, read_only=True, secret={"secretName": secret, "optional": True})


def secret_file(name: str, path: str, secret: str, key: str) -> Volume:
    """One key of a Secret as the file `path`/`key`. A pod without the Secret waits for it."""
    source = {"secretName": secret, "items": [{"key": key, "path": key}]}
    return volume(name, path, read_only=True, secret=source)


def secret_env(variable: str, secret: str, key: str, *, optional: bool = False) -> Manifest:
    """Environment variable from a Secret. `optional`: the key may be missing."""
    source = {"name": secret, "key": key} | ({"optional": True} if optional else {})
    return {"name": variable, "valueFrom": {"secretKeyRef": source}}


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


def probe(path: str, port: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
