"""Both experts of Wan2.2 in one step."""

from __future__ import annotations

from typing import Any

from unit.controller.world import World, job_file
from wan_operator.kinds import FINETUNE
from wan_operator.resources.left import left_of
from wan_runtime.contract.job import ExitClass
from wan_runtime.contract.steps import Expert
from wan_runtime.contract.summary import TRAIN_WINDOWS
from wan_runtime.presets import PRESETS

JOINT = {"experts": "Joint"}
PAIR = PRESETS["Wan2.2-I2V-Tiny"].experts


def joint(**spec: Any) -> World:
    world = World(model={"preset": "Wan2.2-I2V-Tiny"}, parallelism=JOINT, **spec)
    world.reach("train")
    return world


def test_one_step_trains_both_experts() -> None:
    start = {"highNoise": "s3://a/high.safetensors", "lowNoise": "s3://a/low.safetensors"}
    world = joint(method={"lora": {"initFrom": start}}, training={"steps": 10})
    assert world.running_jobs() == ["demo-train-1"]
    assert world.status["effective"]["experts"] == ["HighNoise", "LowNoise"]
    assert world.status["effective"]["gpus"] == 1
    job = job_file(world, "train")
    assert job.expert is Expert.ONLY
    assert job.work.kind == "FineTune"
    assert job.work.training.steps == 10
    assert job.work.starts == dict(zip(PAIR, start.values(), strict=True))
    world.ends(ExitClass.DONE)
    world.settle()
    assert set(job_file(world, "export").inputs) == {"prepare", "encode", "train"}
    assert not job_file(world, "export").work.starts


def test_both_experts_checkpoints_go_with_the_run() -> None:
    world = joint()
    world.starts()
    world.settle()
    (job,) = FINETUNE.left(world.cr, world.settings, world.now)
    left = left_of(job)
    assert left is not None
    assert left.folders is not None
    assert [key.split("/", 3)[3] for key in left.folders.keys] == [
        f"train-{expert}-noise/{kept}/"
        for expert in ("high", "low")
        for kept in ("checkpoints", "best")
    ]


def test_a_warm_up_must_end_for_both() -> None:
    """Steps follow from the clips here: 3 of them, seen 20 times."""
    schedule = {"warmupSteps": 22}
    world = World(
        model={"preset": "Wan2.2-I2V-Tiny"}, parallelism=JOINT, training={"schedule": schedule}
    )
    world.settle()
    world.starts()
    world.ends(ExitClass.DONE, summary={TRAIN_WINDOWS: 3})
    world.settle()
    assert world.leading == ("Stalled", "WarmUpTooLong")
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert "is 22, more than the 21 that an expert of the run has" in stalled["message"]


def test_an_edit_to_joint_starts_a_run_over_that_no_gpu_worked_for() -> None:
    world = World(model={"preset": "Wan2.2-I2V-Tiny"})
    world.settle()
    world.edit(parallelism={"experts": "Parallel"})
    world.settle()
    assert world.running_jobs() == ["demo-prepare-1"]
    world.edit(parallelism=JOINT)
    world.settle()
    world.removes_deleted()
    world.settle()
    assert world.running_jobs() == ["demo-prepare-2"]
    assert [step["name"] for step in world.status["steps"]][2:] == ["train", "export"]
