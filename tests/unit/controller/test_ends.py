"""The edges of a life: what an end leaves in the status, and what may not undo it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from unit.controller.world import World
from wan_operator.reconcile.finetune.reconcile import stalled
from wan_operator.reconcile.runs.report import duration, summed
from wan_runtime.contract.job import ExitClass, Progress


def ended(exit_class: ExitClass) -> World:
    world = World(ttlSecondsAfterFinished=60)
    world.reach("export")
    world.ends(exit_class)
    world.settle()
    assert world.is_final
    return world


@pytest.mark.parametrize("exit_class", [ExitClass.DONE, ExitClass.INPUT])
def test_a_refusal_after_the_end_does_not_undo_it(exit_class: ExitClass) -> None:
    """An admission webhook that refuses to let the TTL delete a Job must not start it again."""
    world = ended(exit_class)
    world.edit(ttlSecondsAfterFinished=30)
    decision = stalled(world.cr, "RequestRefused", "delete is forbidden", world.now)
    seen = {"observedGeneration": 2}
    conditions = [each | seen for each in world.status["conditions"]]
    assert decision.status == world.status | seen | {"conditions": conditions}
    assert not decision.events


@pytest.mark.parametrize("exit_class", [ExitClass.DONE, ExitClass.INPUT])
def test_a_release_that_cannot_read_an_ended_run_leaves_it_ended(exit_class: ExitClass) -> None:
    world = ended(exit_class)
    world.edit(model={"preset": "Wan3.0"})
    world.settle()
    assert world.is_final
    assert world.condition("Stalled") is None or exit_class is ExitClass.INPUT
    assert world.status["observedGeneration"] == 2


@pytest.mark.parametrize("exit_class", [ExitClass.DONE, ExitClass.INPUT])
def test_a_run_that_ends_while_it_is_being_suspended_is_not_held(exit_class: ExitClass) -> None:
    world = World()
    world.reach("export")
    world.starts()
    world.edit(suspend=True)
    world.settle()
    assert "suspendedSince" in world.status
    world.passes(30)
    world.ends(exit_class, name="demo-export-1")
    world.settle()
    assert world.is_final
    assert "suspendedSince" not in world.status
    assert world.status["suspendedSeconds"] == 30


ENDS: dict[str, Any] = {
    "retry": lambda world: world.ends(ExitClass.INFRASTRUCTURE),
    "failure": lambda world: world.ends(ExitClass.NUMERICAL),
    "deadline": lambda world: world.passes(1000),
    "suspension": lambda world: (world.edit(suspend=True), world.settle(), world.removes_deleted()),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_does_not_run_has_no_eta(end: str) -> None:
    world = World(activeDeadlineSeconds=1000)
    world.reach("train")
    world.starts()
    world.says(
        Progress(step_id="train", activity="training", current=40, total=200, eta_seconds=250.0)
    )
    world.settle()
    assert world.status["progress"]["eta"] == "4m10s"
    world.answers.clear()
    ENDS[end](world)
    world.settle()
    progress = world.status["progress"]
    assert (progress["eta"], progress["activity"]) == ("", "")
    assert (progress["current"], progress["total"]) == (40, 200), "how far it came stays"
    assert progress["display"] == ("" if end == "suspension" else "train 40/200")


def test_what_waits_for_somebody_shows_no_progress() -> None:
    world = World()
    world.reach("train")
    world.starts()
    said = Progress(step_id="train", activity="training", current=40, total=200)
    world.says(said)
    world.settle()
    world.answers.clear()
    world.edit(suspend=True)
    world.settle()
    assert world.status["progress"]["display"] == "train 40/200", "its pod still runs"
    world.removes_deleted()
    world.settle()
    assert world.status["progress"]["display"] == ""
    world.edit(suspend=False)
    world.settle()
    assert world.status["progress"]["display"] == "", "its pod has said nothing yet"
    world.starts()
    world.says(said)
    world.settle()
    assert world.status["progress"]["display"] == "train 40/200"


def test_an_eta_without_end_is_none() -> None:
    """A pod's words: json has Infinity and 1e999, and neither may stop the reconcile."""
    for seconds in (math.inf, math.nan):
        said = Progress(step_id="train", activity="training", eta_seconds=seconds)
        assert summed("train", [said], []).eta == ""
    assert duration(1e12).endswith("h")


def test_a_job_whose_pod_is_gone_and_counted_has_lost_it_before_it_is_called_failed() -> None:
    """The Job's controller lets the pod go first and sets the condition in a later pass."""
    for status in ({"failed": 1}, {"uncountedTerminatedPods": {"failed": ["pod-uid"]}}):
        world = World()
        world.reach("train")
        world.starts()
        world.settle()
        world.passes(3600)
        del world.pods["demo-train-1"]
        world.jobs["demo-train-1"]["status"] = status
        decision = world.settle()
        assert world.leading == ("Reconciling", "PodLost")
        assert decision.requeue_after is not None
        assert decision.requeue_after < 15
        assert "deletionTimestamp" not in world.jobs["demo-train-1"]["metadata"], "it will fail"


def test_a_job_that_leaves_its_queue_does_not_blame_a_quota() -> None:
    world = World()
    world.settle()
    job = world.jobs["demo-prepare-1"]
    del world.pods["demo-prepare-1"]
    job["spec"]["suspend"] = True
    world.passes(3600)
    world.settle()
    assert world.leading == ("Reconciling", "Queued")
    job["spec"]["suspend"] = False
    held = {"type": "Suspended", "status": "True", "reason": "JobSuspended"}
    job["status"] = {"conditions": [held]}  # its controller has not looked yet
    world.settle()
    assert world.leading == ("Reconciling", "Queued")
    job["status"] = {"startTime": world.now.isoformat()}  # set anew at each start
    world.settle()
    assert world.leading == ("Reconciling", "StepStarting")
    world.passes(61)
    world.settle()
    assert world.leading == ("Reconciling", "PodNotCreated")


def test_a_pod_that_was_deleted_says_so_and_not_only_its_exit_code() -> None:
    world = World()
    world.reach("train")
    world.starts()
    world.settle()
    world.pods["demo-train-1"]["metadata"]["deletionTimestamp"] = world.now.isoformat()
    world.exits(137)
    decision = world.settle()
    assert world.leading == ("Reconciling", "PodLost")
    assert "deleted" in world.status["conditions"][0]["message"]
    assert "137" in world.status["conditions"][0]["message"]
    assert world.step("train")["infrastructureRetries"] == 1
    assert decision.requeue_after is not None
    assert decision.requeue_after <= 13


def test_kueue_preempts_and_the_same_job_goes_on() -> None:
    world = World()
    world.reach("train")
    world.starts()
    world.settle()
    job, pod = world.jobs["demo-train-1"], world.pods["demo-train-1"]
    job["spec"]["suspend"] = True
    pod["metadata"]["deletionTimestamp"] = world.now.isoformat()
    world.ends(ExitClass.STOPPED)
    del job["status"]  # not counted as failed: its controller deleted the pod itself
    world.settle()
    assert world.created[-1] == "demo-train-1"
    assert not world.is_true("Running")
    world.pods.clear()
    world.settle()
    assert world.leading == ("Reconciling", "Queued")
    assert world.created[-1] == "demo-train-1"
    assert world.step("train")["attempts"] == 1


def test_a_job_that_is_done_while_its_queue_takes_it_back_is_done() -> None:
    world = World()
    world.reach("encode")
    world.starts()
    world.jobs["demo-encode-1"]["spec"]["suspend"] = True
    world.ends(ExitClass.DONE)
    del world.jobs["demo-encode-1"]["status"]
    world.settle()
    assert world.step("encode")["state"] == "Complete"


def test_a_pod_that_has_not_started_saves_no_checkpoint() -> None:
    world = World()
    world.reach("train")
    world.waits("ContainerCreating", "")
    world.settle()
    world.edit(suspend=True)
    world.settle()
    assert world.leading == ("Reconciling", "Suspending")
    assert "checkpoint" not in world.status["conditions"][0]["message"]
    world.removes_deleted()
    world.settle()
    assert world.leading == ("Suspended", "SuspendedByUser")
    assert world.step("train")["infrastructureRetries"] == 0
    world.edit(suspend=False)
    world.settle()
    assert world.open_job == "demo-train-2"
