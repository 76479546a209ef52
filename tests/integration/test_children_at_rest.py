"""Children that are applied: at rest they cost no write, edits of ours are healed, others' stay."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from integration.apiserver import ApiServer
from wan_operator.errors import PermanentError
from wan_operator.kinds import FINETUNE, KINDS
from wan_operator.kube import Kube, connect, path_of
from wan_operator.metrics import Metrics
from wan_operator.process import check_installed
from wan_operator.reconcile.decision import Delete
from wan_operator.resources.labels import MANAGED_BY, MANAGER, SERVICE, Owner, metadata
from wan_operator.settings import Settings

Raw = dict[str, Any]
SETTINGS = Settings(runtime_image="x", operator_image="x", namespace="wan-system", identity="test")
LABELS = {"app": "demo", MANAGED_BY: MANAGER, SERVICE: "demo"}
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
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": SELECTOR,
        }
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
    "PodDisruptionBudget": {"maxUnavailable": 1, "selector": SELECTOR},
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


@pytest.fixture
async def kube(apiserver: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kube]:
    monkeypatch.setenv("KUBECONFIG", str(apiserver.kubeconfig))

    async def at_once() -> None:
        """Writes are counted here, not limited."""

    made = Kube(await connect(), Metrics(), at_once, "test")
    yield made
    await made.close()


def manifest(kind: str, namespace: str, spec: Raw | None = None) -> Raw:
    owner = Owner(kind="WanInferenceService", namespace=namespace, name="demo", uid="u" * 36)
    content = SPECS[kind] if spec is None else spec
    return {
        "apiVersion": VERSIONS.get(kind, "networking.k8s.io/v1"),
        "kind": kind,
        "metadata": metadata(owner, "demo", LABELS, content),
        "spec": content,
    }


def writes(kube: Kube) -> float:
    [family] = list(kube._metrics.api_writes.collect())
    return sum(each.value for each in family.samples if each.name.endswith("_total"))


@pytest.mark.parametrize("kind", SPECS)
async def test_what_is_applied_is_held_and_drift_is_healed(
    apiserver: ApiServer, kube: Kube, namespace: str, kind: str
) -> None:
    wanted = manifest(kind, namespace)
    path = path_of(kind, namespace, "demo")

    def edit(body: Raw) -> None:
        apiserver.request("PATCH", path, body, content_type="application/merge-patch+json")

    await kube.ensure(wanted)
    assert writes(kube) == 1
    before = apiserver.request("GET", path)
    await kube.ensure(wanted)
    edit({"metadata": {"annotations": {"somebody": "else"}}})
    await kube.ensure(wanted)
    assert writes(kube) == 1, "it holds what is wanted"
    edit({"spec": EDITS[kind]})
    await kube.ensure(wanted)
    assert writes(kube) == 2
    after = apiserver.request("GET", path)
    assert after["spec"] == before["spec"]
    assert after["metadata"]["annotations"]["somebody"] == "else"
    await kube.ensure(wanted)
    assert writes(kube) == 2


async def test_others_elements_stay_and_what_is_not_wanted_any_more_goes(
    apiserver: ApiServer, kube: Kube, namespace: str
) -> None:
    await kube.ensure(manifest("Deployment", namespace))
    path = path_of("Deployment", namespace, "demo")
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {
            "minReadySeconds": 3,
            "template": {
                "spec": {"containers": [{"name": "worker", "env": [{"name": "X", "value": "1"}]}]}
            },
        },
    }
    apply = "application/apply-patch+yaml"
    apiserver.request("PATCH", f"{path}?fieldManager=somebody", theirs, content_type=apply)
    await kube.ensure(manifest("Deployment", namespace))
    assert writes(kube) == 1
    spec = copy.deepcopy(SPECS["Deployment"])
    del spec["template"]["spec"]["nodeSelector"]
    await kube.ensure(manifest("Deployment", namespace, spec))
    assert writes(kube) == 2
    live = apiserver.request("GET", path)["spec"]
    assert "nodeSelector" not in live["template"]["spec"]
    assert live["minReadySeconds"] == 3
    [container] = live["template"]["spec"]["containers"]
    assert "X" in [each["name"] for each in container["env"]]


async def test_a_cluster_without_the_gateway_api_says_so(kube: Kube, namespace: str) -> None:
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": manifest("Service", namespace)["metadata"],
        "spec": {"parentRefs": [{"name": "gateway"}]},
    }
    with pytest.raises(PermanentError, match=r"HTTPRoute named demo .* Gateway API") as told:
        await kube.ensure(route)
    assert told.value.reason == "GatewayAPINotInstalled"
    assert [item async for item in kube.list_all("HTTPRoute", namespace)] == []
    gone = Delete(kind="HTTPRoute", name="demo", uid="u", propagation="Background")
    await kube.delete(namespace, gone)


async def test_an_operator_without_a_crd_says_so(
    kube: Kube, crd: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    await check_installed(kube, SETTINGS, asyncio.Event())
    missing = replace(FINETUNE, name="WanOther", plural="wanothers")
    monkeypatch.setitem(KINDS, "WanOther", missing)
    with pytest.raises(SystemExit, match="the WanOther CRD is not installed"):
        await check_installed(kube, SETTINGS, asyncio.Event())
