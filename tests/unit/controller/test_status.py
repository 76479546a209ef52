"""What the status tells on the way: progress, times, events."""

from __future__ import annotations

from unit.controller.world import (
    SETTINGS,
    World,
    finished_world,
)
from wan_operator.reconcile.observed import Observed
from wan_operator.reconcile.runs.ends import needs_reconcile
from wan_operator.reconcile.runs.report import progress_addresses
from wan_runtime.contract.job import ExitClass, Progress, Result
from wan_runtime.contract.reasons import Reason


def test_progress_is_refreshed_no_more_often_than_the_settings_say() -> None:
    world = World()
    world.reach("train")
    world.starts()
    world.settle()
    shown = []
    for step in range(1, 31):
        world.says(
            Progress(
                step_id="train",
                activity="training",
                current=step,
                total=200,
                eta_seconds=250.0,
                loss=0.123456,
                updated=world.now,
            )
        )
        world.settle()
        shown.append(world.status["progress"]["display"])
        world.passes(1)
    assert len(set(shown)) == 2, "at 0 and 15 seconds"
    progress = world.status["progress"]
    assert progress["display"].startswith("train ")
    assert progress["display"].endswith("/200")
    assert (progress["eta"], progress["loss"]) == ("4m10s", "0.1235")


def test_a_fetch_is_shown_in_megabytes() -> None:
    world = World()
    world.reach("train")
    world.starts()
    world.settle()
    activity = "fetching the base model"
    world.says(
        Progress(step_id="train", activity=activity, current=1200, total=57156, unit="MB",
                 eta_seconds=280, updated=world.now)
    )  # fmt: skip
    world.settle()
    progress = world.status["progress"]
    assert (progress["display"], progress["eta"]) == ("train 1200/57156 MB", "4m40s")


def test_progress_is_asked_of_our_running_pod_and_only_when_due() -> None:
    world = World()
    world.settle()

    def address() -> dict[str, str]:
        observed = Observed(children=world.children)
        return progress_addresses(world.cr, observed, SETTINGS, world.now)

    assert address() == {}, "not running"
    world.starts()
    world.passes(15)
    assert address() == {"prepare": "10.0.0.9"}
    world.status["progress"] |= {"time": world.now.isoformat(), "activity": "checking clips"}
    assert address() == {}, "just asked"
    world.passes(15)
    world.pods["demo-prepare-1"]["metadata"]["ownerReferences"][0]["uid"] = "a-strangers-job"
    assert address() == {}, "a label alone does not make us call an address"


def test_transition_times_change_with_the_status_only() -> None:
    world = World()
    world.settle()
    world.passes(10)
    world.starts()
    world.settle()
    running = world.condition("Running")
    assert running is not None
    assert running["lastTransitionTime"] == "2026-11-22T12:00:10Z"
    world.passes(10)
    world.edit(checkpoint={"everySteps": 5})
    world.settle()
    running = world.condition("Running")
    assert running is not None
    assert running["lastTransitionTime"] == "2026-11-22T12:00:10Z"
    assert running["observedGeneration"] == 2


def test_ended_runs_need_no_look() -> None:
    world = World()
    assert needs_reconcile(world.cr)
    world.settle()
    assert needs_reconcile(world.cr)
    done = finished_world()
    assert not needs_reconcile(done.cr)
    done.edit(suspend=True)
    assert needs_reconcile(done.cr), "observedGeneration is behind"
    assert needs_reconcile(finished_world(ttlSecondsAfterFinished=60).cr)


def test_events_tell_each_turn_once() -> None:
    world = World()
    world.settle()
    world.starts()
    for _ in range(3):
        world.settle()
    world.ends(ExitClass.INFRASTRUCTURE)
    world.settle()
    assert [(event.type, event.action) for event in world.events] == [
        ("Normal", "StartStep"),
        ("Warning", "RetryStep"),
    ]


def test_progress_that_does_not_move_is_not_written_again() -> None:
    world = World()
    world.reach("train")
    world.starts()
    world.says(Progress(step_id="train", activity="training", current=1, total=9))
    world.settle()
    before = world.writes
    world.passes(60)
    world.settle()
    assert world.writes == before


def test_whatever_a_pod_says_fits_the_status() -> None:
    """A refused write would stop the run for want of a shorter word."""
    world = World()
    world.reach("train")
    world.starts()
    world.says(Progress(step_id="train", activity="x" * 5000, current=10**30, total=-5, loss=1e300))
    world.settle()
    progress = world.status["progress"]
    assert progress["activity"] == "x" * 254 + " …"
    assert (progress["current"], progress["total"]) == (2**31 - 1, 0)
    world.pods["demo-train-1"]["spec"]["nodeName"] = "n" * 300
    world.exits(1, "m" * 5000)
    world.settle()
    words = {f"{number}{'k' * 100}": "v" * 300 for number in range(50)}
    world.passes(60)
    world.settle()
    result = Result(
        step_id="train", exit_class=ExitClass.DONE, reason=Reason.COMPLETED, summary=words
    )
    world.exits(0, result.model_dump_json(by_alias=True))
    world.settle()
    assert world.step("train")["state"] == "Complete"
    assert len(world.step("train")["summary"]) == 32
    assert world.leading == ("Reconciling", "StepStarting")
