"""Training on several GPUs and nodes: what is chosen, and the pods that it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unit.controller.world import SETTINGS, World
from wan_operator.api.v1alpha1.finetune import WanFineTuneSpec
from wan_operator.reconcile.finetune.fit import workloads
from wan_runtime.contract.job import ExitClass, JobSpec
from wan_runtime.contract.training import Parallelism
from wan_runtime.planner.gpus import DEFAULTS, by_name

Raw = dict[str, Any]
JOB = "demo-train-1"
TWO_NODES = {"nodes": 2, "gpusPerNode": 4, "environment": {"NCCL_DEBUG": "WARN"}}
PVC = {"claimName": "models"}
EIGHT_CLIPS = {"gradientAccumulation": 8}


def chosen(gpu: str, **spec: Any) -> Parallelism:
    """How the work of a run at 81 frames of 720p is shared."""
    model = {"model": {"preset": "Wan2.1-I2V-14B-720P"}, "dataset": {"source": "s3://a/b"}}
    made = WanFineTuneSpec.model_validate({**model, **spec})
    return workloads(made, by_name(gpu, DEFAULTS))[0].spread


def pod_of(world: World, job: str) -> Raw:
    spec: Raw = world.jobs[job]["spec"]["template"]["spec"]
    return spec


def environment(world: World, job: str) -> dict[str, str]:
    [container] = pod_of(world, job)["containers"]
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


def job_file(world: World, step: str) -> JobSpec:
    text = world.config_maps[f"demo-{step}"]["data"]["job.json"]
    return JobSpec.model_validate_json(text)


def trained(**spec: Any) -> World:
    """A run whose train step has just been started."""
    world = World(**spec)
    world.reach("train")
    return world


def test_one_gpu_is_as_before() -> None:
    world = trained()
    assert "parallelism" not in world.status["effective"]
    assert "completionMode" not in world.jobs[JOB]["spec"]
    assert "subdomain" not in pod_of(world, JOB)
    assert "MASTER_ADDR" not in environment(world, JOB)
    assert job_file(world, "train").parallelism == Parallelism()


def test_only_training_takes_several_gpus() -> None:
    spread = {"gpusPerNode": 4, "sequence": 2}
    world = trained(parallelism=spread, training=EIGHT_CLIPS)
    requests = {
        name: each["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
        for name, each in world.jobs.items()
    }
    assert requests["demo-encode-1"]["nvidia.com/gpu"] == "1"
    assert requests[JOB]["nvidia.com/gpu"] == "4"
    assert world.jobs[JOB]["spec"]["completions"] == 1
    assert world.status["effective"]["parallelism"] == {
        "nodes": 1, "gpusPerNode": 4, "sequence": 2, "zeroStage": 0, "offload": "None",
    }  # fmt: skip
    assert job_file(world, "train").parallelism == Parallelism(gpus_per_node=4, sequence=2)
    assert job_file(world, "encode").parallelism == Parallelism()


def test_the_pods_of_several_nodes_meet_by_the_name_of_the_first() -> None:
    world = trained(parallelism=TWO_NODES, training=EIGHT_CLIPS)
    spec = world.jobs[JOB]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert spec["backoffLimit"] == 0, "one dead pod ends the attempt"
    said = environment(world, JOB)
    assert said["MASTER_ADDR"] == f"{JOB}-0.demo-train"
    assert said["MASTER_PORT"] == "29500"
    assert said["NCCL_DEBUG"] == "WARN"
    assert "NCCL_DEBUG" not in environment(world, "demo-encode-1")
    service = world.services["demo-train"]
    assert pod_of(world, JOB)["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"], "or nobody is found before all are there"
    labels = spec["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert list(world.services) == ["demo-train"], "the other steps have one pod each"


def test_the_next_attempt_has_a_name_of_its_own_to_meet_by() -> None:
    world = trained(parallelism=TWO_NODES, training=EIGHT_CLIPS)
    del world.jobs[JOB]
    world.settle()
    world.passes(60)
    world.settle()
    assert environment(world, "demo-train-2")["MASTER_ADDR"] == "demo-train-2-0.demo-train"


def test_what_is_lost_counts_all_gpus() -> None:
    world = trained(parallelism={"gpusPerNode": 4}, training=EIGHT_CLIPS)
    world.starts(JOB)
    world.settle()
    world.passes(100)
    del world.jobs[JOB]
    world.settle()
    assert world.status["lostGpuSeconds"] == 400


def test_an_edit_reaches_the_next_attempt_alone() -> None:
    world = trained(parallelism={"gpusPerNode": 2}, training=EIGHT_CLIPS)
    world.starts(JOB)
    world.settle()
    world.edit(parallelism={"gpusPerNode": 4})
    world.settle()
    assert list(world.jobs)[-1] == JOB
    del world.jobs[JOB]
    world.settle()
    world.passes(60)
    world.settle()
    assert job_file(world, "train").parallelism.gpus_per_node == 4


def test_an_edit_has_auto_chosen_anew() -> None:
    """Blocks that keep their attention are none of ZeRO 3, and one GPU has less room than two."""
    h200 = replace(SETTINGS, gpu_type="H200-141GB")
    model = {"preset": "Wan2.1-I2V-14B-720P", "source": {"s3": "s3://wan/models/x"}}
    two = {"gpusPerNode": 2, "sequence": 2}
    world = World(h200, model=model, parallelism=two, training={"seed": 1})

    def kept() -> str:
        world.settle()
        return str(world.status["effective"]["gradientCheckpointing"])

    world.at_once = 2
    world.reach("train")
    began = kept()
    assert began == "KeepAttention"
    world.edit(parallelism={**two, "zeroStage": 3})
    assert kept() == "Full"
    world.edit(parallelism={**two, "environment": {"NCCL_DEBUG": "WARN"}})
    assert kept() == began
    world.status["effective"]["gradientCheckpointing"] = "Offload"  # by an earlier catalogue
    assert kept() == "Offload"


def test_an_edit_to_what_does_not_hold_the_run_waits_for_another() -> None:
    """It would run out of memory, and that ends a run for good."""
    h100 = replace(SETTINGS, gpu_type="H100-80GB")
    model = {"preset": "Wan2.1-I2V-14B-720P", "source": {"persistentVolumeClaim": PVC}}
    training = {"gradientCheckpointing": "Full"}
    world = World(h100, model=model, parallelism={"gpusPerNode": 2}, training=training)
    world.at_once = 2
    world.reach("train")
    world.starts(JOB)
    world.settle()
    before = world.status["effective"]
    world.edit(parallelism={"gpusPerNode": 1})
    world.settle()
    assert world.running_jobs() == [JOB], "what runs is left to run"
    world.ends(ExitClass.STOPPED)
    world.settle()
    assert world.leading == ("Stalled", "DoesNotFit")
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert "it fits with gradientCheckpointing: Offload" in stalled["message"]
    assert "parallelism.gpusPerNode: 2" in stalled["message"]
    assert world.status["effective"] == before
    world.edit(suspend=True)
    world.settle()
    assert world.leading == ("Suspended", "SuspendedByUser")
    world.edit(suspend=False)
    world.settle()
    assert world.leading == ("Stalled", "DoesNotFit")
    world.edit(parallelism={"gpusPerNode": 4, "sequence": 4})
    world.settle()
    assert world.running_jobs() == ["demo-train-2"]
    assert world.status["effective"]["parallelism"]["gpusPerNode"] == 4


def test_what_another_release_chose_is_chosen_anew() -> None:
    world = trained(parallelism={"gpusPerNode": 2}, training=EIGHT_CLIPS)
    was = dict(world.status["effective"]["parallelism"])
    world.status["effective"]["parallelism"] |= {"offload": "Disk", "zeroStage": 4}
    world.settle()
    assert world.status["effective"]["parallelism"] == was


@pytest.mark.parametrize(
    ("spread", "clips", "sequence"),
    [
        ({"gpusPerNode": 8}, 8, 1),
        ({"gpusPerNode": 8}, 4, 2),
        ({"gpusPerNode": 8}, 1, 8),
        ({"gpusPerNode": 6}, 3, 2),
        ({"gpusPerNode": 4, "nodes": 2}, 2, 4),
        ({"gpusPerNode": 8, "sequence": 4}, 8, 4),
    ],
)
def test_few_clips_are_split_over_more_gpus(
    spread: dict[str, int], clips: int, sequence: int
) -> None:
    training = {"gradientAccumulation": clips, "gradientCheckpointing": "Full"}
    assert chosen("B200-180GB", parallelism=spread, training=training).sequence == sequence


def test_clips_that_do_not_fit_one_gpu_are_split() -> None:
    training = {"gradientAccumulation": 8, "gradientCheckpointing": "Full"}
    spread = {"gpusPerNode": 8}
    assert chosen("H200-141GB", parallelism=spread, training=training).sequence == 1
    assert chosen("H100-80GB", parallelism=spread, training=training).sequence > 1


FULL = {"method": {"full": {}}, "training": {"gradientAccumulation": 8}}


def test_all_weights_are_divided_until_they_fit() -> None:
    for gpu, spread in {
        "H200-141GB": Parallelism(gpus_per_node=8, zero_stage=3),
        "H100-80GB": Parallelism(gpus_per_node=8, zero_stage=3, sequence=4),
    }.items():
        assert chosen(gpu, **FULL, parallelism={"gpusPerNode": 8}) == spread
    few = chosen("H200-141GB", **FULL, parallelism={"gpusPerNode": 2})
    assert (few.zero_stage, few.offload) == (3, "Optimizer")
    assert chosen("B200-180GB", **FULL, parallelism={"gpusPerNode": 1}).zero_stage == 0


def test_a_lora_needs_no_deepspeed() -> None:
    spread = chosen("H100-80GB", training=EIGHT_CLIPS, parallelism={"gpusPerNode": 8})
    assert spread.zero_stage == 0
    wanted = {"gpusPerNode": 8, "zeroStage": 2, "offload": "Optimizer"}
    spread = chosen("H100-80GB", training=EIGHT_CLIPS, parallelism=wanted)
    assert (spread.zero_stage, spread.offload) == (2, "Optimizer")


def test_an_unknown_gpu_gets_the_least_that_is_not_slow() -> None:
    made = WanFineTuneSpec.model_validate(
        {
            "model": {"preset": "Wan2.1-I2V-14B-720P"}, "dataset": {"source": "s3://a/b"},
            **FULL, "parallelism": {"gpusPerNode": 8},
        }
    )  # fmt: skip
    spread = workloads(made, None)[0].spread
    assert (spread.zero_stage, spread.offload) == (3, "None")


def test_what_is_offloaded_is_requested() -> None:
    model = {"preset": "Wan2.1-I2V-14B-720P", "source": {"s3": "s3://wan/models/x"}}
    spread = {"gpusPerNode": 8, "zeroStage": 3}
    asked = []
    for offload in ("None", "Optimizer"):
        world = World(model=model, **FULL, parallelism={**spread, "offload": offload})
        world.at_once = 2
        world.reach("train")
        [container] = pod_of(world, JOB)["containers"]
        asked.append(int(container["resources"]["requests"]["memory"].removesuffix("Gi")))
    assert asked[1] - asked[0] == pytest.approx(1.4 * 16 * 16.4e9 / 2**30, rel=0.05)
