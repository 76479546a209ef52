"""Names, labels and owner of every child."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from wan_operator.api.v1alpha1.common import API_VERSION, GROUP

Manifest = dict[str, Any]

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "wan-operator"
STEP = f"{GROUP}/step"
ATTEMPT = f"{GROUP}/attempt"
SPEC_HASH = f"{GROUP}/spec-hash"
RECONCILE = f"{GROUP}/reconcile"
"""Annotation; `disabled` makes the operator leave the resource alone."""
FIT_CHECK = f"{GROUP}/fit-check"
"""Annotation; `disabled` starts a run that by the planner does not fit its GPU."""
RETRIED = f"{GROUP}/retried"
"""Annotation of a Job or a Deployment: when its controller was last made to try again."""
WAITS_FOR = f"{GROUP}/waits-for"
"""Annotation of a Job that removes what was left: the resource whose spec names its files."""
KUEUE = "kueue.x-k8s.io"
QUEUE_NAME = f"{KUEUE}/queue-name"
JOB_UID = f"{KUEUE}/job-uid"
"""Label of Kueue's Workloads: uid of the Job that each is of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """The custom resource that a child belongs to."""

    kind: str
    label: str
    """Label by which its children name it: that of its kind in the registry."""
    namespace: str
    name: str
    uid: str

    @classmethod
    def of(cls, kind: str, label: str, cr: Manifest) -> Owner:
        """The resource `cr`, as it is in the API."""
        metadata = cr["metadata"]
        return cls(
            kind=kind,
            label=label,
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
        )

    def reference(self) -> Manifest:
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }


def selector(owner: Owner, step: str) -> dict[str, str]:
    """Labels by which a Service or a NetworkPolicy finds the pods of a step."""
    return {owner.label: owner.name, STEP: step}


def labels(owner: Owner, step: str, attempt: int | None = None) -> dict[str, str]:
    made = {
        "app.kubernetes.io/name": f"wan-{owner.kind.removeprefix('Wan').lower()}",
        "app.kubernetes.io/instance": owner.name,
        "app.kubernetes.io/component": step,
        "app.kubernetes.io/part-of": MANAGER,
        MANAGED_BY: MANAGER,
        **selector(owner, step),
    }
    return made if attempt is None else made | {ATTEMPT: str(attempt)}


def metadata(owner: Owner, name: str, labels_: dict[str, str], content: Any) -> Manifest:
    """`content` is what the spec hash covers."""
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": labels_,
        "annotations": {SPEC_HASH: content_hash(content)},
        "ownerReferences": [owner.reference()],
    }


def content_hash(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def job_name(owner: Owner, step: str, attempt: int) -> str:
    return f"{owner.name}-{step}-{attempt}"


def config_map_name(owner: Owner, step: str) -> str:
    return f"{owner.name}-{step}"
