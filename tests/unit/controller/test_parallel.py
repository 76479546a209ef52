"""Steps side by side: both experts of Wan2.2 at the same time, each with its own fate."""

from __future__ import annotations

from typing import Any

import pytest

from unit.controller.world import Crash, World, job_file
from wan_operator.api.v1alpha1.finetune import WanFineTuneSpec, WanFineTuneStatus
from wan_operator.reconcile.finetune.plan import plan_steps, sources
from wan_runtime.contract.job import ExitClass

HIGH, LOW = "demo-train-high-noise-1", "demo-train-low-noise-1"
PARALLEL = {"experts": "Parallel"}


def parallel(**spec: Any) -> World:
    """Both experts' attempts are open and run."""
    world = World(model={"preset": "Wan2.2-I2V-Tiny"}, parallelism=PARALLEL, **spec)
    world.at_once = 2
    for step in ("prepare", "encode"):
        world.settle()
        assert world.open_job == f"demo-{step}-1"
        world.starts()
        world.ends(ExitClass.DONE)
    world.settle()
    assert world.running_jobs() == [HIGH, LOW]
    for name in (HIGH, LOW):
        world.starts(name)
    world.settle()
    return world


def message(world: World, type_: str) -> str:
    found = world.condition(type_)
    assert found is not None
    return str(found["message"])


def test_both_experts_train_at_once_and_the_export_waits_for_both() -> None:
    world = parallel()
    assert world.status["effective"]["gpus"] == 2
    assert world.leading == ("Running", "StepRunning")
    for name in (HIGH, LOW):
        assert f"runs as pod {name}" in message(world, "Running")
    world.ends(ExitClass.DONE, name=LOW)
    world.settle()
    assert world.running_jobs() == [HIGH]
    assert "demo-train-high-noise-1" in message(world, "Running")
    world.ends(ExitClass.DONE, name=HIGH)
    world.settle()
    assert world.open_job == "demo-export-1"
    names = [step["name"] for step in world.status["steps"]]
    assert names == ["prepare", "encode", "train-high-noise", "train-low-noise", "export"]
    trains = {"train-high-noise", "train-low-noise"}
    assert set(job_file(world, "export").inputs) == trains | {"prepare", "encode"}
    world.ends(ExitClass.DONE)
    world.settle()
    assert world.is_true("Complete")


def test_what_an_expert_reads_does_not_depend_on_the_others_luck() -> None:
    """Or a checkpoint would be of another job once the other expert is done."""
    world = parallel()
    before = job_file(world, "train-low-noise")
    assert set(before.inputs) == {"prepare", "encode"}
    world.ends(ExitClass.DONE, name=HIGH)
    world.settle()
    world.ends(ExitClass.STOPPED, name=LOW)
    world.settle()
    assert world.running_jobs() == ["demo-train-low-noise-2"]
    assert job_file(world, "train-low-noise") == before


def test_one_is_tried_again_while_the_other_runs_on() -> None:
    world = parallel()
    world.ends(ExitClass.INFRASTRUCTURE, "minio does not answer", name=LOW)
    decision = world.settle()
    assert world.leading == ("Reconciling", "StoreUnreachable")
    assert "train-low-noise failed: minio does not answer. Attempt 2 (retry 1 of 5)" in message(
        world, "Reconciling"
    )
    assert world.is_true("Running")
    assert HIGH in message(world, "Running")
    assert world.running_jobs() == [HIGH]
    assert world.step("train-high-noise")["infrastructureRetries"] == 0
    assert decision.requeue_after is not None
    assert decision.requeue_after <= 15
    world.passes(60)
    world.settle()
    assert world.running_jobs() == [HIGH, "demo-train-low-noise-2"]
    assert not world.step("train-low-noise")["message"]


def test_both_in_back_off_are_both_told() -> None:
    world = parallel()
    world.ends(ExitClass.INFRASTRUCTURE, "no route", name=LOW)
    world.settle()
    world.ends(ExitClass.INFRASTRUCTURE, "no bucket", name=HIGH)
    world.settle()
    for text in ("train-low-noise failed: no route", "train-high-noise failed: no bucket"):
        assert text in message(world, "Reconciling")
    assert not world.is_true("Running")
    world.passes(60)
    world.settle()
    world.ends(ExitClass.INFRASTRUCTURE, "no route", name="demo-train-low-noise-2")
    world.settle()
    world.ends(ExitClass.NUMERICAL, name="demo-train-high-noise-2")
    world.settle()
    low = world.step("train-low-noise")
    assert (low["state"], low["message"]) == ("Stopped", "")
    assert "nextAttemptTime" not in low, "nothing starts any more"


def test_one_is_preempted_and_goes_on_without_the_other_noticing() -> None:
    world = parallel()
    world.ends(ExitClass.STOPPED, name=HIGH)
    world.settle()
    assert world.running_jobs() == [LOW, "demo-train-high-noise-2"]
    assert world.step("train-low-noise")["attempts"] == 1


@pytest.mark.parametrize("exit_class", [ExitClass.NUMERICAL, ExitClass.INPUT])
def test_one_that_fails_for_good_stops_the_other_which_keeps_what_it_has(
    exit_class: ExitClass,
) -> None:
    world = parallel()
    world.ends(exit_class, "loss is NaN", name=LOW)
    world.settle()
    assert world.is_true("Failed")
    assert message(world, "Failed") == (
        "train-low-noise failed: loss is NaN; train-high-noise was stopped"
    )
    assert world.step("train-low-noise")["state"] == "Failed"
    assert world.step("train-high-noise")["state"] == "Stopped"
    assert world.jobs[HIGH]["metadata"]["deletionTimestamp"], "its pod gets its grace to save"
    assert LOW in world.jobs, "kept for its logs"
    before = dict(world.status)
    world.ends(ExitClass.STOPPED, name=HIGH)
    world.removes_deleted()
    world.settle()
    assert world.status == before, "final is final"
    assert not world.running_jobs()


def test_what_the_other_committed_is_known_before_a_failure_ends_the_run() -> None:
    world = parallel()
    world.ends(ExitClass.NUMERICAL, name=HIGH)
    world.ends(ExitClass.DONE, name=LOW)
    world.settle()
    assert world.is_true("Failed")
    assert world.step("train-low-noise")["state"] == "Complete"
    assert world.step("train-low-noise")["artifact"]
    assert world.step("train-high-noise")["state"] == "Failed"


def test_retries_of_one_that_are_used_up_stop_the_other() -> None:
    world = parallel(retries={"infrastructure": 0})
    world.ends(ExitClass.INFRASTRUCTURE, name=HIGH)
    world.settle()
    assert world.step("train-low-noise")["state"] == "Stopped"


def test_suspend_waits_for_both_and_resume_starts_both() -> None:
    world = parallel(retries={"infrastructure": 0})
    world.edit(suspend=True)
    world.settle()
    for name in (HIGH, LOW):
        assert f"Job {name} is stopping and is saving" in message(world, "Reconciling")
    world.ends(ExitClass.STOPPED, name=HIGH)
    world.settle()
    assert world.leading == ("Reconciling", "Suspending")
    assert HIGH not in message(world, "Reconciling")
    world.ends(ExitClass.STOPPED, name=LOW)
    world.removes_deleted()
    world.settle()
    assert world.leading == ("Suspended", "SuspendedByUser")
    assert "before train-high-noise and train-low-noise" in message(world, "Suspended")
    assert not world.running_jobs()
    world.edit(suspend=False)
    world.settle()
    assert world.running_jobs() == ["demo-train-high-noise-2", "demo-train-low-noise-2"]
    assert all(step.get("infrastructureRetries") == 0 for step in world.status["steps"])
    told = [event.action for event in world.events if event.reason == "Suspending"]
    assert told == ["StopStep"], "once for both"


def test_resuming_while_one_still_saves_waits_for_it() -> None:
    world = parallel()
    world.edit(suspend=True)
    world.settle()
    world.ends(ExitClass.STOPPED, name=HIGH)
    world.edit(suspend=False)
    world.settle()
    assert not world.running_jobs(), "held until both have stopped"
    world.ends(ExitClass.STOPPED, name=LOW)
    world.settle()
    assert len(world.running_jobs()) == 2


def test_one_that_is_done_while_it_is_suspended_is_done() -> None:
    world = parallel()
    world.edit(suspend=True)
    world.settle()
    world.ends(ExitClass.DONE, name=HIGH)
    world.ends(ExitClass.STOPPED, name=LOW)
    world.settle()
    assert world.step("train-high-noise")["state"] == "Complete"
    assert "held before train-low-noise;" in message(world, "Suspended")


def test_the_deadline_names_both_and_stops_both() -> None:
    world = parallel(activeDeadlineSeconds=100)
    world.passes(100)
    world.settle()
    assert message(world, "Failed") == (
        "train-high-noise and train-low-noise were not done within spec.activeDeadlineSeconds, "
        "100 s"
    )
    assert not world.running_jobs()


def test_the_choice_may_be_edited_while_the_experts_train() -> None:
    world = parallel()
    world.edit(parallelism={"experts": "Sequential"})
    world.settle()
    assert world.running_jobs() == [HIGH, LOW], "what runs is left to run"
    world.ends(ExitClass.STOPPED, name=LOW)
    world.settle()
    assert world.running_jobs() == [HIGH], "and waits its turn from then on"
    assert world.status["effective"]["gpus"] == 1
    world.edit(parallelism=PARALLEL)
    world.settle()
    assert world.running_jobs() == [HIGH, "demo-train-low-noise-2"]


@pytest.mark.parametrize("die_after", range(6))
def test_dying_while_both_are_started_doubles_and_loses_nothing(die_after: int) -> None:
    world = World(model={"preset": "Wan2.2-I2V-Tiny"}, parallelism=PARALLEL)
    world.at_once = 2
    for _ in range(2):
        world.settle()
        world.ends(ExitClass.DONE)
    world.look()  # records the end
    try:
        world.look(die_after)
    except Crash:
        world.passes(1)
    world.settle()
    assert world.running_jobs() == [HIGH, LOW]
    for name in (HIGH, LOW):
        world.ends(ExitClass.DONE, name=name)
    world.settle()
    assert world.open_job == "demo-export-1"
    assert all(step["attempts"] == 1 for step in world.status["steps"])


def test_a_stranger_in_the_way_of_one_does_not_hold_the_other() -> None:
    world = World(model={"preset": "Wan2.2-I2V-Tiny"}, parallelism=PARALLEL)
    world.at_once = 2
    for _ in range(2):
        world.settle()
        world.ends(ExitClass.DONE)
    stranger = {"name": LOW, "uid": "theirs", "ownerReferences": []}
    world.jobs[LOW] = {"metadata": stranger, "status": {"succeeded": 1}}
    decision = world.settle()
    assert HIGH in world.running_jobs()
    assert f"waits until {LOW} of an earlier WanFineTune" in message(world, "Reconciling")
    assert decision.requeue_after == 2
    del world.jobs[LOW]
    world.settle()
    assert world.running_jobs() == [HIGH, LOW]


# -- The plan


@pytest.mark.parametrize("experts", ["Sequential", "Parallel", "Joint"])
@pytest.mark.parametrize("preset", ["Wan2.1-I2V-Tiny", "Wan2.2-I2V-Tiny"])
def test_the_plan_is_listed_in_an_order_in_which_it_could_run(experts: str, preset: str) -> None:
    spec = WanFineTuneSpec.model_validate(
        {
            "model": {"preset": preset},
            "dataset": {"source": "s3://data/clips"},
            "parallelism": {"experts": experts},
        }
    )
    plan = plan_steps(spec)
    seen: set[str] = set()
    for planned in plan:
        assert seen.issuperset((*planned.needs, *planned.after))
        seen.add(planned.id)
    assert sources(plan, "sample") == seen - {"sample"}
    assert sources(plan, "encode") == {"prepare"}


def test_parts_encode_at_once_and_are_gathered_without_a_gpu() -> None:
    world = World(dataset={"source": "s3://data/clips", "encodeParallelism": 3})
    world.at_once = 3
    world.settle()
    world.starts()
    world.ends(ExitClass.DONE)
    world.settle()
    parts = [f"encode-part{number}" for number in (1, 2, 3)]
    names = [f"demo-{part}-1" for part in parts]
    assert world.running_jobs() == names
    files = [job_file(world, part) for part in parts]
    assert [(file.shard.index, file.shard.count) for file in files if file.shard] == [
        (0, 3), (1, 3), (2, 3),
    ]  # fmt: skip
    assert {file.output_prefix.rsplit("/", 1)[1] for file in files} == set(parts)
    assert all(set(file.inputs) == {"prepare"} for file in files)
    for name in names:
        world.starts(name)
    world.ends(ExitClass.INFRASTRUCTURE, name=names[1])
    world.ends(ExitClass.DONE, name=names[0])
    world.ends(ExitClass.DONE, name=names[2])
    world.settle()
    assert "demo-encode-1" not in world.jobs
    world.passes(600)
    world.settle()
    assert world.open_job == "demo-encode-part2-2"
    world.starts()
    world.ends(ExitClass.DONE)
    world.settle()
    assert world.open_job == "demo-encode-1"
    gathering = job_file(world, "encode")
    assert set(gathering.inputs) == {"prepare", *parts}
    assert gathering.shard is None
    requests = {
        name: "nvidia.com/gpu" in container["resources"]["requests"]
        for name in ("demo-encode-1", "demo-encode-part2-2")
        for container in world.jobs[name]["spec"]["template"]["spec"]["containers"]
    }
    assert requests == {"demo-encode-1": False, "demo-encode-part2-2": True}
    world.starts()
    world.ends(ExitClass.DONE)
    world.settle()
    assert world.open_job == "demo-train-1"


def test_a_model_of_ones_own_is_imported_beside_the_check_of_the_clips() -> None:
    world = World(model={"preset": "Wan2.1-I2V-Tiny", "source": {"s3": "s3://wan/models/tiny"}})
    world.at_once = 2
    world.settle()
    assert world.running_jobs() == ["demo-prepare-1", "demo-import-1"]
    world.ends(ExitClass.DONE, name="demo-prepare-1")
    world.settle()
    assert world.running_jobs() == ["demo-import-1"], "encode needs both"
    world.ends(ExitClass.DONE, name="demo-import-1")
    world.settle()
    assert set(job_file(world, "encode").inputs) == {"prepare", "import"}
    assert "nvidia.com/gpu" not in str(world.jobs["demo-import-1"]["spec"])


def test_the_longest_plan_fits_the_status() -> None:
    """What is written is cut to its bounds: a step that is cut would start again and again."""
    spec = WanFineTuneSpec.model_validate(
        {
            "model": {"preset": "Wan2.2-I2V-A14B", "source": {"s3": "s3://wan/models"}},
            "dataset": {"source": "s3://data/clips", "encodeParallelism": 8},
            "parallelism": PARALLEL,
        }
    )
    plan = plan_steps(spec)
    limits = WanFineTuneStatus.model_json_schema()["properties"]["steps"]
    assert len(plan) <= limits["maxItems"]
    assert max(len(planned.id) for planned in plan) <= 32
