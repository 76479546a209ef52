"""How a service is opened to others: the Ingress, and the HTTPRoute by the Gateway API's own
schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from integration.apiserver import ApiError, ApiServer
from integration.foreign_crds import GATEWAY_API, installed, path_of
from integration.operator_process import Operator, eventually
from integration.runs import sent_is_kept
from integration.test_controller_rights import FULL_NAME, account_of_the_chart
from integration.test_service_controller import NOTHING_AWAITED, Team

Raw = dict[str, Any]
HTTP_ROUTES = "gateway.networking.k8s.io_httproutes"
ROUTE: Raw = {
    "parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "https"}],
    "hostnames": ["videos.example.com", "*.videos.example.com"],
    "requestTimeout": "0s",
}
INGRESS: Raw = {
    "className": "nginx",
    "host": "videos.example.com",
    "tlsSecretName": "videos-tls",
    "annotations": {
        "nginx.ingress.kubernetes.io/proxy-body-size": "25m",
        "example.com/dropped-later": "yes",
    },
}


@pytest.fixture
def team(kubernetes: ApiServer, namespace: str) -> Team:
    return Team(kubernetes, namespace)


@pytest.fixture
def operator_of_the_chart(operator: Operator, namespace: str) -> Operator:
    """With no more rights than the chart gives it."""
    setting = f"watchNamespaces={{{namespace}}}"
    operator.kubeconfig = account_of_the_chart(operator.server, namespace, setting)
    operator.settings["WAN_LEASE_NAME"] = FULL_NAME
    return operator.start()


def opened(team: Team, **route: Any) -> None:
    """The service, there already or not, with this in spec.gateway."""
    if team.services.names():
        team.edit(f"{team.services.path}/demo", {"spec": {"gateway": route}})
    else:
        team.create(**NOTHING_AWAITED, gateway={"keysSecretRef": {"name": "keys"}} | route)


def look(team: Team, path: str) -> Raw | None:
    """None: it is not there, or no object of its kind can be."""
    try:
        found: Raw = team.server.request("GET", path)
    except ApiError as error:
        if error.code in (404, 429, 503):
            return None
        raise
    return found


def becomes(team: Team, path: str, wanted: Callable[[Raw], bool], what: str) -> Raw:
    def probe() -> Raw | None:
        found = look(team, path)
        return found if found is not None and wanted(found) else None

    return eventually(probe, what)


def test_a_route_comes_with_the_gateway_api_and_goes_with_the_spec(
    team: Team, operator_of_the_chart: Operator
) -> None:
    opened(team, httpRoute=ROUTE)
    team.reaches("Stalled", "True", "GatewayAPINotInstalled")
    [told] = [each for each in team.get()["status"]["conditions"] if each["type"] == "Stalled"]
    assert "HTTPRoute named demo" in told["message"]
    for plural, name in (("deployments", "demo-worker"), ("services", "demo")):
        team.child(plural, name)
    crd = GATEWAY_API.crd(HTTP_ROUTES)
    with installed(team.server, crd):
        path = f"{path_of(crd, team.namespace)}/demo"
        made = becomes(team, path, lambda found: True, "the HTTPRoute")
        backend = {"kind": "Service", "name": "demo", "port": 80}
        rule = {
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [backend],
            "timeouts": {"request": "0s"},
        }
        said = {key: ROUTE[key] for key in ("parentRefs", "hostnames")}
        assert sent_is_kept(said | {"rules": [rule]}, made["spec"])
        eventually(lambda: team.condition("Stalled")[0] != "True", "the service to be content")

        accepted = {
            "parents": [
                {
                    "parentRef": made["spec"]["parentRefs"][0],
                    "controllerName": "example.com/gateway",
                    "conditions": [
                        {
                            "type": "Accepted",
                            "status": "True",
                            "reason": "Accepted",
                            "message": "",
                            "lastTransitionTime": "2026-01-01T00:00:00Z",
                        }
                    ],
                }
            ]
        }
        team.edit(f"{path}/status", {"status": accepted})
        before = team.edit(path, {"metadata": {"annotations": {"theirs": "stays"}}})
        edit = {"spec": {"limits": {"promptCharacters": 99}}}
        generation = team.edit(f"{team.services.path}/demo", edit)["metadata"]["generation"]
        eventually(lambda: team.get()["status"]["observedGeneration"] == generation, "another look")
        assert look(team, path) == before, "a route at rest is written to"
        team.edit(path, {"spec": {"hostnames": ["elsewhere.example.com"]}})
        healed = becomes(
            team, path, lambda it: it["spec"] == before["spec"], "its hostnames to be healed"
        )
        assert healed["metadata"]["annotations"]["theirs"] == "stays"
        assert healed["status"] == accepted, "the controller's word is not ours to touch"

        opened(team, httpRoute={"hostnames": None})
        becomes(team, path, lambda it: "hostnames" not in it["spec"], "all hosts of the Gateway")
        opened(team, httpRoute=None)
        eventually(lambda: look(team, path) is None, "the HTTPRoute to go")
    assert "forbidden" not in operator_of_the_chart.log.read_text().lower()


def test_an_ingress_comes_and_goes(team: Team, operator: Operator) -> None:
    operator.start()
    opened(team, ingress=INGRESS)
    path = team.path("ingresses", "demo")
    made = becomes(team, path, lambda found: True, "the Ingress")
    assert made["spec"] == {
        "ingressClassName": "nginx",
        "tls": [{"hosts": ["videos.example.com"], "secretName": "videos-tls"}],
        "rules": [
            {
                "host": "videos.example.com",
                "http": {
                    "paths": [
                        {
                            "path": "/",
                            "pathType": "Prefix",
                            "backend": {"service": {"name": "demo", "port": {"number": 80}}},
                        }
                    ]
                },
            }
        ],
    }
    assert INGRESS["annotations"].items() <= made["metadata"]["annotations"].items()
    eventually(
        lambda: team.get()["status"].get("url") == "https://videos.example.com", "the address"
    )
    team.edit(path, {"metadata": {"annotations": {"theirs": "stays"}}})
    opened(team, ingress={"annotations": {"example.com/dropped-later": None}})
    left = becomes(
        team,
        path,
        lambda it: "example.com/dropped-later" not in it["metadata"]["annotations"],
        "the annotation to go",
    )
    assert left["metadata"]["annotations"]["theirs"] == "stays"
    opened(team, ingress={"className": None})
    becomes(team, path, lambda it: "ingressClassName" not in it["spec"], "the class to go")
    opened(team, ingress=None)
    eventually(lambda: look(team, path) is None, "the Ingress to go")
