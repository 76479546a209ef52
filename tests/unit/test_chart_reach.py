"""Who reaches whom through all NetworkPolicies, the chart's and those that the operator makes, by
what the pods themselves say that they need."""

from __future__ import annotations

from functools import cache
from typing import Any

from unit.made_pods import TEAM, Network, Pod, made, policies, selects
from unit.rendered import NAMESPACE, of_kind, render
from wan_runtime.contract.job import PROGRESS_PORT

STORE = 9000
PROMETHEUS = Pod({"app.kubernetes.io/name": "prometheus"}, "monitoring")


@cache
def documents(*, scraped: bool = True) -> list[dict[str, Any]]:
    fenced = {"enabled": True, "namespaces": [TEAM], "storePorts": [STORE]}
    values = {
        "networkPolicy": {"workloads": fenced},
        "metrics": {"podMonitor": {"enabled": scraped}},
        "postgresql": {"enabled": True},
    }
    return render(values)


@cache
def network(*, scraped: bool = True) -> Network:
    """With everything fenced in."""
    charts = [each for each in documents(scraped=scraped) if each["kind"] == "NetworkPolicy"]
    return Network((*charts, *policies()))


@cache
def released(kind: str, suffix: str = "") -> Pod:
    """A pod of the release itself."""
    template = of_kind(documents(), kind, suffix)["spec"]["template"]
    return Pod(template["metadata"]["labels"], NAMESPACE, template["spec"])


def of(*commands: str) -> list[Pod]:
    return [pod for pod in made() if pod.command in commands]


def test_every_pod_is_read_by_the_operator_and_scraped_by_prometheus() -> None:
    operator, fenced = released("Deployment"), network(scraped=False)
    monitors = [each["spec"] for each in documents() if each["kind"] == "PodMonitor"]
    for pod in made():
        if pod.command == "clear":
            assert not pod.ports
            continue
        [name] = [name for name, port in pod.ports.items() if port == PROGRESS_PORT]
        for ways in (network(), fenced):
            assert ways.passes(operator, pod, PROGRESS_PORT), str(pod)
        assert network().passes(PROMETHEUS, pod, PROGRESS_PORT), str(pod)
        if pod.command in ("train", "export"):
            assert not fenced.passes(PROMETHEUS, pod, PROGRESS_PORT), str(pod)
        scrapes = [
            (end["path"], end["port"])
            for each in monitors
            if selects(each["selector"], pod.labels)
            for end in each["podMetricsEndpoints"]
            if end["port"] in pod.ports
        ]
        assert scrapes == [("/metrics", name)], f"{pod} once"
