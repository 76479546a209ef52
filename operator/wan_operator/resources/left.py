"""The Job that removes what a resource leaves in the store and the database.

It is made suspended, and a sweep lets it go once it is due. The resource, which is gone, does not
own it: its own TTL removes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from wan_operator.api.v1alpha1.common import ConfigMapKey
from wan_operator.api.v1alpha1.pods import PodTemplate
from wan_operator.resources.labels import MANAGED_BY, MANAGER, Manifest, Owner
from wan_operator.resources.pods import (
    HOME,
    authority,
    cpu_of,
    pod_spec,
    scratch,
    secret_env,
    security_context,
    store_env,
    store_files,
)
from wan_operator.settings import Settings
from wan_runtime.contract.left import VARIABLE, Left

COMPONENT = "clear"
LABELS = {
    "app.kubernetes.io/name": "wan-clear",
    "app.kubernetes.io/component": COMPONENT,
    "app.kubernetes.io/part-of": MANAGER,
    MANAGED_BY: MANAGER,
}
"""None names the resource: one that is made again under the name has nothing to do with it."""
LONGEST = 40
"""Characters of the resource's name in the Job's."""
BACK_OFF = 20
"""Tries of the Job, up to six minutes apart: an outage of two hours."""
DEADLINE_SECONDS = 6 * 3600
"""A Secret that went with the resource would keep the pod waiting for ever."""
TTL_SECONDS = 3600


def clearing_job(
    owner: Owner,
    left: Left,
    part: str,
    template: PodTemplate,
    settings: Settings,
    *,
    store_secret: str,
    database_secret: str | None = None,
    bundle: ConfigMapKey | None = None,
    cpu_limit: str | None = None,
) -> Manifest:
    """`part`: end of its name. `template`: of the resource's pods; this one needs no GPU, so it may
    go where they may, and need not. `cpu_limit`: of those pods; a quota of limits counts this one.
    """
    cpu, limit = cpu_of("50m", cpu_limit)
    env = [
        *store_env(store_secret),
        *([secret_env("WAN_DATABASE_URL", database_secret, "url")] if database_secret else []),
        {"name": VARIABLE, "value": left.model_dump_json(by_alias=True, exclude_none=True)},
    ]
    volumes = [
        scratch("tmp", "/tmp", "64Mi"),
        scratch("home", HOME, "64Mi"),
        store_files(store_secret),
    ]
    volumes += [] if bundle is None else [authority(bundle)]
    container: dict[str, Any] = {
        "name": COMPONENT,
        "image": settings.operator_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["/opt/wan/bin/wan-runtime"],
        "args": ["clear"],
        "env": env,
        "resources": {
            "requests": {"cpu": cpu, "memory": "256Mi"},
            "limits": limit | {"memory": "256Mi"},
        },
        "securityContext": security_context(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [mount for _, mount in volumes],
    }
    kept = {"image_pull_secrets", "service_account_name", "security_context", "tolerations"}
    pod = pod_spec(
        container,
        volumes,
        PodTemplate.model_validate(template.model_dump(include=kept)),
        pull_secrets=settings.image_pull_secrets,
        grace_seconds=5,
        counted={},
        restartPolicy="OnFailure",
    )
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{owner.name[:LONGEST]}-{owner.uid[:8]}-{part}",
            "namespace": owner.namespace,
            "labels": LABELS,
        },
        "spec": {
            "suspend": True,
            "backoffLimit": BACK_OFF,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "ttlSecondsAfterFinished": TTL_SECONDS,
            "template": {
                "metadata": {
                    "labels": template.labels | LABELS,
                    "annotations": dict(template.annotations),
                },
                "spec": pod,
            },
        },
    }


def left_of(job: Manifest) -> Left | None:
    """What a suspended Job is to remove; None: it is no such Job, or not one of this release."""
    labels, spec = job["metadata"].get("labels", {}), job["spec"]
    if not spec.get("suspend") or LABELS.items() - labels.items():
        return None
    containers = spec["template"]["spec"]["containers"]
    env = {each["name"]: each.get("value", "") for one in containers for each in one.get("env", ())}
    try:
        return Left.model_validate_json(env.get(VARIABLE, ""))
    except ValidationError:
        return None


def folders(uri: str, steps: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Prefixes of keys of what steps of a run keep. `uri`: s3:// address of the run."""
    prefix = uri.removeprefix("s3://").partition("/")[2]
    return tuple(f"{prefix}/{step}/{name}/" for step in steps for name in names)
