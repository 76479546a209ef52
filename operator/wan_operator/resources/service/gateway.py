"""The gateway: the HTTP API, without a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from wan_operator.api.v1alpha1.common import ConfigMapKey
from wan_operator.api.v1alpha1.inference import Gateway
from wan_operator.resources.labels import SPEC_HASH, Manifest, Owner, content_hash
from wan_operator.resources.pods import (
    HOME,
    Volume,
    as_before,
    authority,
    cpu_of,
    database_env,
    database_files,
    pod_spec,
    probe,
    scratch,
    secret_env,
    secret_files,
    security_context,
    store_env,
    store_files,
    volume,
    without,
)
from wan_operator.resources.service.names import Part, child, labels_of, name_of, selector
from wan_runtime.contract.job import PROGRESS_PORT
from wan_runtime.contract.rollout import ROLLOUT_FOLDER, Rollout
from wan_runtime.contract.service import KEYS_FOLDER, ServiceSpec

PORT = 8080
SERVICE_KEY = "service.json"
ROLLOUT, ROLLOUT_KEY = "rollout", "rollout.json"
CONFIG_HASH = "wan-operator.dev/config-hash"
GRACE_SECONDS = 30
WEBHOOK_SECRET, WEBHOOK_PATH = "webhook-secret", "/etc/wan-webhook"
WEBHOOK_FILE = "WAN_WEBHOOK_SECRET_FILE"


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewayPods:
    """All that shapes the gateway's pods."""

    owner: Owner
    spec: Gateway
    service: ServiceSpec
    """As clients see it."""
    image: str
    pull_policy: str
    pull_secrets: tuple[str, ...]
    store_secret: str
    database_secret: str
    ca_bundle: ConfigMapKey | None


def config_map(gateway: GatewayPods) -> Manifest:
    """What it serves. Its pods are replaced when it changes."""
    text = gateway.service.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"
    name = name_of(gateway.owner, Part.GATEWAY)
    data = {SERVICE_KEY: text}
    return child(gateway.owner, "v1", "ConfigMap", name, Part.GATEWAY, data=data)


def rollout_map(owner: Owner, rollout: Rollout) -> Manifest:
    """The canary's share. Read by the gateways as it changes, without a restart."""
    data = {ROLLOUT_KEY: rollout.model_dump_json(by_alias=True, exclude_none=True) + "\n"}
    return child(owner, "v1", "ConfigMap", name_of(owner, ROLLOUT), Part.GATEWAY, data=data)


def deployment(gateway: GatewayPods) -> Manifest:
    owner, template = gateway.owner, gateway.spec.pod_template
    name = name_of(owner, Part.GATEWAY)
    config = {CONFIG_HASH: content_hash(config_map(gateway)["data"])}
    counted = {"matchLabels": selector(owner, Part.GATEWAY)}
    apart_by_default = {"topologySpreadConstraints": [apart(counted)]}
    spec = {
        "replicas": gateway.spec.replicas,
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": selector(owner, Part.GATEWAY)},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        },
        "template": {
            "metadata": {
                "labels": template.labels | labels_of(owner, Part.GATEWAY),
                "annotations": template.annotations | config,
            },
            "spec": pod_spec(
                container(gateway),
                volumes(gateway),
                template,
                pull_secrets=gateway.pull_secrets,
                grace_seconds=GRACE_SECONDS,
                counted=counted,
                **({} if template.topology_spread_constraints else apart_by_default),
            ),
        },
    }
    return child(owner, "apps/v1", "Deployment", name, Part.GATEWAY, spec=spec)


def kept(manifest: Manifest, live: Manifest | None) -> Manifest:
    """The Deployment as it is to be applied: as an earlier release made it, if it is there so and
    nothing else is to change. An upgrade alone replaces no pod."""
    metadata, template = manifest["metadata"], manifest["spec"]["template"]
    there = live["metadata"].get("annotations", {}) if live is not None else {}
    for pod in _earlier(template["spec"]):
        spec = manifest["spec"] | {"template": template | {"spec": pod}}
        hashed = content_hash({"spec": spec})
        if there.get(SPEC_HASH) == hashed:
            annotations = metadata["annotations"] | {SPEC_HASH: hashed}
            return manifest | {"metadata": metadata | {"annotations": annotations}, "spec": spec}
    return manifest


def _earlier(pod: Manifest) -> tuple[Manifest, ...]:
    """A pod's spec as earlier releases made it: without the secret of webhooks as a file, and what
    came before that."""
    spec = without(pod, env=(WEBHOOK_FILE,), volumes=(WEBHOOK_SECRET,))
    return (spec, *as_before(spec))


def container(gateway: GatewayPods) -> Manifest:
    resources = gateway.spec.resources
    cpu, cpu_limit = cpu_of(resources.cpu, resources.cpu_limit)
    return {
        "name": "gateway",
        "image": gateway.image,
        "imagePullPolicy": gateway.pull_policy,
        "command": ["/opt/wan/bin/wan-runtime"],
        "args": ["gateway", "--port", str(PORT)],
        "env": [
            *store_env(gateway.store_secret),
            *database_env(gateway.database_secret),
            *webhook_env(gateway.spec),
        ],
        "ports": [
            {"name": "http", "containerPort": PORT, "protocol": "TCP"},
            {"name": "pages", "containerPort": PROGRESS_PORT, "protocol": "TCP"},
        ],
        "livenessProbe": probe("/livez", "http", period=10, failures=6),
        "readinessProbe": probe("/readyz", "http", period=5, failures=3),
        "startupProbe": probe("/livez", "http", period=2, failures=60),
        "resources": {
            "requests": {"cpu": cpu, "memory": resources.memory},
            "limits": cpu_limit | {"memory": resources.memory},
        },
        "securityContext": security_context(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [mount for _, mount in volumes(gateway)],
    }


def volumes(gateway: GatewayPods) -> list[Volume]:
    owner, keys = gateway.owner, gateway.spec.keys_secret_ref.name
    webhook = gateway.spec.webhook_secret_ref
    # Optional: a gateway starts without it, and no canary is better than none that answers.
    rollout = {"name": name_of(owner, ROLLOUT), "optional": True}
    pairs = [
        volume(
            "service", "/etc/wan", read_only=True, configMap={"name": name_of(owner, "gateway")}
        ),
        volume("rollout", ROLLOUT_FOLDER, read_only=True, configMap=rollout),
        store_files(gateway.store_secret),
        database_files(gateway.database_secret),
        volume("keys", KEYS_FOLDER, read_only=True, secret={"secretName": keys}),
        *([secret_files(WEBHOOK_SECRET, WEBHOOK_PATH, webhook.name)] if webhook else []),
        scratch("tmp", "/tmp", "1Gi"),
        scratch("home", HOME, "64Mi"),
    ]
    return pairs if gateway.ca_bundle is None else [*pairs, authority(gateway.ca_bundle)]


def webhook_env(gateway: Gateway) -> list[Manifest]:
    """The secret of webhooks, and the file with it that is mounted."""
    secret = gateway.webhook_secret_ref
    if secret is None:
        return []
    return [
        secret_env("WAN_WEBHOOK_SECRET", secret.name, "secret"),
        {"name": WEBHOOK_FILE, "value": f"{WEBHOOK_PATH}/secret"},
    ]


def apart(counted: Manifest) -> Manifest:
    """One node that goes should not take all of them."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": counted,
    }
