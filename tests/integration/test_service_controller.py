"""A WanInferenceService through a real API server, operator process and Deployment controller.
There is no node: no pod is ever ready here."""

from __future__ import annotations

from typing import Any

import pytest

from integration.apiserver import ApiError, ApiServer
from integration.cluster import now
from integration.operator_process import Operator, eventually
from integration.runs import ROOT, Manifest, Runs, load
from integration.test_controller_rights import FULL_NAME, account_of_the_chart

Raw = dict[str, Any]
PATHS = {
    "deployments": "/apis/apps/v1",
    "services": "/api/v1",
    "configmaps": "/api/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
    "networkpolicies": "/apis/networking.k8s.io/v1",
    "ingresses": "/apis/networking.k8s.io/v1",
}


class Team:
    """The services of one namespace, and their children."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self.server, self.namespace = server, namespace
        self.services = Runs(server, namespace, "waninferenceservices")

    def create(self, example: str = "tiny", **spec: Any) -> Raw:
        manifest = load(ROOT / "examples" / f"inference-{example}.yaml")
        manifest["spec"] |= spec
        return self.services.create(manifest)

    def get(self, name: str = "demo") -> Raw:
        found: Raw = self.server.request("GET", f"{self.services.path}/{name}")
        return found

    def path(self, plural: str, name: str = "") -> str:
        prefix = f"{PATHS[plural]}/namespaces/{self.namespace}/{plural}"
        return f"{prefix}/{name}" if name else prefix

    def children(self) -> dict[tuple[str, str], Raw]:
        return {
            (plural, item["metadata"]["name"]): item
            for plural in PATHS
            for item in self.server.request(
                "GET", self.path(plural) + "?labelSelector=wan-operator.dev/service=demo"
            )["items"]
        }

    def child(self, plural: str, name: str) -> Raw:
        def look() -> Raw | None:
            return self.children().get((plural, name))

        return eventually(look, f"{plural} {name}")

    def revision(self) -> str:
        """The one that serves; in the status once its children are there."""

        def look() -> str:
            found: str = self.get()["status"].get("revision", "")
            return found

        return eventually(look, "a revision that serves")

    def pods(self, part: str, name: str = "demo") -> list[Raw]:
        """Pods of a service's part that are not going."""
        selector = f"wan-operator.dev/service={name},app.kubernetes.io/component={part}"
        path = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={selector}"
        found = self.server.request("GET", path)["items"]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def works(self, name: str = "demo") -> None:
        """The kubelet's part: the first worker runs."""
        [pod] = eventually(lambda: self.pods("worker", name), "a worker")
        container = {"name": "worker", "image": "x", "imageID": "", "ready": False}
        container |= {"restartCount": 0, "state": {"running": {"startedAt": now()}}}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}/status"
        self.edit(path, {"status": {"phase": "Running", "containerStatuses": [container]}})

    def edit(self, path: str, body: Raw) -> Raw:
        found: Raw = self.server.request(
            "PATCH", path, body, content_type="application/merge-patch+json"
        )
        return found

    def condition(self, type_: str) -> tuple[str, str]:
        for each in self.get().get("status", {}).get("conditions", []):
            if each["type"] == type_:
                return each["status"], each["reason"]
        return "", ""

    def reaches(self, type_: str, status: str, reason: str) -> None:
        try:
            eventually(lambda: self.condition(type_) == (status, reason), f"{type_} {reason}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.get().get('status')}") from None


@pytest.fixture
def team(kubernetes: ApiServer, namespace: str) -> Team:
    return Team(kubernetes, namespace)


NOTHING_AWAITED: Manifest = {"adapters": [], "effects": []}


def test_a_service_becomes_its_children_and_rests(team: Team, operator: Operator) -> None:
    operator.start()
    team.create(**NOTHING_AWAITED)
    worker = team.child("deployments", "demo-worker")
    revision = team.revision()
    assert worker["spec"]["template"]["metadata"]["labels"]["wan-operator.dev/revision"] == revision
    assert team.child("configmaps", f"demo-{revision}")["data"].keys() == {
        "service.json",
        "worker.json",
    }
    assert team.child("services", "demo")["spec"]["ports"][0]["targetPort"] == "http"
    team.child("deployments", "demo-gateway")
    team.reaches("Ready", "False", "PodStarting")
    before = {key: each["metadata"]["resourceVersion"] for key, each in settled(team).items()}
    team.edit(f"{team.services.path}/demo", {"metadata": {"annotations": {"a": "look again"}}})
    operator.terminate()
    operator.start()
    eventually(lambda: "leading" in operator.get("/readyz")[1], "everything to be looked at again")
    after = {key: each["metadata"]["resourceVersion"] for key, each in settled(team).items()}
    assert after == before, "a service at rest is written to"


def settled(team: Team) -> dict[tuple[str, str], Raw]:
    """The children, once the Deployment controller has seen them."""

    def seen() -> dict[tuple[str, str], Raw] | None:
        found = team.children()
        done = all(
            each.get("status", {}).get("observedGeneration") == each["metadata"]["generation"]
            and each["status"].get("replicas") == each["spec"]["replicas"]
            for (plural, _), each in found.items()
            if plural == "deployments"
        )
        return found if done else None

    return eventually(seen, "the Deployments to have their pods")


def test_what_others_change_is_healed(team: Team, operator: Operator) -> None:
    operator.start()
    team.create(**NOTHING_AWAITED)
    path = team.path("deployments", "demo-worker")
    team.child("deployments", "demo-worker")
    team.edit(path, {"spec": {"replicas": 7}, "metadata": {"annotations": {"theirs": "stays"}}})
    eventually(
        lambda: team.children()["deployments", "demo-worker"]["spec"]["replicas"] == 1,
        "the replicas to be the service's again",
    )
    assert team.child("deployments", "demo-worker")["metadata"]["annotations"]["theirs"] == "stays"
    team.server.request("DELETE", team.path("deployments", "demo-gateway"))
    team.child("deployments", "demo-gateway")


def test_a_fine_tune_is_followed(team: Team, operator: Operator, runs: Runs) -> None:
    operator.start()
    team.create()
    team.reaches("Stalled", "True", "FineTuneNotFound")
    finetune = load(ROOT / "examples" / "finetune-tiny.yaml")
    finetune["spec"]["suspend"] = True
    runs.create(finetune)
    team.reaches("Reconciling", "True", "WaitingForFineTune")
    assert team.children() == {}
    artifact = {"uri": "s3://wan/runs/demo/export/manifest.json", "sha256": "a" * 64}
    runs.patch("demo", {"status": {"artifact": artifact}}, "/status")
    team.child("deployments", "demo-worker")
    eventually(
        lambda: team.get()["status"]["adapters"][0].get("artifact") == artifact,
        "the artifact in the status",
    )


def test_a_strangers_object_is_left_alone(team: Team, operator: Operator) -> None:
    operator.start()
    theirs = {"metadata": {"name": "demo"}, "spec": {"ports": [{"port": 1}]}}
    made = team.server.request("POST", team.path("services"), theirs)
    team.create(**NOTHING_AWAITED)
    team.reaches("Stalled", "True", "NameConflict")
    found = team.server.request("GET", team.path("services", "demo"))
    assert found["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    team.child("deployments", "demo-worker")


def test_all_goes_with_the_service(team: Team, operator: Operator) -> None:
    operator.start()
    team.create(**NOTHING_AWAITED)
    team.child("deployments", "demo-worker")
    team.server.request("DELETE", f"{team.services.path}/demo")
    eventually(lambda: team.children() == {}, "the children to go")
    with pytest.raises(ApiError, match="not found"):
        team.get()


def test_the_charts_rights_are_enough(
    kubernetes: ApiServer, operator: Operator, namespace: str
) -> None:
    name = f"{namespace}-team"
    kubernetes.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    setting = f"watchNamespaces={{{name}}}"
    operator.kubeconfig = account_of_the_chart(kubernetes, namespace, setting)
    operator.settings |= {"WAN_WATCH_NAMESPACES": name, "WAN_LEASE_NAME": FULL_NAME}
    operator.start()
    team = Team(kubernetes, name)
    made = team.create(**NOTHING_AWAITED)
    gateway = made["spec"]["gateway"] | {"ingress": {"host": "videos.example.com"}}
    path = f"{team.services.path}/demo"
    team.edit(path, {"spec": {"gateway": gateway}})
    team.child("ingresses", "demo")
    team.edit(path, {"spec": {"gateway": {"ingress": None}, "defaults": {"steps": 4}}})
    eventually(lambda: ("ingresses", "demo") not in team.children(), "the Ingress to go")
    assert operator.terminate() == 0
    assert "forbidden: user" not in operator.log.read_text().lower()
