"""The API server refuses a Job: told, asked for again, and no other step is held up by it."""

from __future__ import annotations

from unit.controller.test_parallel import HIGH, LOW, message
from unit.controller.world import World
from wan_runtime.contract.job import ExitClass

QUOTA = "exceeded quota: gpus, requested: 1, used: 4, limited: 4"


def refused(*names: str) -> World:
    """Both experts are due."""
    world = World(model={"preset": "Wan2.2-I2V-Tiny"}, parallelism={"experts": "Parallel"})
    world.at_once = 2
    for _ in range(2):
        world.settle()
        world.ends(ExitClass.DONE)
    world.refuses = dict.fromkeys(names, QUOTA)
    world.settle()
    return world


def test_one_that_is_refused_holds_the_other_up_in_nothing() -> None:
    world = refused(HIGH)
    assert world.running_jobs() == [LOW], "the second in the list too"
    world.starts(LOW)
    world.settle()
    assert not world.is_true("Stalled")
    assert LOW in message(world, "Running")
    assert world.leading == ("Reconciling", "RequestRefused")
    assert (
        f"train-high-noise is refused by the API server and will be tried again: {QUOTA}"
        in message(world, "Reconciling")
    )
    assert world.step("train-high-noise")["state"] == "Waiting"
    assert world.step("train-high-noise")["attempts"] == 0
    told = [event for event in world.events if event.reason == "RequestRefused"]
    assert [event.type for event in told] == ["Warning"]


def test_it_is_asked_for_again_and_told_once() -> None:
    world = refused(LOW)
    world.starts(HIGH)
    decision = world.settle()
    assert decision.requeue_after is not None
    assert decision.requeue_after <= 30
    for _ in range(3):
        world.passes(61)
        world.settle()
    assert sum(event.reason == "RequestRefused" for event in world.events) == 1
    world.refuses = {}
    world.passes(61)
    world.settle()
    assert world.running_jobs() == [HIGH, LOW]
    assert not world.step("train-low-noise").get("message")


def test_the_end_of_the_other_is_recorded_meanwhile() -> None:
    world = refused(LOW)
    world.starts(HIGH)
    world.settle()
    world.ends(ExitClass.DONE, name=HIGH)
    world.settle()
    assert world.step("train-high-noise")["state"] == "Complete"
    world.passes(61)
    world.settle()
    assert world.leading == ("Stalled", "RequestRefused"), "nothing goes on any more"
    assert world.status["progress"]["display"] == ""
    world.refuses = {}
    world.settle()
    assert world.running_jobs() == [LOW]


def test_where_all_are_refused_the_run_is_stalled() -> None:
    world = refused(HIGH, LOW)
    assert world.leading == ("Stalled", "RequestRefused")
    assert message(world, "Stalled") == QUOTA
    assert world.look().requeue_after <= 30, "no event says that a quota was raised"
    world.refuses = {}
    world.settle()
    assert world.running_jobs() == [HIGH, LOW]
