"""Runs that cannot fit their GPU do not start; what the planner decides reaches status and pods."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from unit.controller.world import SETTINGS, World
from wan_operator.api.v1alpha1.finetune import WanFineTuneSpec
from wan_operator.reconcile.finetune import fit
from wan_runtime.contract.job import ExitClass
from wan_runtime.planner.gpus import DEFAULTS, Gpu, by_name
from wan_runtime.planner.run import plan_run
from wan_runtime.planner.steps import checkpoint_interval

H100 = replace(SETTINGS, gpu_type="H100-80GB")
H200 = replace(SETTINGS, gpu_type="H200-141GB")
SOURCE = {"persistentVolumeClaim": {"claimName": "models"}}


def spec(preset: str = "Wan2.1-I2V-14B-720P", frames: int = 81, **more: Any) -> dict[str, Any]:
    """Of a run that computes activations again, unless it says otherwise."""
    dataset = {"source": "s3://data/clips", "frames": frames}
    training = {"gradientCheckpointing": "Full", **more.pop("training", {})}
    model = {"preset": preset, "source": SOURCE}
    return {"model": model, "dataset": dataset, "training": training, **more}


def selecting(product: str) -> dict[str, Any]:
    return {"podTemplate": {"nodeSelector": {"nvidia.com/gpu.product": product}}}


def gpu(name: str) -> Gpu:
    found = by_name(name, DEFAULTS)
    assert found is not None
    return found


def refused(world: World) -> bool:
    world.settle()
    stalled = world.condition("Stalled")
    assert (stalled is not None) == (not world.jobs)
    if stalled is not None:
        assert world.leading == ("Stalled", "DoesNotFit")
        assert not world.config_maps
    return stalled is not None


def test_a_run_that_cannot_fit_starts_no_pod_and_says_what_would() -> None:
    world = World(H100, **spec())
    assert refused(world)
    condition = world.condition("Stalled")
    assert condition is not None
    assert condition["message"] == (
        "training needs 90 GiB of GPU memory (88 to 92) and H100-80GB has 79: it fits with "
        "gradientCheckpointing: Offload, or basePrecision: FP8, or parallelism.gpusPerNode: 2, or "
        "65 frames, or 832x480, or a GPU of type H100-NVL-94GB. To try it all the same, set the "
        "annotation wan-operator.dev/fit-check: disabled"
    )
    assert world.condition("Failed") is None, "another GPU or the annotation heals it"
    plan = world.status["effective"]["plan"]
    assert (plan["gpu"], plan["gpuGib"], plan["confidence"]) == ("H100-80GB", 89.8, "Measured")
    before = world.writes
    world.passes(600)
    world.settle()
    assert world.writes == before, "told once"
    assert len(world.events) == 1


@pytest.mark.parametrize(
    ("settings", "run", "is_refused"),
    [
        (H100, spec(frames=57), False),
        (H100, spec(frames=77), True),
        (H200, spec(), False),
        (H200, spec(**selecting("NVIDIA-H100-80GB-HBM3")), True),
        (H100, spec(**selecting("NVIDIA-H200")), False),
        (H100, spec(**selecting("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb")), True),
        (H100, spec(**selecting("NVIDIA-T4")), False),
        (SETTINGS, spec(), False),
        (SETTINGS, spec(frames=241), True),
        # 49.5 GiB, 46.6 at the lower end: neither sure to fit 47.4 nor sure not to.
        (SETTINGS, spec(frames=21, **selecting("NVIDIA-RTX-6000-Ada-Generation")), False),
        (H100, spec("Wan2.2-I2V-A14B", frames=57), False),
        (H100, {}, False),
        (H100, spec("Wan2.1-I2V-Tiny", frames=241, training={"batchSize": 64}), False),
        (H100, spec(frames=25, training={"batchSize": 4}), True),
        (H100, spec(frames=57, training={"gradientCheckpointing": "None"}), True),
    ],
)
def test_the_gpu_is_the_selected_one_else_the_clusters(
    settings: Any, run: dict[str, Any], is_refused: bool
) -> None:
    assert refused(World(settings, **run)) == is_refused


def test_of_an_unknown_gpu_the_refusal_does_not_say_that_it_is_the_clusters() -> None:
    world = World(SETTINGS, **spec(frames=241))
    assert refused(world)
    said = world.condition("Stalled")
    assert said is not None
    assert "and the largest type of the catalogue, B200-180GB, has 178: it fits" in said["message"]


def test_the_annotation_starts_it_all_the_same() -> None:
    world = World(H100, **spec())
    assert refused(world)
    world.cr["metadata"]["annotations"] = {"wan-operator.dev/fit-check": "disabled"}
    assert not refused(world)
    assert world.open_job == "demo-prepare-1"


def test_another_gpu_heals_it() -> None:
    world = World(H100, **spec())
    assert refused(world)
    world.edit(**selecting("NVIDIA-H200"))
    assert not refused(world)


def test_a_run_that_has_begun_is_not_stopped_by_new_settings() -> None:
    world = World(H200, **spec())
    assert not refused(world)
    world.settings = H100
    for name in world.running_jobs():
        world.ends(ExitClass.DONE, name=name)
    world.settle()
    assert world.open_job == "demo-encode-1"
    assert world.status["effective"]["plan"]["gpu"] == "H100-80GB"


def test_hours_and_cost_follow_once_clips_are_counted() -> None:
    world = World(H100, **spec(frames=25))
    world.settle()
    plan = world.status["effective"]["plan"]
    assert "steps" not in plan
    assert "hours" not in plan
    world.starts()
    world.ends(ExitClass.DONE, summary={"clips": 12, "trainWindows": 11})
    world.settle()
    plan = world.status["effective"]["plan"]
    assert plan["steps"] == 11 * 10 * 2
    assert plan["hours"] == pytest.approx(220 * plan["secondsPerStep"] / 3600, abs=0.01)
    assert plan["cost"] == pytest.approx(3 * plan["hours"], abs=0.02)
    assert plan["confidence"] == "Measured"


def bucket(frames: int, width: int = 1280, height: int = 720) -> dict[str, int]:
    return {"width": width, "height": height, "frames": frames}


def over(*buckets: dict[str, int]) -> dict[str, Any]:
    return spec() | {"dataset": {"source": "s3://data/clips", "buckets": list(buckets)}}


def test_buckets_are_resolved_in_one_order() -> None:
    """Their list has none: applying it in another order must not make another job."""
    ways = [bucket(25), bucket(25, 720, 1280), bucket(57)]
    world, turned = World(H100, **over(*ways)), World(H100, **over(*ways[::-1]))
    for each in (world, turned):
        each.settle()
        effective = [(b["width"], b["frames"]) for b in each.status["effective"]["buckets"]]
        assert effective == [(1280, 57), (1280, 25), (720, 25)]
    name = "demo-prepare"
    assert world.config_maps[name]["data"] == turned.config_maps[name]["data"]
    job = json.loads(world.config_maps[name]["data"]["job.json"])
    assert job["work"]["dataset"]["buckets"] == world.status["effective"]["buckets"]


def test_memory_is_of_the_largest_bucket_and_time_of_the_clips() -> None:
    runs = (spec(frames=57), spec(frames=25), over(bucket(25), bucket(57)))
    large, small, world = (World(H100, **run) for run in runs)
    plans = []
    for each in (large, small, world):
        each.settle()
        plans.append(each.status["effective"]["plan"])
    assert plans[2] == plans[0], "as long as no clip is counted"
    world.starts()
    counts = {"trainWindows": 4, "trainWindows1280x720x57": 1, "trainWindows1280x720x25": 3}
    world.ends(ExitClass.DONE, summary=counts)
    world.settle()
    plan = world.status["effective"]["plan"]
    assert plan["gpuGib"] == plans[0]["gpuGib"]
    assert plan["secondsPerStep"] == pytest.approx(
        (plans[0]["secondsPerStep"] + 3 * plans[1]["secondsPerStep"]) / 4, abs=0.01
    )
    assert plan["hours"] == pytest.approx(80 * plan["secondsPerStep"] / 3600, abs=0.01)


def test_a_bucket_that_cannot_fit_is_named() -> None:
    world = World(H100, **over(bucket(25), bucket(81)))
    assert refused(world)
    condition = world.condition("Stalled")
    assert condition is not None
    assert condition["message"].startswith(
        "training in the bucket 1280x720x81 needs 90 GiB of GPU memory (88 to 92) and H100-80GB "
        "has 79: it fits with gradientCheckpointing: Offload, or basePrecision: FP8, or "
        "parallelism.gpusPerNode: 2, or at most 65 frames, or buckets without "
        "1280x720x81, or a GPU of type"
    )


def test_no_plan_for_tiny_and_no_times_for_an_unknown_gpu() -> None:
    tiny, unknown = World(), World(SETTINGS, **spec(frames=25))
    tiny.settle()
    unknown.settle()
    assert "plan" not in tiny.status["effective"]
    plan = unknown.status["effective"]["plan"]
    assert (plan["gpu"], plan["gpuGib"]) == ("", 52.5)
    assert not {"secondsPerStep", "hours", "cost", "timeErrorPercent"} & set(plan)


AUTO = {"training": {"gradientCheckpointing": "Auto"}}
SMALL = {"source": "s3://data/clips", "frames": 5, "width": 256, "height": 256}


@pytest.mark.parametrize(
    ("settings", "run", "chosen"),
    [
        (H100, spec(frames=25, **AUTO), "KeepAttention"),
        (H100, spec(**AUTO), "Offload"),
        (H200, spec(**AUTO), "KeepAttention"),
        (
            H200,
            spec(training={"gradientCheckpointing": "Auto", "deterministic": True}),
            "KeepAttention",
        ),
        (H200, spec(method={"lora": {"dropoutPercent": 5}}, **AUTO), "Full"),
        (H200, spec(frames=25, **AUTO, **selecting("NVIDIA-A100-SXM4-80GB")), "Full"),
        (H100, spec(**AUTO) | {"dataset": SMALL}, "None"),
        (H100, spec(**AUTO) | {"dataset": {**SMALL, "width": 576, "height": 512}}, "KeepAttention"),
        (SETTINGS, spec(**AUTO) | {"dataset": SMALL}, "Full"),
        (SETTINGS, AUTO, "None"),
        (H100, spec() | {"dataset": SMALL}, "Full"),
        (H100, spec() | {"dataset": SMALL, "training": {"gradientCheckpointing": "None"}}, "None"),
    ],
)
def test_auto_is_the_fastest_that_surely_fits(
    settings: Any, run: dict[str, Any], chosen: str
) -> None:
    world = World(settings, **run)
    world.settle()
    assert world.status["effective"]["gradientCheckpointing"] == chosen
    job = json.loads(world.config_maps["demo-prepare"]["data"]["job.json"])
    assert job["work"]["training"].get("gradientCheckpointing", "Full") == chosen


def test_only_a_lora_keeps_attention() -> None:
    full = WanFineTuneSpec.model_validate(spec(frames=25, method={"full": {}}, **AUTO))
    assert [work.checkpointing for work in fit.workloads(full, gpu("H200-141GB"))] == ["Full"]


def test_all_weights_on_a_small_gpu_are_told_what_they_take() -> None:
    card = selecting("NVIDIA-GeForce-RTX-4090")
    whole = spec("Wan2.1-I2V-14B-480P", method={"full": {}}, **card)
    whole["dataset"] |= {"width": 832, "height": 480}
    world = World(SETTINGS, **whole)
    assert refused(world)
    condition = world.condition("Stalled")
    assert condition is not None
    assert condition["message"].endswith(
        "RTX-4090-24GB has 24: it fits with parallelism: {gpusPerNode: 2, zeroStage: 3, offload: "
        "OptimizerAndParameters} with 458 GiB of host memory in each node, or "
        "parallelism.gpusPerNode: 8 on GPUs of type L40-48GB. To try it all the same, set the "
        "annotation wan-operator.dev/fit-check: disabled"
    )
    parallelism = {"gpusPerNode": 2, "zeroStage": 3, "offload": "OptimizerAndParameters"}
    assert not refused(World(SETTINGS, **whole, parallelism=parallelism))
    eight = whole | selecting("NVIDIA-L40") | {"parallelism": {"gpusPerNode": 8}}
    assert not refused(World(SETTINGS, **eight))
    world = World(SETTINGS, **whole, resources={"memory": "200Gi"})
    assert refused(world)
    condition = world.condition("Stalled")
    assert condition is not None
    assert "has 24: it fits with parallelism.gpusPerNode: 8 on GPUs" in condition["message"]


def test_host_memory_that_pods_may_not_have_is_said_before_a_gpu_waits_for_it() -> None:
    offload = spec(training={"gradientCheckpointing": "Offload"})
    assert not refused(World(H200, **offload))
    assert not refused(World(H200, **offload, resources={"memory": "96Gi"}))
    world = World(H200, **offload, resources={"memory": "48Gi"})
    assert refused(world)
    condition = world.condition("Stalled")
    assert condition is not None
    assert condition["message"] == (
        "training keeps at least 58 GiB in the host memory of each pod, and spec.resources.memory "
        "is 48Gi: it fits with resources.memory: 96Gi, or no resources.memory. To try it all the "
        "same, set the annotation wan-operator.dev/fit-check: disabled"
    )
    world.cr["metadata"]["annotations"] = {"wan-operator.dev/fit-check": "disabled"}
    assert not refused(world)


def test_auto_keeps_nothing_where_host_memory_is_short() -> None:
    world = World(H200, **spec(**AUTO, resources={"memory": "48Gi"}))
    world.settle()
    assert world.status["effective"]["gradientCheckpointing"] == "Full"


def test_auto_is_the_default() -> None:
    stated = WanFineTuneSpec.model_validate(
        {"model": {"preset": "Wan2.1-I2V-Tiny"}, "dataset": SMALL}
    )
    assert stated.training.gradient_checkpointing == "Auto"


def test_what_auto_became_stays() -> None:
    world = World(H100, **spec(**AUTO) | {"dataset": SMALL})
    world.settle()
    world.settings = SETTINGS
    world.ends(ExitClass.DONE)
    world.settle()
    assert world.status["effective"]["gradientCheckpointing"] == "None"


def test_checkpoints_every_hundred_steps_unless_asked_otherwise() -> None:
    for asked, steps in (({}, 100), ({"checkpoint": {"everySteps": 7}}, 7)):
        world = World(H100, **spec(frames=25, **asked))
        world.settle()
        assert world.status["effective"]["checkpointEverySteps"] == steps
        job = json.loads(world.config_maps["demo-prepare"]["data"]["job.json"])
        assert job["work"]["training"].get("checkpointEvery", 100) == steps
        world.edit(checkpoint={"everySteps": 9})
        world.ends(ExitClass.DONE)
        world.settle()
        assert world.status["effective"]["checkpointEverySteps"] == 9


def test_full_fine_tuning_saves_as_often_as_costs_three_percent() -> None:
    full = WanFineTuneSpec.model_validate(spec(frames=25, method={"full": {}}))
    [work] = fit.workloads(full, gpu("H100-80GB"))
    assert work.method == "full"
    plan = plan_run(work, gpu("H100-80GB"))
    steps = fit.checkpoint_every(full, plan, None)
    assert steps == checkpoint_interval(work.checkpoint_bytes, plan.training.seconds_per_step)
    assert steps > 1000, "197 GB at 0.25 GB/s, 11 s a step"
    assert fit.checkpoint_every(full, plan_run(work, None), None) == 100


def resources(world: World, step: str) -> tuple[str, str, str]:
    """(requested memory, its limit, size of the scratch volume)."""
    world.reach(step)
    spec = world.jobs[world.open_job]["spec"]["template"]["spec"]
    asked = spec["containers"][0]["resources"]
    (scratch,) = (each for each in spec["volumes"] if each["name"] == "cache")
    memory = asked["requests"]["memory"], asked["limits"]["memory"]
    return *memory, scratch["emptyDir"]["sizeLimit"]


def test_pods_ask_for_what_their_step_holds() -> None:
    world = World(H100, **spec("Wan2.2-I2V-A14B", frames=25, validation={"samples": 1}))
    assert resources(world, "prepare") == ("16Gi", "32Gi", "100Gi")
    assert resources(world, "encode") == ("24Gi", "36Gi", "20Gi")
    train, limit, scratch = resources(world, "train-high-noise")
    assert (train, limit) == ("52Gi", "76Gi")
    assert resources(world, "export") == ("12Gi", "20Gi", "30Gi")
    assert resources(world, "sample")[0] == "100Gi", "both transformers and T5 wait in it"
    fetched = spec("Wan2.2-I2V-A14B", frames=25)
    fetched["model"]["source"] = {"s3": "s3://models/wan22"}
    more = resources(World(H100, **fetched), "train-high-noise")[2]
    assert 70 <= int(more[:-2]) - int(scratch[:-2]) <= 90, "57 GB of one expert, and 40 %"
    assert resources(World(H100, **fetched), "encode")[2] == "30Gi", "T5 and the VAE"
    shared = replace(H100, model_cache="models")
    assert resources(World(shared, **fetched), "train-high-noise")[2] == scratch


def test_an_export_of_full_weights_has_room_for_them() -> None:
    full = spec("Wan2.2-I2V-A14B", frames=25, method={"full": {}})
    one = resources(World(**full), "export")[2]
    full["output"] = {"formats": ["DiffSynth", "ComfyUI", "Diffusers"]}
    three = resources(World(**full), "export")[2]
    assert int(three[:-2]) > int(one[:-2]) + 2 * 53, "57 GB more for each of two"


def test_training_has_room_for_the_weights_that_it_starts_from() -> None:
    def scratch(init_from: dict[str, str], method: str = "full") -> int:
        start = {"initFrom": init_from} if init_from else {}
        asked = spec("Wan2.2-I2V-A14B", frames=25, method={method: start})
        return int(resources(World(**asked), "train-high-noise")[2].removesuffix("Gi"))

    fresh = scratch({})
    assert scratch({"uri": "s3://wan/x"}) > fresh + 53, "57 GB in float32, 10 of checkpoints go"
    assert scratch({"highNoise": "s3://wan/x"}) > fresh + 53
    assert scratch({"lowNoise": "s3://wan/x"}) == fresh, "this expert starts from the base model"
    assert scratch({"uri": "s3://wan/x"}, "lora") == scratch({}, "lora"), "less than a checkpoint"


def test_what_the_user_asks_for_wins() -> None:
    overrides = {"memory": "200Gi", "cache": "7Gi"}
    world = World(H100, **spec(frames=25, resources=overrides))
    assert resources(world, "train") == ("200Gi", "200Gi", "7Gi")
