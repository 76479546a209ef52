"""Whether a live object holds what is wanted."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from wan_operator.resources.drift import first_difference

WORKER = {
    "name": "worker",
    "image": "wan:1",
    "args": ["worker"],
    "env": [{"name": "A", "value": "1"}],
}
WANTED: dict[str, Any] = {
    "metadata": {"labels": {"a": "b"}},
    "spec": {
        "replicas": 0,
        "paused": False,
        "template": {"spec": {"containers": [WORKER]}},
    },
}


def deployment() -> tuple[dict[str, Any], dict[str, Any]]:
    """(the object, its container) as the API server would give it back: with defaults."""
    live = copy.deepcopy(WANTED)
    live["metadata"] |= {"uid": "1", "resourceVersion": "7"}
    live["status"] = {"replicas": 1}
    [container] = live["spec"]["template"]["spec"]["containers"]
    container |= {"imagePullPolicy": "Always"}
    return live, container


def test_defaults_status_and_others_fields_are_no_difference() -> None:
    live, container = deployment()
    live["metadata"]["annotations"] = {"somebody": "else"}
    container["env"].insert(0, {"name": "INJECTED", "value": "x"})
    live["spec"]["template"]["spec"]["containers"].insert(0, {"name": "sidecar", "image": "x"})
    assert first_difference(WANTED, live) == ""


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("image", "wan:2", "spec.template.spec.containers[worker].image"),
        ("name", "other", "spec.template.spec.containers[worker]"),
        ("args", ["worker", "--more"], "spec.template.spec.containers[worker].args"),
        ("args", ["gateway"], "spec.template.spec.containers[worker].args[0]"),
        ("args", None, "spec.template.spec.containers[worker].args"),
        (
            "env",
            [{"name": "A", "value": "2"}],
            "spec.template.spec.containers[worker].env[A].value",
        ),
        ("env", [{"name": "B"}], "spec.template.spec.containers[worker].env[A]"),
    ],
)
def test_the_first_difference_is_named(field: str, value: Any, where: str) -> None:
    live, container = deployment()
    container[field] = value
    assert first_difference(WANTED, live) == where


@pytest.mark.parametrize("path", [("metadata", "labels"), ("spec", "replicas"), ("spec", "paused")])
def test_what_is_gone_is_a_difference(path: tuple[str, str]) -> None:
    live, _ = deployment()
    del live[path[0]][path[1]]
    assert first_difference(WANTED, live) == ".".join(path)


@pytest.mark.parametrize("empty", [None, "", []])
def test_the_api_server_drops_what_is_empty(empty: object) -> None:
    assert first_difference({"env": empty}, {}) == ""


@pytest.mark.parametrize(
    ("wanted", "live", "same"),
    [
        ("0.5", "500m", True),
        (2, "2", True),
        ("1024Mi", "1Gi", True),
        ("1.5Gi", "1536Mi", True),
        ("1e3", "1k", True),
        ("1E", "1000P", True),
        ("1Gi", "1G", False),
        ("1", "1m", False),
        ("8u", "8n", False),
        ("much", "1", False),
    ],
)
def test_quantities_are_equal_however_they_are_spelt(wanted: Any, live: str, same: bool) -> None:
    where = {"resources": {"limits": {"cpu": wanted}}}, {"resources": {"limits": {"cpu": live}}}
    assert (first_difference(*where) == "") is same
    volume = {"emptyDir": {"sizeLimit": wanted}}, {"emptyDir": {"sizeLimit": live}}
    assert (first_difference(*volume) == "") is same


def test_only_quantities_are_compared_as_such() -> None:
    assert first_difference({"value": "1024Mi"}, {"value": "1Gi"}) == "value"


def test_ports_are_told_apart_by_their_protocol() -> None:
    wanted = {"spec": {"ports": [{"port": 80, "name": "http"}]}}
    udp = {"port": 80, "protocol": "UDP", "name": "other"}
    live = {
        "spec": {"ports": [udp, {"port": 80, "protocol": "TCP", "name": "http", "nodePort": 3}]}
    }
    assert first_difference(wanted, live) == ""
    assert first_difference(wanted, {"spec": {"ports": [udp]}}) == "spec.ports[80,TCP]"


SOURCE = {"podSelector": {"matchLabels": {"a": "b"}}}
POLICY = {"spec": {"podSelector": {}, "ingress": [{"from": [SOURCE], "ports": [{"port": 8080}]}]}}


def policy() -> tuple[dict[str, Any], dict[str, Any]]:
    """(the object, its rule), with the API server's default."""
    live = copy.deepcopy(POLICY)
    [rule] = live["spec"]["ingress"]  # type: ignore[misc]
    rule["ports"][0]["protocol"] = "TCP"
    return live, rule


def test_a_field_added_to_a_rule_or_a_selector_opens_it_and_is_a_difference() -> None:
    live, rule = policy()
    assert first_difference(POLICY, live) == ""
    rule["from"][0]["namespaceSelector"] = {}
    assert first_difference(POLICY, live) == "spec.ingress[0].from[0].namespaceSelector"
    live, _ = policy()
    live["spec"]["podSelector"]["matchLabels"] = {"nobody": "at-all"}
    assert first_difference(POLICY, live) == "spec.podSelector.matchLabels"
    live, rule = policy()
    live["spec"]["ingress"].append({})
    assert first_difference(POLICY, live) == "spec.ingress"
    live, rule = policy()
    rule["ports"][0]["protocol"] = "UDP"
    assert first_difference(POLICY, live) == "spec.ingress[0].ports[0].protocol"


@pytest.mark.parametrize("field", ["annotations", "labels", "nodeSelector"])
def test_an_empty_map_is_the_same_as_none(field: str) -> None:
    assert first_difference({field: {}}, {}) == ""
    assert first_difference({field: {"a": "b"}}, {}) == field


@pytest.mark.parametrize("field", ["emptyDir", "podSelector"])
def test_an_empty_object_that_says_something_is_missed(field: str) -> None:
    assert first_difference({field: {}}, {}) == field
    assert first_difference({field: {}}, {field: {}}) == ""
