"""Workers by predicted seconds of work."""

from __future__ import annotations

import pytest

from unit.controller.service_world import World, queue, report, tiny
from wan_operator.api.v1alpha1.inference import Autoscaling
from wan_operator.reconcile.service.scale import needed

AUTOSCALING = {
    "minReplicas": 0,
    "maxReplicas": 4,
    "targetWaitSeconds": 100,
    "scaleDownDelaySeconds": 60,
}


@pytest.mark.parametrize(
    ("queued", "running", "seconds", "left", "workers"),
    [
        (0, 0, 0, 0, 0),
        (1, 0, 5, 0, 1),
        (0, 1, 0, 0, 1),
        (0, 1, 0, 250, 3),
        (10, 0, 100, 0, 1),
        (10, 0, 101, 0, 2),
        (10, 2, 350, 51, 5),
    ],
)
def test_workers_needed(
    queued: int, running: int, seconds: float, left: float, workers: int
) -> None:
    wanted = Autoscaling.model_validate(AUTOSCALING)
    assert needed(queue(queued, running, seconds, left), wanted) == workers


def test_from_zero_and_back() -> None:
    world = World(tiny(autoscaling=AUTOSCALING))
    world.settle()
    assert world.replicas() == 0
    assert world.condition("Ready")[:2] == ("True", "ScaledToZero")
    world.report = report(queue(queued=3, seconds=150))
    assert world.turn().requeue_after == 5.0
    assert world.replicas() == 2
    world.report = report(queue(queued=40, seconds=4000))
    world.turn(5)
    assert world.replicas() == 4, "maxReplicas"
    world.report = report(queue(running=1, left=20))
    world.turn(5)
    world.turn(59)
    assert world.replicas() == 4, "fewer must be enough for a while"
    world.turn(2)
    assert world.replicas() == 1
    world.report = report()
    world.turn(5)
    world.turn(61)
    assert world.replicas() == 0
    assert [each for each in world.events if "workers" in each and "from" in each] == [
        "from 0 to 2 workers",
        "from 2 to 4 workers",
        "from 4 to 1 workers",
        "from 1 to 0 workers",
    ]


def test_a_short_lull_costs_no_worker() -> None:
    world = World(tiny(autoscaling=AUTOSCALING))
    world.report = report(queue(queued=3, seconds=250))
    world.settle()
    world.report = report()
    world.turn(30)
    world.report = report(queue(queued=3, seconds=250))
    world.turn(20)
    world.report = report()
    world.turn(20)
    world.turn(30)
    assert world.replicas() == 3, "the lull began anew"


def test_without_word_of_the_queue_nothing_is_concluded() -> None:
    world = World(tiny(autoscaling=AUTOSCALING))
    world.report = report(queue(queued=3, seconds=250))
    world.settle()
    world.report = None
    world.turn(3600)
    assert world.replicas() == 3


def test_replicas_are_somebody_elses_without_autoscaling() -> None:
    world = World(tiny(replicas=2))
    world.report = report(queue(queued=30, seconds=4000))
    world.settle()
    assert world.replicas() == 2
    world.edit(replicas=0)
    world.settle()
    assert world.replicas() == 0
    assert world.condition("Ready")[:2] == ("True", "ScaledToZero")


def test_the_queue_is_told_no_more_often_than_progress() -> None:
    world = World(tiny())
    world.settle()
    world.report = report(queue(queued=1, seconds=5))
    world.turn(1)
    assert world.status["queue"]["queued"] == 1
    world.report = report(queue(queued=2, seconds=10))
    world.turn(1)
    assert world.status["queue"]["queued"] == 1
    world.turn(15)
    assert world.status["queue"]["queued"] == 2
