"""The scale subresource of a WanInferenceService, by those who use it: kubectl, the real
HorizontalPodAutoscaler controller, KEDA's schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from integration.apiserver import ApiError, ApiServer
from integration.foreign_crds import KEDA, installed, path_of
from integration.operator_process import Operator, eventually
from integration.runs import ROOT, load
from integration.test_service_controller import NOTHING_AWAITED, Team
from unit.rendered import of_kind, render

Raw = dict[str, Any]
HPAS = "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers"


class Autoscaler:
    """A HorizontalPodAutoscaler of the service. It asks for no metric that this cluster has: its
    bounds are what moves replicas."""

    def __init__(self, team: Team) -> None:
        self.team = team
        self.path = HPAS.format(team.namespace)

    def create(self, least: int, most: int) -> None:
        target = {
            "apiVersion": "wan-operator.dev/v1alpha1",
            "kind": "WanInferenceService",
            "name": "demo",
        }
        spec = {"scaleTargetRef": target, "minReplicas": least, "maxReplicas": most}
        body = {"metadata": {"name": "demo"}, "spec": spec}
        self.team.server.request("POST", self.path, body)

    def bound(self, least: int, most: int) -> None:
        self.team.edit(f"{self.path}/demo", {"spec": {"minReplicas": least, "maxReplicas": most}})

    def condition(self, type_: str) -> Raw:
        found = self.team.server.request("GET", f"{self.path}/demo").get("status", {})
        return next((each for each in found.get("conditions", ()) if each["type"] == type_), {})


@pytest.fixture
def team(kubernetes: ApiServer, namespace: str) -> Team:
    return Team(kubernetes, namespace)


@pytest.fixture
def autoscaler(team: Team) -> Iterator[Autoscaler]:
    made = Autoscaler(team)
    yield made
    team.server.request("DELETE", made.path)


def workers(team: Team) -> int | None:
    found = team.children().get(("deployments", "demo-worker"))
    return None if found is None else found["spec"]["replicas"]


def scale(team: Team) -> Raw:
    found: Raw = team.server.request("GET", f"{team.services.path}/demo/scale")
    return found


def test_an_autoscaler_owns_the_replicas(
    team: Team, operator: Operator, autoscaler: Autoscaler
) -> None:
    operator.start()
    team.create(**NOTHING_AWAITED)
    autoscaler.create(3, 5)
    eventually(lambda: workers(team) == 3, "its minimum")
    assert team.get()["spec"]["replicas"] == 3
    eventually(lambda: scale(team)["status"]["replicas"] == 3, "the workers to be counted")
    pods = team.server.request(
        "GET",
        f"/api/v1/namespaces/{team.namespace}/pods"
        f"?labelSelector={scale(team)['status']['selector']}",
    )["items"]
    assert len(pods) == 3
    assert all(pod["metadata"]["name"].startswith("demo-worker-") for pod in pods)
    eventually(lambda: autoscaler.condition("AbleToScale").get("status") == "True", "its condition")
    autoscaler.bound(1, 2)
    eventually(lambda: workers(team) == 2, "its maximum")
    operator.terminate()
    operator.start()  # which looks at everything again
    edit = {"spec": {"limits": {"promptCharacters": 99}}}
    generation = team.edit(f"{team.services.path}/demo", edit)["metadata"]["generation"]
    eventually(
        lambda: team.get()["status"]["observedGeneration"] == generation, "a look at the edit"
    )
    assert (team.get()["spec"]["replicas"], workers(team)) == (2, 2), "nobody fights over it"


def test_an_autoscaler_is_told_that_the_operator_scales(
    team: Team, operator: Operator, autoscaler: Autoscaler
) -> None:
    operator.start()
    team.create(**NOTHING_AWAITED, autoscaling={"minReplicas": 1, "maxReplicas": 2})
    eventually(lambda: workers(team) == 1, "a worker")
    autoscaler.create(3, 5)
    told = eventually(
        lambda: (
            autoscaler.condition("AbleToScale").get("reason") == "FailedUpdateScale"
            and autoscaler.condition("AbleToScale")
        ),
        "the autoscaler to be refused",
    )
    assert "spec.autoscaling chooses the number of workers" in told["message"]
    refused = team.services.kubectl("scale", "wis/demo", "--replicas=3", check=False)
    assert refused.returncode == 1
    assert "spec.autoscaling chooses the number of workers" in refused.stderr
    with pytest.raises(ApiError, match=r"spec\.replicas: Forbidden"):
        team.edit(f"{team.services.path}/demo", {"spec": {"replicas": 3}})
    assert (team.get()["spec"]["replicas"], workers(team)) == (1, 1)
    team.edit(f"{team.services.path}/demo", {"spec": {"autoscaling": None}})
    eventually(lambda: workers(team) == 3, "the autoscaler to have its way now")


def test_who_may_edit_may_scale(team: Team, operator: Operator) -> None:
    operator.start()
    team.create(**NOTHING_AWAITED)
    role = of_kind(render(), "ClusterRole", "-editor")
    role["metadata"]["name"] = f"editor-{team.namespace}"
    binding = {
        "metadata": {"name": "dana"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": role["metadata"]["name"],
        },
        "subjects": [{"kind": "User", "name": "dana", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    team.server.request("POST", f"{rbac}/clusterroles", role)
    team.server.request("POST", f"{rbac}/namespaces/{team.namespace}/rolebindings", binding)

    def is_scaled() -> bool:
        words = ("scale", "wis/demo", "--replicas=3", "--as=dana")
        done = team.services.kubectl(*words, check=False)
        return bool(done.returncode == 0)

    eventually(is_scaled, "the right to be in force")
    eventually(lambda: workers(team) == 3, "three workers")


def test_keda_knows_every_field_of_the_example(apiserver: ApiServer, namespace: str) -> None:
    example = load(ROOT / "examples" / "autoscaling-keda.yaml")
    crd = KEDA.crd("keda.sh_scaledobjects")
    with installed(apiserver, crd):
        query = "?fieldValidation=Strict&dryRun=All"
        apiserver.request("POST", path_of(crd, namespace) + query, example)
    service = load(ROOT / "examples" / "inference-minimal.yaml")
    target = example["spec"]["scaleTargetRef"]
    assert target == {key: service[key] for key in ("apiVersion", "kind")} | {
        "name": service["metadata"]["name"]
    }
    [trigger] = example["spec"]["triggers"]
    asked = set(re.findall(r"wan_queue_\w+", trigger["metadata"]["query"]))
    assert asked == {"wan_queue_predicted_seconds", "wan_queue_remaining_seconds"}
