"""Suspend, resume and the deadline."""

from __future__ import annotations

import pytest

from unit.controller.world import STEPS, World
from wan_runtime.contract.job import ExitClass


@pytest.mark.parametrize("step", STEPS)
def test_suspend_stops_the_attempt_and_resume_goes_on_at_no_cost(step: str) -> None:
    world = World(retries={"infrastructure": 0})
    world.reach(step)
    world.starts()
    world.settle()
    world.edit(suspend=True)
    world.settle()
    assert world.leading == ("Reconciling", "Suspending")
    assert world.jobs[f"demo-{step}-1"]["metadata"].get("deletionTimestamp")
    world.passes(30)
    world.ends(ExitClass.STOPPED, name=f"demo-{step}-1")
    world.removes_deleted()
    world.settle()
    assert world.leading == ("Suspended", "SuspendedByUser")
    assert not world.is_true("Failed")
    world.passes(3600)
    assert world.settle().requeue_after is None, "nothing to do but wait for the user"
    world.edit(suspend=False)
    world.settle()
    assert world.open_job == f"demo-{step}-2"
    assert world.status["suspendedSeconds"] == 3630
    assert "suspendedSince" not in world.status


def test_resuming_before_the_pod_has_ended_waits_for_it_and_costs_nothing() -> None:
    world = World(retries={"infrastructure": 0})
    world.reach("train")
    world.starts()
    world.edit(suspend=True)
    world.settle()
    world.edit(suspend=False)
    world.settle()
    assert world.created[-1] == "demo-train-1", "never two at a time"
    world.removes_deleted()
    world.settle()
    assert world.open_job == "demo-train-2"


def test_a_step_that_ends_well_while_it_is_suspended_is_done() -> None:
    world = World()
    world.reach("encode")
    world.starts()
    world.edit(suspend=True)
    world.settle()
    world.ends(ExitClass.DONE, name="demo-encode-1")
    world.settle()
    assert world.step("encode")["state"] == "Complete"
    assert world.leading == ("Suspended", "SuspendedByUser")


def test_created_suspended_nothing_starts() -> None:
    world = World(suspend=True, activeDeadlineSeconds=60)
    world.settle()
    assert not world.created
    world.passes(3600)
    world.edit(suspend=False)
    world.settle()
    assert world.created == ["demo-prepare-1"]
    assert world.status["suspendedSeconds"] == 0, "the run had not begun"


def test_the_deadline_fails_the_run_and_stops_its_job() -> None:
    world = World(activeDeadlineSeconds=100)
    world.reach("train")
    world.starts()
    world.passes(60)
    decision = world.settle()
    assert decision.requeue_after is not None
    assert decision.requeue_after <= 40
    world.passes(40)
    world.settle()
    assert world.is_true("Failed")
    failed = world.condition("Failed")
    assert failed is not None
    assert failed["reason"] == "DeadlineExceeded"
    assert not world.running_jobs()


def test_suspended_time_does_not_count_against_the_deadline() -> None:
    world = World(activeDeadlineSeconds=100)
    world.reach("train")
    world.starts()
    world.edit(suspend=True)
    world.settle()
    world.removes_deleted()
    world.settle()
    world.passes(5000)
    world.settle()
    assert world.leading == ("Suspended", "SuspendedByUser")
    world.edit(suspend=False)
    world.settle()
    world.passes(99)
    world.settle()
    assert not world.is_true("Failed")
    world.passes(1)
    world.settle()
    assert world.is_true("Failed")


@pytest.mark.parametrize("step", STEPS)
def test_only_a_step_that_has_checkpoints_speaks_of_them(step: str) -> None:
    world = World()
    world.reach(step)
    world.starts()
    world.edit(suspend=True)
    world.settle()
    told = world.status["conditions"][0]["message"]
    world.ends(ExitClass.STOPPED, name=f"demo-{step}-1")
    world.look()
    told += world.status["conditions"][0]["message"]
    world.edit(suspend=False)
    world.settle()
    world.ends(ExitClass.STOPPED)
    world.look()
    told += "".join(event.message for event in world.events if event.action == "RestartStep")
    assert ("checkpoint" in told) == (step == "train")
