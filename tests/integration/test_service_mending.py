"""What the API server refuses to a service's Deployments is said in its words, and is made once it
is mended."""

from __future__ import annotations

from typing import Any

from integration.apiserver import ApiServer
from integration.operator_process import Operator, eventually
from integration.test_service_controller import NOTHING_AWAITED, Team, team

__all__ = ["team"]

Raw = dict[str, Any]


class Quota:
    """A ResourceQuota; nobody counts here, so the count is written by hand."""

    def __init__(self, server: ApiServer, namespace: str, resource: str) -> None:
        self.server, self.resource = server, resource
        self.path = f"/api/v1/namespaces/{namespace}/resourcequotas"
        body = {"metadata": {"name": "small"}, "spec": {"hard": {resource: "0"}}}
        server.request("POST", self.path, body)
        self.allows(0)

    def allows(self, count: int) -> None:
        hard = {"hard": {self.resource: str(count)}}
        for part, body in (
            ("", {"spec": hard}),
            ("/status", {"status": hard | {"used": {self.resource: "0"}}}),
        ):
            self.server.request(
                "PATCH", f"{self.path}/small{part}", body,
                content_type="application/merge-patch+json",
            )  # fmt: skip


def message(team: Team, type_: str = "Ready") -> str:
    conditions = team.get().get("status", {}).get("conditions", [])
    return next((each["message"] for each in conditions if each["type"] == type_), "")


def names(team: Team, part: str) -> set[str]:
    return {each["metadata"]["name"] for each in team.pods(part)}


def test_a_quota_is_said_and_pods_are_made_once_it_is_mended(
    team: Team, operator: Operator
) -> None:
    quota = Quota(team.server, team.namespace, "pods")
    operator.start()
    team.create(**NOTHING_AWAITED)
    team.reaches("Ready", "False", "QuotaExceeded")
    for said in ("ReplicaSet demo-gateway-", "ReplicaSet demo-worker-", "exceeded quota: small"):
        eventually(lambda said=said: said in message(team), f"the cause to be said: {said}")
    quota.allows(10)
    for part in ("gateway", "worker"):
        eventually(lambda part=part: team.pods(part), f"pods of the {part}")
    team.reaches("Ready", "False", "PodStarting")


def test_pods_that_have_not_begun_follow_an_edit(team: Team, operator: Operator) -> None:
    """There is no node: none of them ever begins, and new ones are never ready."""
    operator.start()
    gateway = team.create(**NOTHING_AWAITED)["spec"]["gateway"]
    parts = ("gateway", "worker")
    before = {part: eventually(lambda part=part: names(team, part), part) for part in parts}
    template = {"podTemplate": {"nodeSelector": {"disk": "fast"}}}
    change = {"workers": template, "gateway": gateway | template}
    team.edit(f"{team.services.path}/demo", {"spec": change})

    def follow(part: str) -> bool:
        selectors = [pod["spec"].get("nodeSelector") for pod in team.pods(part)]
        return bool(selectors) and all(each == {"disk": "fast"} for each in selectors)

    for part in parts:
        eventually(lambda part=part: follow(part), f"others in place of {before[part]}")
        assert not names(team, part) & before[part]
    [worker] = team.pods("worker")
    revision = worker["metadata"]["labels"]["wan-operator.dev/revision"]
    eventually(lambda: team.revision() == revision, "the new revision in the status")
    assert "rollout" not in team.get()["status"]


def test_what_is_refused_is_tried_again(team: Team, operator: Operator) -> None:
    """By an annotation of the Deployment, which its controller hands on to the ReplicaSet."""
    Quota(team.server, team.namespace, "pods")
    operator.start()
    team.create(**NOTHING_AWAITED)
    path = f"/apis/apps/v1/namespaces/{team.namespace}/replicasets"

    def tries() -> set[str]:
        found = team.server.request("GET", path)["items"]
        annotations = [each["metadata"]["annotations"] for each in found]
        return {each.get("wan-operator.dev/retried", "") for each in annotations} - {""}

    first = eventually(tries, "another try")
    eventually(lambda: tries() - first, "one more")
