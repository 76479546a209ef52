"""The engine with a kind of its own beside WanFineTune: nothing in it is made for one kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import aiohttp
import pytest

from integration.apiserver import ApiServer
from integration.operator_process import eventually
from integration.runs import GROUP, Runs, minimal
from wan_operator.api.v1alpha1.common import ApiModel
from wan_operator.controller import Controller
from wan_operator.crdgen.crd import Definition
from wan_operator.handlers import watch
from wan_operator.kinds import FINETUNE, KINDS, Follows, Kind
from wan_operator.kube import Kube
from wan_operator.kubeconfig import connect
from wan_operator.metrics import Metrics
from wan_operator.paths import path_of
from wan_operator.reconcile.decision import Decision
from wan_operator.reconcile.observed import Key, Observed, label, owned_by
from wan_operator.resources.labels import MANAGED_BY, MANAGER, Owner, metadata
from wan_operator.settings import Settings

Raw = dict[str, Any]
ECHO = "WanEcho"
LABEL = "wan-operator.dev/echo"
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "wanechoes.wan-operator.dev"},
    "spec": {
        "group": "wan-operator.dev",
        "names": {"kind": ECHO, "plural": "wanechoes", "singular": "wanecho"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


class Echo(ApiModel):
    """Any content: the definition above says so to the API server."""


def follows(cr: Raw) -> Iterable[Key]:
    return [Key("WanFineTune", cr["metadata"]["namespace"], cr["spec"]["of"])]


def reconcile(cr: Raw, observed: Observed, settings: Settings, now: datetime) -> Decision:
    """A Deployment if there is none, and the generation of the WanFineTune it follows."""
    name, uid = cr["metadata"]["name"], cr["metadata"]["uid"]
    namespace = cr["metadata"]["namespace"]
    owner = Owner(kind=ECHO, label=LABEL, namespace=namespace, name=name, uid=uid)
    labels = {MANAGED_BY: MANAGER, LABEL: name}
    container = {"name": "echo", "image": "x"}
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": {LABEL: name}},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(owner, name, labels, spec),
        "spec": spec,
    }
    heard = {key.name: each["metadata"]["generation"] for key, each in observed.followed.items()}
    there = owned_by(observed.children.get("Deployment", ()), uid)
    refused = {unit: refusal.reason for unit, refusal in observed.refused.items()}
    status = {"heard": heard, "deployments": len(there), "refused": refused}
    return Decision(children=() if there else (deployment,), status=status)


KIND = Kind(
    definition=Definition(
        name=ECHO, plural="wanechoes", short="echo", spec=Echo, status=Echo, name_limit=40,
        columns=(), example="",
    ),
    label=LABEL,
    children=("Deployment", "HTTPRoute"),
    watched=("Deployment",),
    vocabulary=FINETUNE.vocabulary,
    reconcile=reconcile,
    needs_reconcile=lambda cr: True,
    stalled=lambda cr, reason, message, now: Decision(),
    unit=lambda manifest: f"{manifest['kind']}/{label(manifest, LABEL)}",
    follows=Follows(kinds=frozenset({FINETUNE.name}), keys=follows),
)  # fmt: skip


@asynccontextmanager
async def running(namespace: str, **changes: Any) -> AsyncIterator[Controller]:
    """All of the operator in this process, but its Lease and its health."""

    async def at_once() -> None:
        """No limit on writes."""

    settings = Settings(
        runtime_image="x",
        operator_image="x",
        namespace=namespace,
        watch_namespaces=(namespace,),
        identity="test",
        sweep_seconds=3600,
    )
    metrics = Metrics()
    kube = Kube(await connect(), metrics, at_once, "test")
    async with aiohttp.ClientSession() as http:
        controller = Controller(kube, replace(settings, **changes), metrics, http)
        working = asyncio.create_task(controller.run())
        await controller.synced.wait()
        watching = asyncio.create_task(watch(controller, controller.settings, lambda: None))
        try:
            yield controller
        finally:
            controller.stop()
            await working
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await kube.close()


class Echoes:
    """Of one namespace."""

    def __init__(self, server: ApiServer, runs: Runs) -> None:
        self.server = server
        self.runs = runs
        self.path = f"{GROUP}/namespaces/{runs.namespace}/wanechoes"

    def create(self, name: str, of: str) -> None:
        body = {
            "apiVersion": "wan-operator.dev/v1alpha1",
            "kind": ECHO,
            "metadata": {"name": name},
            "spec": {"of": of},
        }
        self.server.request("POST", self.path, body)

    def status(self, name: str) -> Raw:
        status: Raw = self.server.request("GET", f"{self.path}/{name}").get("status", {})
        return status

    async def rests(self, name: str, controller: Controller) -> None:
        """Its last status has come back by the watch and was looked at: what comes next is news."""

        def probe() -> bool:
            found = self.server.request("GET", f"{self.path}/{name}")["metadata"]
            seen = controller.watchdog._delivered[ECHO].get(found["uid"], ("",))[0]
            key = Key(ECHO, self.runs.namespace, name)
            return seen == found["resourceVersion"] and not controller.queue.is_scheduled(key)

        await asyncio.to_thread(eventually, probe, f"{name} to rest")

    async def awaits(self, name: str, probe: Callable[[Raw], object], what: str) -> None:
        await asyncio.to_thread(eventually, lambda: probe(self.status(name)), what)


@pytest.fixture
def echoes(apiserver: ApiServer, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Echoes:
    monkeypatch.setenv("KUBECONFIG", str(apiserver.kubeconfig))
    monkeypatch.setitem(KINDS, ECHO, KIND)
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    if not any(
        each["metadata"]["name"] == DEFINITION["metadata"]["name"]  # type: ignore[index]
        for each in apiserver.request("GET", crds)["items"]
    ):
        apiserver.request("POST", crds, DEFINITION)
    made = Echoes(apiserver, runs)
    eventually(
        lambda: apiserver.kubectl("get", "wanechoes", check=False).returncode == 0,
        "the second CRD to be served",
    )
    return made


async def test_a_second_kind_has_children_that_are_watched_and_follows_the_first(
    apiserver: ApiServer, runs: Runs, echoes: Echoes
) -> None:
    deployment = path_of("Deployment", runs.namespace, "echo")
    async with running(runs.namespace) as controller:
        echoes.create("echo", of="demo")
        await echoes.awaits("echo", lambda said: said.get("deployments"), "a Deployment")
        assert echoes.status("echo")["heard"] == {}, "there is none to follow"
        await echoes.rests("echo", controller)
        runs.create(minimal("demo"))
        await echoes.awaits("echo", lambda said: said["heard"] == {"demo": 1}, "the followed one")
        uid = apiserver.request("GET", deployment)["metadata"]["uid"]
        await echoes.rests("echo", controller)
        apiserver.request("DELETE", deployment)

        def back() -> bool:
            found = apiserver.kubectl(
                "-n", runs.namespace, "get", "deployment", "-o", "json"
            ).stdout
            return uid not in found and '"name": "echo"' in found

        await asyncio.to_thread(eventually, back, "the Deployment to be made again")
        await echoes.rests("echo", controller)
        runs.patch("demo", {"spec": {"checkpoint": {"everySteps": 7}}})
        await echoes.awaits("echo", lambda said: said["heard"] == {"demo": 2}, "the edit")
        await echoes.rests("echo", controller)
        runs.kubectl("delete", "wanfinetune", "demo", "--wait=false")
        await echoes.awaits("echo", lambda said: said["heard"] == {}, "the end of the followed one")
        await controller.sweep()
        states = {
            (sample.labels["kind"], sample.value)
            for family in controller._metrics.resources.collect()
            for sample in family.samples
        }
        assert (ECHO, 1.0) in states


async def test_after_a_restart_it_still_follows(runs: Runs, echoes: Echoes) -> None:
    runs.create(minimal("demo"))
    echoes.create("echo", of="demo")
    async with running(runs.namespace):
        await echoes.awaits("echo", lambda said: said.get("deployments"), "a Deployment")
    async with running(runs.namespace) as controller:
        key = Key(ECHO, runs.namespace, "echo")
        assert not controller.queue.is_scheduled(key), "nothing but the run can wake it"
        runs.patch("demo", {"spec": {"checkpoint": {"everySteps": 7}}})
        await echoes.awaits("echo", lambda said: said["heard"] == {"demo": 2}, "the edit")


async def test_what_is_refused_is_told_to_the_decision_by_its_unit(
    apiserver: ApiServer, runs: Runs, echoes: Echoes
) -> None:
    body = {"metadata": {"name": "taken"}, "spec": {"selector": {"matchLabels": {"a": "b"}}}}
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }
    theirs = {**body, "spec": {**body["spec"], "template": template}}
    apiserver.request("POST", path_of("Deployment", runs.namespace), theirs)
    async with running(runs.namespace):
        echoes.create("taken", of="nobody")
        refused = {"Deployment/taken": "NameConflict"}
        await echoes.awaits("taken", lambda said: said.get("refused") == refused, "the refusal")
