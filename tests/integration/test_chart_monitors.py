"""What the chart makes for the Prometheus Operator, by that project's own schemas."""

from __future__ import annotations

from integration.apiserver import ApiServer
from integration.foreign_crds import PROMETHEUS_OPERATOR, installed, path_of
from unit.rendered import render

KINDS = {
    "ServiceMonitor": "servicemonitors",
    "PodMonitor": "podmonitors",
    "PrometheusRule": "prometheusrules",
}


def test_the_prometheus_operator_knows_every_field(apiserver: ApiServer, namespace: str) -> None:
    on = {"enabled": True, "labels": {"release": "prometheus"}}
    names = ("serviceMonitor", "podMonitor", "prometheusRule")
    documents = [
        *render({"metrics": dict.fromkeys(names, on)}),
        *render({"metrics": {"podMonitor": on}, "watchNamespaces": ["team-a"]}),
    ]
    crds = {
        kind: PROMETHEUS_OPERATOR.crd(f"monitoring.coreos.com_{plural}")
        for kind, plural in KINDS.items()
    }
    with installed(apiserver, *crds.values()):
        taken = []
        for document in documents:
            if document["kind"] in crds:
                document["metadata"]["namespace"] = namespace
                path = path_of(crds[document["kind"]], namespace)
                query = "?fieldValidation=Strict&dryRun=All"
                taken.append(apiserver.request("POST", path + query, document)["kind"])
    assert sorted(taken) == ["PodMonitor"] * 3 + sorted(KINDS)
