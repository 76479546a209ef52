"""The whole life of a WanFineTune, decision by decision."""

from __future__ import annotations

from typing import Any

import pytest

from unit.controller.world import (
    START,
    STEPS,
    Crash,
    World,
    finished_world,
    job_file,
)
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import ExitClass


def test_goes_from_step_to_step_and_hands_on_what_each_committed() -> None:
    world = World()
    for step in STEPS:
        world.settle()
        assert world.open_job == f"demo-{step}-1"
        world.starts()
        world.settle()
        assert world.leading == ("Running", "StepRunning")
        assert world.condition("Reconciling") is None
        world.ends(ExitClass.DONE)
    world.settle()
    assert world.leading == ("Complete", "Completed")
    assert [c["type"] for c in world.status["conditions"]] == [
        "Complete",
        "DatasetReady",
        "Running",
    ]
    assert world.status["artifact"]["uri"] == "s3://wan/export/manifest.json"
    assert world.status["formats"] == [
        {"name": "DiffSynth", "consumer": "diffsynth 2.1.12", "worstDifference": "2.1e-08"}
    ]
    assert world.status["progress"]["display"] == "done"
    assert set(job_file(world, "export").inputs) == {"prepare", "encode", "train"}
    assert world.created == [f"demo-{step}-1" for step in STEPS]


def test_both_experts_train_one_after_the_other_then_samples_are_rendered() -> None:
    world = World(model={"preset": "Wan2.2-I2V-Tiny"}, validation={"samples": 2})
    for _ in range(10):
        world.settle()
        if world.is_final:
            break
        world.starts()
        world.ends(ExitClass.DONE)
    assert world.created == [
        f"demo-{step}-1"
        for step in ("prepare", "encode", "train-high-noise", "train-low-noise", "export", "sample")
    ]
    assert job_file(world, "train-low-noise").expert == "LowNoise"


def test_one_expert_of_a_pair_keeps_its_name() -> None:
    world = World(model={"preset": "Wan2.2-I2V-Tiny"}, experts=["LowNoise"])
    world.settle()
    assert [step["name"] for step in world.status["steps"]] == [
        "prepare",
        "encode",
        "train-low-noise",
        "export",
    ]


def test_the_ttl_removes_the_children_and_not_the_resource() -> None:
    world = finished_world(ttlSecondsAfterFinished=600)
    assert world.decide().requeue_after == 600
    world.passes(600)
    before = dict(world.status)
    world.settle()
    assert not world.jobs
    assert not world.config_maps
    assert world.status == before
    world.settle()
    assert len(world.created) == 4, "removed children do not come back"


def observed(status: dict[str, Any], generation: int) -> dict[str, Any]:
    """The same status, of another generation."""
    seen = {"observedGeneration": generation}
    return status | seen | {"conditions": [each | seen for each in status["conditions"]]}


def test_final_is_final() -> None:
    world = finished_world()
    before = dict(world.status)
    world.edit(validation={"samples": 4}, suspend=True, retries={"infrastructure": 1})
    world.settle()
    assert world.status == observed(before, 2)
    assert len(world.created) == 4
    failed = World()
    failed.settle()
    failed.ends(ExitClass.NUMERICAL)
    failed.settle()
    before = dict(failed.status)
    failed.edit(suspend=True)
    failed.settle()
    assert failed.status == observed(before, 2)


def test_an_edit_that_takes_a_running_step_out_of_the_plan_stops_it() -> None:
    world = World(validation={"samples": 1})
    world.reach("sample")
    world.starts()
    world.settle()
    world.edit(validation={"samples": 0})
    world.settle()
    assert world.is_true("Complete")
    assert not world.running_jobs()


def test_a_step_that_an_edit_puts_back_does_not_take_its_old_job_for_its_own() -> None:
    """Names go on counting; what the old Job committed was of another plan."""
    world = World(validation={"samples": 1})
    world.reach("sample")
    world.ends(ExitClass.DONE)
    taken_out = [step for step in world.status["steps"] if step["name"] != "sample"]
    world.cr["status"]["steps"] = taken_out
    world.settle()
    assert world.open_job == "demo-sample-2"
    assert not world.is_final


def test_a_step_that_is_put_back_waits_until_its_old_pod_has_stopped() -> None:
    world = World(validation={"samples": 1})
    world.reach("sample")
    world.starts()
    world.jobs["demo-sample-1"]["metadata"]["deletionTimestamp"] = world.now.isoformat()
    world.cr["status"]["steps"] = [s for s in world.status["steps"] if s["name"] != "sample"]
    decision = world.settle()
    assert world.created[-1] == "demo-sample-1"
    assert "waits until Job demo-sample-1 has stopped" in world.status["conditions"][0]["message"]
    assert decision.requeue_after == 2
    world.removes_deleted()
    world.settle()
    assert world.open_job == "demo-sample-2"


def test_an_edit_of_a_running_attempts_settings_waits_for_the_next() -> None:
    world = World()
    world.reach("train")
    world.starts()
    world.settle()
    before = job_file(world, "train")
    world.edit(checkpoint={"everySteps": 7})
    world.settle()
    assert job_file(world, "train") == before
    world.ends(ExitClass.STOPPED)
    world.settle()
    assert finetune_of(job_file(world, "train")).training.checkpoint_every == 7


def test_a_lost_job_file_is_put_back() -> None:
    world = World()
    world.settle()
    world.config_maps.clear()
    world.settle()
    assert "demo-prepare" in world.config_maps


@pytest.mark.parametrize("die_after", range(4))
def test_dying_between_any_two_calls_doubles_and_loses_nothing(die_after: int) -> None:
    world = World()

    def look_and_die() -> None:
        try:
            world.look(die_after)
        except Crash:
            world.passes(1)

    look_and_die()
    for each in STEPS:
        world.settle()
        assert world.open_job == f"demo-{each}-1"
        world.starts()
        look_and_die()
        world.settle()
        world.ends(ExitClass.DONE)
        look_and_die()  # records the end
        look_and_die()  # starts the next step
    world.settle()
    assert world.is_true("Complete")
    assert world.created == [f"demo-{each}-1" for each in STEPS]
    assert all(each["attempts"] == 1 for each in world.status["steps"])
    assert world.status["startTime"] >= START.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_formats_may_be_edited_until_the_export_begins_and_the_status_stays_true() -> None:
    world = World()
    world.reach("train")
    world.edit(output={"formats": ["DiffSynth", "ComfyUI"]})
    world.reach("export")
    world.starts()
    world.settle()
    assert finetune_of(job_file(world, "export")).formats == ("DiffSynth", "ComfyUI")
    world.edit(output={"formats": ["DiffSynth"]})  # slips in before the API server refuses it
    world.settle()
    assert world.status["effective"]["formats"] == ["DiffSynth", "ComfyUI"]
    world.ends(ExitClass.INFRASTRUCTURE)
    world.passes((world.settle().requeue_after or 0) + 1)
    world.settle()
    assert finetune_of(job_file(world, "export")).formats == ("DiffSynth",), (
        "the next attempt heeds it"
    )
    assert world.status["effective"]["formats"] == ["DiffSynth"]
