"""The Job of one attempt of a step: one pod, or one a node where several train together, no retries
of its own, Pod Security `restricted`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from wan_operator.api.v1alpha1.common import ConfigMapKey
from wan_operator.api.v1alpha1.model import PersistentVolumeClaimSource
from wan_operator.api.v1alpha1.pods import PodTemplate, ResourceOverrides
from wan_operator.resources.configmaps import JOB_KEY
from wan_operator.resources.labels import (
    QUEUE_NAME,
    Manifest,
    Owner,
    config_map_name,
    job_name,
    labels,
    metadata,
)
from wan_operator.resources.meeting import meeting_env, meeting_name
from wan_operator.resources.pods import (
    GPU,
    HOME,
    STORAGE,
    Volume,
    affinity_of,
    authority,
    cpu_of,
    items,
    probe,
    scratch,
    secret_file,
    security_context,
    shared_memory,
    store_env,
    store_files,
    volume,
)
from wan_operator.resources.pods import pod_spec as spec_of
from wan_runtime.contract.job import JOB_FILE, PROGRESS_PORT, TERMINATION_FILE
from wan_runtime.planner.host import BAND, HostPlan

CONTAINER = "step"
GRACE_SECONDS = 120
"""Between SIGTERM and SIGKILL: a 14B adapter's checkpoint takes a minute to reach a slow store."""
MODEL_PATH = "/models"
CACHE_PATH = "/cache"
MODEL_CACHE_PATH = "/model-cache"
API_KEY_PATH = "/etc/wan-service"


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """What the pod of a step gets."""

    cpu: str
    memory: str
    """Requested."""
    memory_limit: str
    cache: str
    """Limit of the scratch volume."""
    storage: str
    """Ephemeral storage requested: what the scratch volume is expected to hold."""
    shm: str = "64Mi"


TINY = Size(
    cpu="500m", memory="1536Mi", memory_limit="3Gi", cache="2Gi", storage="512Mi", shm="256Mi"
)
LARGE_CPU = Size(cpu="4", memory="16Gi", memory_limit="32Gi", cache="100Gi", storage="30Gi")
"""Prepare reads one clip at a time; an import converts one file at a time, of 12 GB at most."""
AVOIDANCE = 100
"""Weight of the preference against the node that failed the attempt before."""
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
LIMIT_OVER_REQUEST = 1.5
"""Ratio of the memory limit to the request: the estimate is not measured, and spare memory goes to
the page cache."""


def size_of(attempt: Attempt) -> Size:
    if attempt.small or attempt.preset.endswith("-Tiny"):
        return TINY
    if attempt.host is None:
        return LARGE_CPU
    return size_for(attempt.host, cpu=8 if attempt.needs_gpu else 4)


def size_for(host: HostPlan, *, cpu: int) -> Size:
    """Resources of a pod by the planner's estimate, with a margin for its error."""
    memory = host.gib * (1 + BAND)
    scratch = _gib(host.scratch_gib * (1 + BAND), step=10)
    return Size(
        cpu=str(cpu),
        memory=_gib(memory, step=4),
        memory_limit=_gib(memory * LIMIT_OVER_REQUEST, step=4),
        cache=scratch,
        storage=scratch,
        shm="8Gi",
    )


def _gib(value: float, step: int) -> str:
    return f"{math.ceil(value / step) * step}Gi"


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """All that shapes the Job of one attempt."""

    owner: Owner
    step_id: str
    step: str
    """First argument of `wan-runtime`."""
    number: int
    preset: str
    needs_gpu: bool
    deterministic: bool
    """Its GPU kernels must repeat to the bit."""
    host: HostPlan | None
    """Host memory and scratch space, as planned; None for a step that holds no weights, and for
    Tiny presets."""
    gpus: int
    """Number of GPUs of each pod."""
    image: str
    image_pull_policy: str
    image_pull_secrets: tuple[str, ...]
    store_secret: str
    ca_bundle: ConfigMapKey | None
    model_volume: PersistentVolumeClaimSource | None
    model_cache: Manifest | None
    """Source of a volume that keeps imported models for the next pod; None for steps that read
    none."""
    overrides: ResourceOverrides
    pod_template: PodTemplate
    nodes: int = 1
    """Pods that do it together, each on as many GPUs."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables beside our own."""
    api_key: tuple[str, str] | None = None
    """(Secret, key) with the API key of a service that the step calls, mounted in API_KEY_PATH."""
    http_port: int | None = None
    """Port of the page that the step serves; None: it serves none."""
    small: bool = False
    """Whether it does with as little as a step of a Tiny preset, whatever the preset is."""
    avoid_node: str = ""
    """Name of the node that failed the attempt before; avoided where another fits."""
    queue_name: str = ""
    """Kueue's queue. Kueue owns the Job's `suspend`, which is why no Job of ours sets it."""


def job(attempt: Attempt) -> Manifest:
    own = labels(attempt.owner, attempt.step_id, attempt.number)
    spec = {
        "backoffLimit": 0,
        # A replacement that starts while the old pod still saves its checkpoint would write the
        # same prefix.
        "podReplacementPolicy": "Failed",
        "completions": attempt.nodes,
        "parallelism": attempt.nodes,
        **({"completionMode": "Indexed"} if attempt.nodes > 1 else {}),
        "template": {
            "metadata": {
                "labels": attempt.pod_template.labels | own,
                "annotations": dict(attempt.pod_template.annotations),
            },
            "spec": pod_spec(attempt),
        },
    }
    name = job_name(attempt.owner, attempt.step_id, attempt.number)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(
            attempt.owner,
            name,
            own | queue_label(attempt.queue_name),
            hashed(spec, attempt.queue_name),
        ),
        "spec": spec,
    }


def hashed(spec: Manifest, queue_name: str) -> Manifest:
    """What the spec hash of a Job covers. The Job's own label is no proof of the queue that was
    wanted: Kueue and policies of the cluster may set it."""
    return spec | queue_label(queue_name)


def queue_label(queue_name: str) -> dict[str, str]:
    return {QUEUE_NAME: queue_name} if queue_name else {}


def pod_spec(attempt: Attempt) -> Manifest:
    return spec_of(
        container(attempt),
        volumes(attempt),
        attempt.pod_template,
        pull_secrets=attempt.image_pull_secrets,
        grace_seconds=GRACE_SECONDS,
        counted={"matchLabels": {attempt.owner.label: attempt.owner.name}},
        restartPolicy="Never",
        # By it and the names of the pods of an Indexed Job they find each other.
        subdomain=meeting_name(attempt.owner, attempt.step_id) if attempt.nodes > 1 else "",
        affinity=joined(
            affinity_of(attempt.pod_template),
            avoidance(attempt.avoid_node) if attempt.avoid_node else None,
        ),
    )


def container(attempt: Attempt) -> Manifest:
    shared = attempt.model_cache is not None
    cache = [{"name": "WAN_MODEL_CACHE", "value": MODEL_CACHE_PATH}] if shared else []
    # Read by cuBLAS as it starts; without it torch refuses to multiply deterministically.
    workspace = {"name": "CUBLAS_WORKSPACE_CONFIG", "value": ":4096:8"}
    deterministic = [workspace] if attempt.deterministic else []
    meet = attempt.nodes > 1
    meeting = meeting_env(attempt.owner, attempt.step_id, attempt.number) if meet else []
    ports = [{"name": "progress", "containerPort": PROGRESS_PORT, "protocol": "TCP"}]
    probes = {}
    if attempt.http_port is not None:
        ports.append({"name": "http", "containerPort": attempt.http_port, "protocol": "TCP"})
        probes["readinessProbe"] = probe("/readyz", "http", period=2, failures=3)
    return {
        "name": CONTAINER,
        "image": attempt.image,
        "imagePullPolicy": attempt.image_pull_policy,
        "args": [attempt.step, "--job", JOB_FILE, "--work", CACHE_PATH],
        "env": [
            *store_env(attempt.store_secret),
            {"name": "WAN_SCRATCH", "value": CACHE_PATH},
            {"name": "WAN_SCRATCH_LIMIT", "value": scratch_limit(attempt)},
            *cache,
            *deterministic,
            *meeting,
            *({"name": name, "value": text} for name, text in sorted(attempt.environment.items())),
        ],
        "ports": ports,
        **probes,
        "resources": resources(attempt),
        "securityContext": security_context(),
        "terminationMessagePath": TERMINATION_FILE,
        # Of a program that dies before it can say anything, the log's last lines.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [mount for _, mount in volumes(attempt)],
    }


def resources(attempt: Attempt) -> Manifest:
    size = size_of(attempt)
    overrides = overrides_of(attempt)
    # Of every step: a quota of CPU limits counts each pod.
    cpu, cpu_limit = cpu_of(overrides.cpu or size.cpu, attempt.overrides.cpu_limit)
    requests = {"cpu": cpu, "memory": size.memory}
    limits = cpu_limit | {"memory": size.memory_limit}
    if overrides.memory:
        requests["memory"] = limits["memory"] = overrides.memory
    if not attempt.queue_name:
        # Kueue admits no pod that requests a resource which its ClusterQueue does not cover.
        requests[STORAGE] = overrides.cache or size.storage
    if attempt.needs_gpu:
        limits[GPU] = requests[GPU] = str(attempt.gpus)
    return {"requests": requests, "limits": limits}


def overrides_of(attempt: Attempt) -> ResourceOverrides:
    """Overrides for the steps that hold weights, the export too; the others are small in every
    run."""
    held = attempt.needs_gpu or attempt.host is not None
    return attempt.overrides if held else ResourceOverrides()


def scratch_limit(attempt: Attempt) -> str:
    """Told to the pod as well: the node's disk, which it sees, says nothing of it."""
    return overrides_of(attempt).cache or size_of(attempt).cache


def volumes(attempt: Attempt) -> list[Volume]:
    config_map = config_map_name(attempt.owner, attempt.step_id)
    pairs = [
        volume("job", "/etc/wan", read_only=True, configMap=items(config_map, JOB_KEY, JOB_KEY)),
        scratch("cache", CACHE_PATH, scratch_limit(attempt)),
        scratch("tmp", "/tmp", "1Gi"),
        scratch("home", HOME, "1Gi"),
        store_files(attempt.store_secret),
    ]
    if attempt.needs_gpu:
        pairs.append(shared_memory(size_of(attempt).shm))
    if attempt.ca_bundle is not None:
        pairs.append(authority(attempt.ca_bundle))
    if attempt.model_volume is not None:
        pairs.append(model_volume(attempt.model_volume))
    if attempt.api_key is not None:
        pairs.append(secret_file("service", API_KEY_PATH, *attempt.api_key))
    if attempt.model_cache is not None:
        pairs.append(volume("model-cache", MODEL_CACHE_PATH, **attempt.model_cache))
    return pairs


def model_volume(source: PersistentVolumeClaimSource) -> Volume:
    claim = {"claimName": source.claim_name, "readOnly": True}
    return volume("model", MODEL_PATH, read_only=True, persistentVolumeClaim=claim)


def avoidance(node: str) -> Manifest:
    """Term of an affinity that prefers any other node. A preference only: a cluster of one GPU node
    must still make progress."""
    # By name: the label kubernetes.io/hostname may differ from it.
    elsewhere = {"key": "metadata.name", "operator": "NotIn", "values": [node]}
    return {"weight": AVOIDANCE, "preference": {"matchFields": [elsewhere]}}


def joined(affinity: Manifest, avoided: Manifest | None) -> Manifest:
    """The template's affinity, with a term of `avoidance` after its own."""
    if avoided is None:
        return affinity
    nodes = affinity.get("nodeAffinity", {})
    return affinity | {"nodeAffinity": nodes | {PREFERRED: [*nodes.get(PREFERRED, ()), avoided]}}


def parted(affinity: Manifest) -> tuple[Manifest, Manifest | None]:
    """What `joined` was given, where the last term may be one of `avoidance`."""
    nodes = affinity.get("nodeAffinity", {})
    *terms, last = nodes.get(PREFERRED) or [None]
    if last is None or not _is_avoidance(last):
        return affinity, None
    nodes = {key: each for key, each in nodes.items() if key != PREFERRED}
    nodes |= {PREFERRED: terms} if terms else {}
    rest = {key: each for key, each in affinity.items() if key != "nodeAffinity"}
    return rest | ({"nodeAffinity": nodes} if nodes else {}), last


def _is_avoidance(term: Manifest) -> bool:
    match term["preference"]:
        case {"matchFields": [{"values": [str(node)]}]}:
            return term == avoidance(node)
    return False
