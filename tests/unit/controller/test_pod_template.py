"""The pod template reaches the pods of steps, gateways and workers alike."""

from __future__ import annotations

from typing import Any

import pytest

from pod_templates import FULL
from unit.controller import service_world
from unit.controller.world import World

Raw = dict[str, Any]


def job(**spec: Any) -> Raw:
    world = World(**spec)
    world.settle()
    pod: Raw = world.jobs["demo-prepare-1"]["spec"]["template"]["spec"]
    return pod


def deployments(template: Raw, **resources: Any) -> dict[str, Raw]:
    """Pods of a service's parts."""
    part = {"podTemplate": template, "resources": resources}
    keys = {"keysSecretRef": {"name": "wan-keys"}}
    world = service_world.World(service_world.tiny(gateway=keys | part, workers=part))
    world.settle()
    return {
        part: world.objects["Deployment", f"demo-{part}"]["spec"]["template"]["spec"]
        for part in ("gateway", "worker")
    }


def all_pods(template: Raw, **resources: Any) -> dict[str, Raw]:
    run = {"podTemplate": template, "resources": resources}
    return {"step": job(**run), **deployments(template, **resources)}


def test_every_field_is_in_every_pod() -> None:
    for name, pod in all_pods(FULL).items():
        for field in ("affinity", "runtimeClassName", "nodeSelector", "tolerations"):
            assert pod[field] == FULL[field], (name, field)
        listed, counted = pod["topologySpreadConstraints"]
        assert listed == FULL["topologySpreadConstraints"][0]
        selector = counted.pop("labelSelector")
        assert counted == FULL["topologySpreadConstraints"][1]
        assert "demo" in selector["matchLabels"].values(), "pods of the same resource"


def test_gateways_stay_apart_unless_the_template_spreads_them() -> None:
    own = deployments({})["gateway"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in own] == ["kubernetes.io/hostname"]
    assert "topologySpreadConstraints" not in deployments({})["worker"]


def test_the_workers_of_a_canary_count_as_workers() -> None:
    [_, spread] = deployments(FULL)["worker"]["topologySpreadConstraints"]
    [parts] = spread["labelSelector"]["matchExpressions"]
    assert parts["values"] == ["worker", "canary"]


IDS = {"runAsUser", "runAsGroup", "fsGroup"}


def test_the_user_is_that_of_the_image_by_default() -> None:
    for pod in all_pods({}).values():
        assert {pod["securityContext"][id] for id in IDS} == {10001}
        [container] = pod["containers"]
        assert "USER" not in {each["name"] for each in container["env"]}


@pytest.mark.parametrize("given", [{}, {"runAsUser": 1000650000, "supplementalGroups": [7]}])
def test_no_id_is_fixed_that_the_template_leaves_to_the_namespace(given: Raw) -> None:
    restricted = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    for pod in all_pods({"securityContext": given}).values():
        context = dict(pod["securityContext"])
        assert context.pop("fsGroupChangePolicy") == "OnRootMismatch"
        assert context == restricted | given
        [container] = pod["containers"]
        assert {"name": "USER", "value": "wan"} in container["env"]


def test_a_cpu_limit_bounds_the_request() -> None:
    for name, pod in all_pods({}, cpuLimit="50m").items():
        [container] = pod["containers"]
        resources = container["resources"]
        assert resources["limits"]["cpu"] == resources["requests"]["cpu"] == "50m", name
    for pod in all_pods({}).values():
        [container] = pod["containers"]
        assert "cpu" not in container["resources"]["limits"]


def test_a_template_that_says_nothing_changes_no_revision() -> None:
    def revision(template: Raw) -> Any:
        world = service_world.World(service_world.tiny(workers={"podTemplate": template}))
        world.settle()
        return world.status["revision"]

    nothing: Raw = {"annotations": {}, "affinity": {}, "topologySpreadConstraints": []}
    assert revision(nothing) == revision({})
    assert revision({"affinity": {"nodeAffinity": {}}}) == revision({})
