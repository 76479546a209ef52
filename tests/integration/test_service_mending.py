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


def pods(team: Team, part: str) -> list[Raw]:
    selector = f"?labelSelector=app.kubernetes.io/component={part}"
    path = f"/api/v1/namespaces/{team.namespace}/pods{selector}"
    found: list[Raw] = team.server.request("GET", path)["items"]
    return found


def test_a_quota_is_said_and_pods_are_made_once_it_is_mended(
    team: Team, operator: Operator
) -> None:
    quota = Quota(team.server, team.namespace, "pods")
    operator.start()
    team.create(**NOTHING_AWAITED)
    team.reaches("Ready", "False", "PodNotCreated")
    for said in ("ReplicaSet demo-gateway-", "ReplicaSet demo-worker-", "exceeded quota: small"):
        eventually(lambda said=said: said in message(team), f"the cause to be said: {said}")
    quota.allows(10)
    for part in ("gateway", "worker"):
        eventually(lambda part=part: pods(team, part), f"pods of the {part}")
    team.reaches("Ready", "False", "PodStarting")
