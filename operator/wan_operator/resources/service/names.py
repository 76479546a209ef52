"""Names and labels of a service's children."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from wan_operator.resources.labels import (
    MANAGED_BY,
    MANAGER,
    Manifest,
    Owner,
    metadata,
)


class Part(StrEnum):
    """What runs of a service, and the end of its name."""

    GATEWAY = "gateway"
    WORKER = "worker"
    CANARY = "canary"
    """Workers of a revision that proves itself."""


COMPONENT = "app.kubernetes.io/component"
REVISION = "wan-operator.dev/revision"
"""Label: of the workers' pods and of what they are made from."""


def name_of(owner: Owner, part: str) -> str:
    return f"{owner.name}-{part}"


def selector(owner: Owner, part: Part) -> dict[str, str]:
    """Labels that only the pods of a part have. Never changed: a Deployment's is immutable."""
    return {owner.label: owner.name, COMPONENT: part.value}


def labels_of(owner: Owner, component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "wan-inferenceservice",
        "app.kubernetes.io/instance": owner.name,
        COMPONENT: component,
        "app.kubernetes.io/part-of": MANAGER,
        MANAGED_BY: MANAGER,
        owner.label: owner.name,
    }


def child(owner: Owner, api_version: str, kind: str, name: str, part: str, **body: Any) -> Manifest:
    """`body`: all beside the metadata."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": metadata(owner, name, labels_of(owner, part), body),
        **body,
    }
