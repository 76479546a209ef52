"""Workers: a supervisor and its ranks in one pod, on one or several GPUs.

A revision is all that a worker's pod is made from: the service as it sees it, and its pod template.
It is kept in a ConfigMap, so that a rollback needs nothing but that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from wan_operator.api.v1alpha1.common import ConfigMapKey
from wan_operator.api.v1alpha1.inference import Workers
from wan_operator.api.v1alpha1.model import PersistentVolumeClaimSource
from wan_operator.resources.jobs import CACHE_PATH, MODEL_CACHE_PATH, Size, model_volume
from wan_operator.resources.labels import Manifest, Owner, content_hash
from wan_operator.resources.pods import (
    GPU,
    HOME,
    STORAGE,
    Volume,
    as_before,
    authority,
    cpu_of,
    database_env,
    database_files,
    field_env,
    items,
    pod_spec,
    probe,
    scratch,
    security_context,
    shared_memory,
    store_env,
    store_files,
    volume,
)
from wan_operator.resources.service.gateway import SERVICE_KEY
from wan_operator.resources.service.names import (
    COMPONENT,
    REVISION,
    Part,
    child,
    labels_of,
    name_of,
    selector,
)
from wan_runtime.contract.job import PROGRESS_PORT
from wan_runtime.contract.service import ServiceSpec

TEMPLATE_KEY = "worker.json"
REPORTED_SECONDS = 15
"""Seconds until a worker's report is here, at most: by the database, a gateway's report every two
seconds, and a check every five."""
MARGIN_SECONDS = 30
"""Beyond the drain, for what is being written and for killing the ranks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerPods:
    """All that shapes the workers' pods."""

    owner: Owner
    spec: Workers
    service: ServiceSpec
    """As workers see it."""
    size: Size
    drain_seconds: int
    image: str
    pull_policy: str
    pull_secrets: tuple[str, ...]
    store_secret: str
    database_secret: str
    ca_bundle: ConfigMapKey | None
    model_volume: PersistentVolumeClaimSource | None
    model_cache: Manifest | None
    """Source of a volume that keeps imported models for the next pod."""


@dataclass(frozen=True, slots=True)
class Revision:
    """Revision of the workers, named by a hash of their configuration and pod template."""

    name: str
    service: str
    """ServiceSpec as JSON."""
    template: Manifest
    """Labels of their pods, without those that distinguish workers from canaries."""

    @classmethod
    def of(cls, pods: WorkerPods) -> Revision:
        service = pods.service.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"
        return cls.holding(service, pod_template(pods))

    @classmethod
    def holding(cls, service: str, template: Manifest) -> Revision:
        return cls(_name(service, template), service, template)

    @classmethod
    def read(cls, config_map: Manifest) -> Revision:
        """From the ConfigMap that keeps it."""
        data = config_map["data"]
        name = config_map["metadata"]["labels"][REVISION]
        return cls(name, data[SERVICE_KEY], json.loads(data[TEMPLATE_KEY]))

    @property
    def is_intact(self) -> bool:
        """Whether it is what its name says: nobody has edited the ConfigMap that keeps it."""
        return self.name == _name(self.service, self.template)

    @property
    def is_readable(self) -> bool:
        """Whether this release knows all that it says."""
        try:
            return bool(self.spec)
        except ValidationError:
            return False

    @property
    def spec(self) -> ServiceSpec:
        return ServiceSpec.model_validate_json(self.service)


def _name(service: str, template: Manifest) -> str:
    """What later releases add to pods follows from the rest. Without it, all releases name a
    revision alike, and an upgrade replaces no worker."""
    *_, oldest = as_before(template["spec"])
    named = template | {"spec": oldest}
    return content_hash([service, named])[:10]


def pod_template(pods: WorkerPods) -> Manifest:
    template = pods.spec.pod_template
    return {
        "labels": dict(template.labels),
        "annotations": dict(template.annotations),
        "spec": pod_spec(
            container(pods),
            volumes(pods),
            template,
            pull_secrets=pods.pull_secrets,
            grace_seconds=pods.drain_seconds + MARGIN_SECONDS,
            counted=workers(pods.owner),
        ),
    }


def workers(owner: Owner) -> Manifest:
    """Selector of all workers, those of a canary too: both are made from one template."""
    both = {"key": COMPONENT, "operator": "In", "values": [Part.WORKER.value, Part.CANARY.value]}
    return {"matchLabels": {owner.label: owner.name}, "matchExpressions": [both]}


def container(pods: WorkerPods) -> Manifest:
    cached = pods.model_cache is not None
    cache = [{"name": "WAN_MODEL_CACHE", "value": MODEL_CACHE_PATH}] if cached else []
    limit = pods.spec.resources.cache or pods.size.cache
    return {
        "name": "worker",
        "image": pods.image,
        "imagePullPolicy": pods.pull_policy,
        "args": [
            "worker",
            *("--ranks", str(pods.spec.gpus)),
            *("--grace", str(pods.drain_seconds + MARGIN_SECONDS)),
            *("--work", CACHE_PATH),
        ],
        "env": [
            *store_env(pods.store_secret),
            *database_env(pods.database_secret),
            field_env("WAN_POD_NAME", "metadata.name"),
            field_env("WAN_REVISION", f"metadata.labels['{REVISION}']"),
            {"name": "WAN_SCRATCH", "value": CACHE_PATH},
            {"name": "WAN_SCRATCH_LIMIT", "value": limit},
            *cache,
        ],
        "ports": [{"name": "pages", "containerPort": PROGRESS_PORT, "protocol": "TCP"}],
        "livenessProbe": probe("/healthz", "pages", period=10, failures=6),
        "readinessProbe": probe("/readyz", "pages", period=5, failures=1),
        "startupProbe": probe("/healthz", "pages", period=2, failures=60),
        "resources": resources(pods),
        "securityContext": security_context(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [mount for _, mount in volumes(pods)],
    }


def resources(pods: WorkerPods) -> Manifest:
    size, given = pods.size, pods.spec.resources
    cpu, cpu_limit = cpu_of(given.cpu or size.cpu, given.cpu_limit)
    requests = {"cpu": cpu, "memory": given.memory or size.memory}
    requests[STORAGE] = given.cache or size.storage
    limits = cpu_limit | {"memory": given.memory or size.memory_limit}
    limits[GPU] = requests[GPU] = str(pods.spec.gpus)
    return {"requests": requests, "limits": limits}


def volumes(pods: WorkerPods) -> list[Volume]:
    """All but the revision's ConfigMap, whose name is known once the rest is: see `mounted`."""
    pairs = [
        store_files(pods.store_secret),
        database_files(pods.database_secret),
        scratch("cache", CACHE_PATH, pods.spec.resources.cache or pods.size.cache),
        scratch("tmp", "/tmp", "1Gi"),
        scratch("home", HOME, "1Gi"),
        shared_memory(pods.size.shm),
    ]
    if pods.ca_bundle is not None:
        pairs.append(authority(pods.ca_bundle))
    if pods.model_volume is not None:
        pairs.append(model_volume(pods.model_volume))
    if pods.model_cache is not None:
        pairs.append(volume("model-cache", MODEL_CACHE_PATH, **pods.model_cache))
    return pairs


def config_map(owner: Owner, revision: Revision) -> Manifest:
    """ConfigMap of a revision: never changed, removed when no worker runs the revision any more."""
    template = json.dumps(revision.template, sort_keys=True)
    data = {SERVICE_KEY: revision.service, TEMPLATE_KEY: template}
    made = child(owner, "v1", "ConfigMap", name_of(owner, revision.name), "revision", data=data)
    made["metadata"]["labels"][REVISION] = revision.name
    return made


def deployment(
    owner: Owner,
    revision: Revision,
    part: Part,
    *,
    replicas: int,
    strategy: Manifest,
    deadline_seconds: int,
) -> Manifest:
    template = mounted(owner, revision)
    labels = revision.template["labels"] | labels_of(owner, part) | {REVISION: revision.name}
    # The old worker stays until the new one has said what it can use of its adapters.
    heard = REPORTED_SECONDS if strategy == SURGE and revision.spec.adapters else 0
    spec: dict[str, Any] = {
        "replicas": replicas,
        "revisionHistoryLimit": 2,
        **({"minReadySeconds": heard} if heard else {}),
        "progressDeadlineSeconds": max(deadline_seconds, heard + 1),
        "selector": {"matchLabels": selector(owner, part)},
        "strategy": strategy,
        "template": {
            "metadata": {"labels": labels, "annotations": revision.template["annotations"]},
            "spec": template,
        },
    }
    return child(owner, "apps/v1", "Deployment", name_of(owner, part), part, spec=spec)


def mounted(owner: Owner, revision: Revision) -> Manifest:
    """The pod with its revision's service file."""
    name = name_of(owner, revision.name)
    source, mount = volume(
        "service", "/etc/wan", read_only=True, configMap=items(name, SERVICE_KEY, SERVICE_KEY)
    )
    spec = dict(revision.template["spec"])
    [only] = spec["containers"]
    spec["containers"] = [only | {"volumeMounts": [mount, *only["volumeMounts"]]}]
    spec["volumes"] = [source, *spec["volumes"]]
    return spec


RECREATE: Manifest = {"type": "Recreate"}
SURGE: Manifest = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
