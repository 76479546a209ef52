"""Who reaches whom through all NetworkPolicies, the chart's and those that the operator makes, by
what the pods themselves say that they need."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import wan_operator
from unit.made_pods import TEAM, Network, Pod, made, policies, selects
from unit.rendered import NAMESPACE, of_kind, render
from wan_operator.resources.jobs import API_KEY_PATH
from wan_operator.resources.meeting import MEETING_PORT
from wan_operator.resources.service.gateway import PORT as GATEWAY_PORT
from wan_runtime.contract.evaluation import RATING_PORT
from wan_runtime.contract.job import PROGRESS_PORT
from wan_runtime.contract.steps import Step

STORE, DATABASE, WEB = 9000, 5432, 443
DNS = (53, 5353)
"""OpenShift's pods listen at the second, and its network reads policies behind the Service."""
ANY = 41234
"""A port that NCCL may choose."""
COMPONENT = "app.kubernetes.io/component"
PROMETHEUS = Pod({"app.kubernetes.io/name": "prometheus"}, "monitoring")
STRANGER = Pod({"app": "x"})
"""Somebody else's pod in the same namespace."""
OUTSIDE = None


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


# -- All of them


def test_no_kind_of_pod_is_forgotten() -> None:
    assert {pod.command for pod in made()} == {*Step, "gateway", "worker", "clear"}
    assert {"worker", "canary"} <= {pod.labels[COMPONENT] for pod in of("worker")}
    assert {"train", "train-high-noise", "train-low-noise"} == {
        pod.labels[COMPONENT] for pod in of("train")
    }
    folder = Path(wan_operator.__file__).parent
    builders = {
        path.stem
        for path in folder.rglob("*.py")
        if re.search(r"^    pod_spec,|pods import pod_spec", path.read_text(), re.MULTILINE)
    }
    assert builders == {"jobs", "left", "gateway", "worker"}, "made_pods has pods of each"


def test_every_pod_reaches_names_and_the_store() -> None:
    for pod in made():
        for port in (*DNS, STORE):
            assert network().passes(pod, OUTSIDE, port), str(pod)
        assert not network().passes(pod, OUTSIDE, ANY), str(pod)


def test_those_that_have_its_url_reach_the_database() -> None:
    for pod in made():
        # What clears up after a run has the labels of what clears up after a service.
        asks = "WAN_DATABASE_URL" in pod.variables or pod.command == "clear"
        for server in (released("StatefulSet", "-db"), OUTSIDE):
            assert network().passes(pod, server, DATABASE) is asks, str(pod)


def test_those_that_call_moderation_and_webhooks_reach_the_web() -> None:
    for pod in made():
        # What clears up calls neither, but has one policy with them.
        calls = pod.command in ("gateway", "worker", "clear")
        assert network().passes(pod, OUTSIDE, WEB) is calls, str(pod)


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


# -- Each other


def test_pods_that_train_together_reach_each_other_and_nobody_else_reaches_them() -> None:
    trains = of("train")
    assert {"MASTER_ADDR" in pod.variables for pod in trains} == {False, True}
    for pod in made():
        for port in (MEETING_PORT, ANY):
            assert network().passes(pod, trains[0], port) is (pod in trains)
            assert network().passes(trains[0], pod, port) is (pod in trains)
    for stranger in (STRANGER, PROMETHEUS, OUTSIDE):
        assert not network().passes(stranger, trains[0], MEETING_PORT)


def test_what_has_an_api_key_reaches_the_gateway_and_so_do_clients() -> None:
    [gateway] = of("gateway")
    asking = [
        pod
        for pod in made()
        if API_KEY_PATH in {each["mountPath"] for each in pod.container["volumeMounts"]}
    ]
    assert asking
    for client in (*asking, STRANGER, PROMETHEUS, OUTSIDE):
        assert network().passes(client, gateway, GATEWAY_PORT)
    for other in of("train", "export", "sample", "worker", "clear"):
        assert not network().passes(other, gateway, GATEWAY_PORT)


def test_people_reach_the_rating_page() -> None:
    [page] = of("rate")
    assert page.ports["http"] == RATING_PORT
    for client in (STRANGER, PROMETHEUS, OUTSIDE):
        assert network().passes(client, page, RATING_PORT)


def test_nobody_is_reached_at_a_port_that_is_not_named() -> None:
    for pod in made():
        if pod.command == "clear":
            continue
        for source in (released("Deployment"), PROMETHEUS, STRANGER, OUTSIDE):
            for port in {*pod.ports.values(), PROGRESS_PORT, GATEWAY_PORT, ANY}:
                if network().passes(source, pod, port):
                    assert port in pod.ports.values(), str(pod)
                    assert source is not OUTSIDE or port != PROGRESS_PORT, str(pod)
        assert pod.command == "train" or not network().passes(pod, pod, ANY)


# -- The release's own


def test_the_operator_reaches_the_api_server_and_no_database() -> None:
    operator, database = released("Deployment"), released("StatefulSet", "-db")
    for port in (*DNS, 443, 6443):
        assert network().passes(operator, OUTSIDE, port)
    assert not network().passes(operator, database, DATABASE)
    assert not network().passes(operator, OUTSIDE, DATABASE)
    assert network().passes(PROMETHEUS, operator, 8080)
    assert not network().passes(PROMETHEUS, operator, ANY)


def test_the_database_is_asked_by_pods_of_services_alone_and_asks_nobody() -> None:
    database = released("StatefulSet", "-db")
    for source in (STRANGER, PROMETHEUS, OUTSIDE):
        assert not network().passes(source, database, DATABASE)
    assert not network().passes(database, OUTSIDE, WEB)
    assert not network().passes(database, OUTSIDE, 53)
