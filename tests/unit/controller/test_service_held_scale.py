"""While a spec cannot be acted on, workers that serve still follow the queue, where it has
autoscaling."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unit.controller.service_world import World, queue, report, tiny
from unit.controller.test_service_held import (
    CANARY,
    HELD,
    HOLDS,
    STAYS,
    SURGE,
    mend,
    rolling,
    serving,
    spoil,
)
from wan_operator.api.v1alpha1.inference import KIND, LABEL
from wan_operator.resources.labels import Owner
from wan_operator.resources.service.names import REVISION
from wan_operator.resources.service.worker import Revision, config_map

FOLLOWS = "; the number of workers follows spec.autoscaling"
AUTOSCALING = {
    "minReplicas": 0,
    "maxReplicas": 4,
    "targetWaitSeconds": 100,
    "scaleDownDelaySeconds": 60,
}


def serving_none() -> World:
    world = World(tiny(autoscaling=AUTOSCALING))
    world.settle()
    assert world.condition("Ready")[:2] == ("True", "ScaledToZero")
    return world


@pytest.mark.parametrize("reason", HOLDS)
@pytest.mark.parametrize("strategy", ["Recreate", "Surge"])
def test_workers_that_serve_follow_the_queue(strategy: str, reason: str) -> None:
    world = serving(autoscaling=AUTOSCALING | {"minReplicas": 1}, rollout={"strategy": strategy})
    world.status["sizes"] = [{"size": "128x96", "seconds": 1}]  # a worker was ready
    before, url = world.deployment("worker"), world.status["url"]
    assert before is not None
    spoil(world, reason)
    world.edit(rollout={"strategy": "Canary", "deadlineSeconds": 60}, limits={"frames": 9})
    world.report = report(queue(queued=30, seconds=290))
    decision = world.turn(5)
    assert world.replicas() == 3
    assert [each["kind"] for each in decision.children] == ["Deployment"]
    made = world.deployment("worker")
    assert made is not None
    assert made["spec"] == before["spec"] | {"replicas": 3}, "nothing else is acted on"
    assert (made["metadata"]["labels"], world.status["url"]) == (before["metadata"]["labels"], url)
    assert world.condition("Stalled")[:2] == ("True", reason)
    assert world.condition("Stalled")[2].endswith(FOLLOWS)
    assert world.condition("Ready")[0] == "False", "two start"
    assert world.status["ready"] == "1/3"
    assert "from 1 to 3 workers" in world.events
    assert not world.turn(5).children
    world.roll()
    world.report = report()
    world.turn(5)
    assert world.condition("Ready")[:2] == ("True", "Serving")
    world.turn(61)
    assert world.replicas() == 1
    mend(world)
    world.settle()
    assert world.condition("Stalled") == ("", "", "")


def test_a_request_starts_the_first_worker() -> None:
    world = serving_none()
    spoil(world, "SpecInvalid")
    world.turn(5)
    assert world.replicas() == 0
    world.report = report(queue(queued=1, seconds=5))
    assert world.turn(5).requeue_after == 5.0
    assert world.replicas() == 1


@pytest.mark.parametrize(
    "edit",
    [{"autoscaling": {"maxReplicas": "many"}}, {"autoscaling": None, "replicas": 3}],
    ids=["unreadable", "gone"],
)
def test_without_word_of_autoscaling_the_number_stays(edit: dict[str, Any]) -> None:
    world = serving_none()
    spoil(world, "SpecInvalid")
    world.edit(**edit)
    world.report = report(queue(queued=30, seconds=290))
    assert not world.turn(5).children
    assert (world.replicas(), world.status["desiredReplicas"]) == (0, 0)
    assert world.condition("Stalled")[2].endswith(HELD + STAYS)


def test_workers_that_cannot_be_made_again_stay() -> None:
    world = serving_none()
    spoil(world, "SpecInvalid")
    kept = world.objects["ConfigMap", f"demo-{world.status['revision']}"]
    kept["data"]["service.json"] += " "
    world.report = report(queue(queued=30, seconds=290))
    assert not world.turn(5).children
    assert world.status["desiredReplicas"] == 0
    assert world.condition("Stalled")[2].endswith(STAYS)
    del world.objects["Deployment", "demo-worker"]
    assert not world.turn(5).children
    assert world.condition("Stalled")[2].endswith(STAYS)


def test_workers_of_a_later_release_stay() -> None:
    """After the operator was set back: it knows neither what the spec says nor what they read."""
    world = serving_none()
    data = world.objects["ConfigMap", f"demo-{world.status['revision']}"]["data"]
    later = json.dumps(json.loads(data["service.json"]) | {"later": True})
    revision = Revision.holding(later, json.loads(data["worker.json"]))
    world.apply(config_map(Owner.of(KIND, LABEL, world.cr), revision))
    deployment = world.deployment("worker")
    assert deployment is not None
    deployment["spec"]["template"]["metadata"]["labels"][REVISION] = revision.name
    world.status["revision"] = revision.name
    spoil(world, "SpecInvalid")
    world.report = report(queue(queued=30, seconds=290))
    assert not world.turn(5).children
    assert world.condition("Stalled")[2].endswith(STAYS)


@pytest.mark.parametrize("reason", HOLDS)
@pytest.mark.parametrize("rollout", [CANARY, SURGE], ids=["Canary", "Surge"])
def test_workers_of_a_rollout_follow_the_queue(rollout: dict[str, Any], reason: str) -> None:
    world, before = rolling(rollout, reason, autoscaling=AUTOSCALING | {"minReplicas": 1})
    busy = queue(queued=30, seconds=290)
    world.report = report(busy)
    world.turn(5)
    assert world.replicas() == 3
    assert world.condition("Stalled")[2].endswith(FOLLOWS)
    assert world.status["rollout"]["phase"] in ("Proving", "Starting")
    assert (world.running("worker") == before) is (rollout is CANARY)
    world.turn(700)
    assert world.status["rollout"]["phase"] == "RolledBack"
    world.turn(5)
    world.report = report(queue(queued=40, seconds=390))
    world.turn(5)
    assert (world.replicas(), world.running("worker")) == (4, before), "after it, too"
