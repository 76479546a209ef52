"""Children that are applied: at rest they cost no write, edits of ours are healed, others' stay."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from integration.apiserver import ApiServer
from integration.children import EDITS, SPECS, manifest
from wan_operator.errors import PermanentError
from wan_operator.kinds import FINETUNE, KINDS
from wan_operator.kube import Kube
from wan_operator.kubeconfig import connect
from wan_operator.metrics import Metrics
from wan_operator.paths import path_of
from wan_operator.process import check_installed
from wan_operator.reconcile.decision import Delete
from wan_operator.settings import Settings

Raw = dict[str, Any]
SETTINGS = Settings(runtime_image="x", operator_image="x", namespace="wan-system", identity="test")


@pytest.fixture
async def kube(apiserver: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kube]:
    monkeypatch.setenv("KUBECONFIG", str(apiserver.kubeconfig))

    async def at_once() -> None:
        """Writes are counted here, not limited."""

    made = Kube(await connect(), Metrics(), at_once, "test")
    yield made
    await made.close()


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
    missing = replace(
        FINETUNE, definition=replace(FINETUNE.definition, name="WanOther", plural="wanothers")
    )
    monkeypatch.setitem(KINDS, "WanOther", missing)
    with pytest.raises(SystemExit, match="the WanOther CRD is not installed"):
        await check_installed(kube, SETTINGS, asyncio.Event())
