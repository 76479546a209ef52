"""Checkpoints in the status, and the GPU time that was lost for want of one."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import aiohttp
import pytest

from unit.controller.world import SETTINGS, World
from wan_operator.controller import Controller
from wan_operator.metrics import Metrics
from wan_operator.reconcile.decision import Decision
from wan_runtime.contract.job import Checkpoint, ExitClass, ManifestRef, Progress, Result
from wan_runtime.contract.reasons import Reason


def checkpoint(step: int, saved: datetime, sha256: str = "c" * 64) -> Checkpoint:
    uri = f"s3://wan/train/checkpoints/step-{step:08d}/manifest.json"
    return Checkpoint(step=step, manifest=ManifestRef(uri=uri, sha256=sha256), saved=saved)


def says(world: World, found: Checkpoint | None, step: str = "train") -> None:
    world.says(Progress(step_id=step, activity="training", current=1, total=9, checkpoint=found))


def training(**spec: Any) -> World:
    world = World(**spec)
    world.reach("train")
    world.starts()
    world.settle()
    return world


def test_a_checkpoint_that_the_pod_tells_of_is_in_the_status() -> None:
    world = training()
    assert "checkpoint" not in world.status
    says(world, checkpoint(100, world.now))
    world.settle()
    assert world.status["checkpoint"] == {
        "name": "train",
        "step": 100,
        "uri": "s3://wan/train/checkpoints/step-00000100/manifest.json",
        "sha256": "c" * 64,
        "time": "2026-11-22T12:00:00Z",
    }
    assert world.step("train")["checkpoint"] == world.status["checkpoint"]
    before = world.writes
    world.passes(60)
    world.settle()
    assert world.writes == before, "written on change only"


def test_the_last_words_of_a_pod_tell_of_its_last_checkpoint() -> None:
    world = training()
    world.passes(60)
    last = checkpoint(150, world.now)
    stopped = Result(
        step_id="train",
        exit_class=ExitClass.STOPPED,
        reason=Reason.TERMINATED,
        checkpoint=last,
    )
    world.exits(40, stopped.dump())
    world.settle()
    assert world.status["checkpoint"]["step"] == 150
    assert world.status["lostGpuSeconds"] == 0, "it saved all that it had done"


def test_each_expert_has_its_own_and_the_newest_is_told() -> None:
    world = World(model={"preset": "Wan2.2-I2V-Tiny"}, parallelism={"experts": "Parallel"})
    world.at_once = 2
    for _ in range(2):
        world.settle()
        world.ends(ExitClass.DONE)
    world.settle()
    for name in world.running_jobs():
        world.starts(name)
    world.settle()
    later = world.now + timedelta(seconds=30)
    says(world, checkpoint(200, later), "train-high-noise")
    says(world, checkpoint(100, world.now), "train-low-noise")
    world.settle()
    assert world.status["checkpoint"]["name"] == "train-high-noise"
    assert world.step("train-high-noise")["checkpoint"]["step"] == 200
    assert world.step("train-low-noise")["checkpoint"]["step"] == 100
    high, low = world.running_jobs()
    world.ends(ExitClass.DONE, name=high)
    world.settle()
    assert world.status["checkpoint"]["name"] == "train-low-noise", "the other's are deleted"
    assert "checkpoint" not in world.step("train-high-noise")
    world.ends(ExitClass.DONE, name=low)
    world.settle()
    assert "checkpoint" not in world.status


def lost(world: World) -> int:
    found: int = world.status["lostGpuSeconds"]
    return found


@pytest.mark.parametrize("end", ["Result", "no result", "pod gone", "Job gone"])
def test_what_was_done_after_the_last_checkpoint_is_lost(end: str) -> None:
    world = training()
    world.passes(100)
    says(world, checkpoint(100, world.now))
    world.settle()
    world.passes(50)
    ends: dict[str, Any] = {
        "Result": lambda: world.ends(ExitClass.INFRASTRUCTURE),
        "no result": lambda: world.exits(137),
        "pod gone": world.loses_pod,
        "Job gone": world.loses_job,
    }
    ends[end]()
    world.settle()
    assert lost(world) == 50
    world.passes(60)
    world.settle()
    world.starts()
    world.settle()
    world.passes(30)
    world.ends(ExitClass.INFRASTRUCTURE)  # World's containers have run for a minute
    world.settle()
    assert lost(world) == 50 + 60, "the checkpoint is of the attempt before: all of this one"


def test_a_deadline_loses_what_ran_since_the_last_checkpoint() -> None:
    world = training(activeDeadlineSeconds=300)
    world.passes(200)
    says(world, checkpoint(100, world.now))
    world.settle()
    world.passes(100)
    world.settle()
    assert world.is_true("Failed")
    assert lost(world) == 100
    assert "runningSince" not in world.step("train")


def test_the_failure_of_one_expert_loses_what_the_other_had_not_saved() -> None:
    world = World(model={"preset": "Wan2.2-I2V-Tiny"}, parallelism={"experts": "Parallel"})
    world.at_once = 2
    for _ in range(2):
        world.settle()
        world.ends(ExitClass.DONE)
    world.settle()
    high, low = world.running_jobs()
    world.starts(high)
    world.starts(low)
    world.settle()
    world.passes(200)
    says(world, checkpoint(100, world.now - timedelta(seconds=30)), "train-low-noise")
    world.ends(ExitClass.NUMERICAL, name=high)  # World's containers have run for a minute
    world.settle()
    assert lost(world) == 60 + 30


def test_a_queue_that_takes_the_pod_away_loses_what_it_had_not_saved() -> None:
    world = training()
    job, pod = world.jobs["demo-train-1"], world.pods["demo-train-1"]
    world.passes(500)
    job["spec"]["suspend"] = True
    pod["metadata"]["deletionTimestamp"] = world.now.isoformat()
    world.settle()
    assert lost(world) == 0, "it is saving"
    saved = checkpoint(70, world.now - timedelta(seconds=20))
    words = Result(
        step_id="train", exit_class=ExitClass.STOPPED, reason=Reason.TERMINATED, checkpoint=saved
    )
    world.exits(40, words.dump())
    del job["status"]
    world.settle()
    assert world.status["checkpoint"]["step"] == 70
    world.pods.clear()
    world.settle()
    assert lost(world) == 20
    world.passes(3600)
    world.settle()
    assert lost(world) == 20, "waiting in a queue costs no GPU"


def test_without_a_checkpoint_the_whole_attempt_is_lost() -> None:
    world = training()
    world.ends(ExitClass.OUT_OF_MEMORY)
    world.settle()
    assert world.is_true("Failed")
    assert lost(world) == 60


def test_what_never_ran_or_is_kept_or_takes_no_gpu_loses_nothing() -> None:
    world = World(retries={"infrastructure": 9})
    for step in ("prepare", "encode"):
        world.reach(step)
        world.ends(ExitClass.INFRASTRUCTURE)
        world.passes((world.settle().requeue_after or 0) + 1)
        world.settle()
        world.ends(ExitClass.DONE)
    world.reach("train")
    world.loses_pod()
    world.passes((world.settle().requeue_after or 0) + 1)
    world.settle()
    world.starts()
    world.passes(500)
    world.ends(ExitClass.DONE)
    world.settle()
    assert lost(world) == 0


def test_a_clock_of_a_pod_that_is_ahead_loses_nothing_and_breaks_nothing() -> None:
    world = training()
    says(world, checkpoint(100, world.now + timedelta(days=400)))
    world.settle()
    world.passes(60)
    world.ends(ExitClass.INFRASTRUCTURE)
    world.settle()
    assert lost(world) == 0


async def test_the_metric_counts_what_the_status_adds() -> None:
    class Kube:
        async def patch_status(self, cr: Any, status: Any) -> Any:
            return cr

    metrics = Metrics()
    async with aiohttp.ClientSession() as http:
        controller = Controller(Kube(), SETTINGS, metrics, http)  # type: ignore[arg-type]
        cr = {"metadata": {"namespace": "a", "name": "b"}, "status": {"lostGpuSeconds": 50}}
        await controller._carry_out(cr, Decision(status={"lostGpuSeconds": 70}))
        await controller._carry_out({**cr, "status": {}}, Decision(status={}))
    assert metrics.registry.get_sample_value("wan_operator_lost_gpu_seconds_total") == 20
