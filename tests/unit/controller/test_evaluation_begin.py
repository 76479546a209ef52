"""How a WanEvaluation begins: fine-tunes that it waits for, edits, what does not fit."""

from __future__ import annotations

from unit.controller.evaluation_world import (
    BASE,
    BUCKET,
    DATASET,
    OTHER,
    RATINGS,
    TUNED,
    EvaluationWorld,
    exported,
)
from wan_runtime.contract.job import ExitClass


def test_what_is_compared_is_written_down_before_anything_starts() -> None:
    world = EvaluationWorld()
    decision = world.look()
    assert not decision.children
    assert decision.requeue_after == 0.0
    assert [each["name"] for each in world.status["effective"]["candidates"]] == ["base", "other"]
    assert "startTime" not in world.status
    world.settle()
    assert world.running == ["collect"]


# -- Fine-tunes


def test_it_waits_for_a_fine_tune_and_takes_what_that_made() -> None:
    world = EvaluationWorld(
        candidates=[BASE, TUNED], clips={"fineTuneRef": {"name": "tune"}}, pricePerGpuHour=2
    )
    world.settle()
    assert world.leading == ("Stalled", "FineTuneNotFound")
    assert "WanFineTune tune does not exist in namespace team" in str(world.status)
    world.finetune(
        progress={"step": "train", "display": "train 40/200", "time": "2026-01-01T00:00:00Z"}
    )
    world.settle()
    assert world.leading == ("Reconciling", "WaitingForFineTune")
    assert "tune is not done: train 40/200" in world.status["conditions"][0]["message"]
    assert "startTime" not in world.status
    world.finetune(**exported())
    world.settle()
    assert world.running == ["collect"]
    effective = world.status["effective"]
    assert [effective[each] for each in ("width", "height", "frames", "fps")] == [128, 96, 9, 8]
    work = world.work_of("collect")
    tuned = work.candidate("tuned")
    assert tuned.weights is not None
    assert tuned.weights.sha256 == "b" * 64
    assert tuned.preset == "Wan2.1-I2V-Tiny"
    assert tuned.training is not None
    assert tuned.training.gpu_seconds == 3600
    assert work.clips.held_out is not None
    assert work.clips.held_out.sha256 == "c" * 64


def test_training_costs_the_gpus_that_each_step_has() -> None:
    """One for each encoding, none to gather their lists, and all that train together."""
    status = exported()
    times = {each: status["steps"][1][each] for each in ("startTime", "completionTime")}
    status["steps"] += [
        {"name": name, "state": "Complete", **times}
        for name in ("encode-part1", "encode-part2", "encode")
    ]
    status["effective"]["parallelism"] = {"nodes": 2, "gpusPerNode": 8, "sequence": 4}
    world = EvaluationWorld(candidates=[BASE, TUNED])
    world.finetune(**status)
    world.settle()
    tuned = world.work_of("collect").candidate("tuned")
    assert tuned.training is not None
    assert tuned.training.gpu_seconds == (16 + 2) * 3600


def test_what_a_fine_tune_made_stays_when_it_is_deleted_or_made_anew() -> None:
    world = EvaluationWorld(candidates=[BASE, TUNED])
    world.finetune(**exported())
    world.settle()
    world.followed.clear()
    world.finish("collect")
    assert "generate-tuned" in world.running
    weights = world.work_of("generate-tuned").candidate("tuned").weights
    assert weights is not None
    assert weights.sha256 == "b" * 64


def test_how_candidates_and_the_noise_floor_are_rendered_reaches_the_pods() -> None:
    by = {"profile": "Fast", "stepCache": "TeaCache", "attention": "SageAttention"}
    world = EvaluationWorld(
        candidates=[{**BASE, "acceleration": by}, {**OTHER, "acceleration": {}}],
        noiseFloor=OTHER["name"],
        noiseFloorRenders=["OtherSeed", "OtherKernels"],
    )
    world.settle()
    work = world.work_of("collect")
    base = work.candidate(BASE["name"])
    assert (base.profile, base.step_cache, base.attention) == ("Fast", "TeaCache", "SageAttention")
    assert work.candidate(OTHER["name"]).attention is None, "Auto is the fastest that is right"
    assert work.noise_floor_renders == ("OtherSeed", "OtherKernels")


def test_pods_that_score_with_networks_have_room_for_them_and_a_gpu_if_wanted() -> None:
    def requests(**spec: object) -> dict[str, str]:
        world = EvaluationWorld(sampling={"frames": 9}, **spec)
        world.settle()
        world.finish("collect")
        world.finish(*world.running)
        assert world.running == ["score"]
        (name,) = world.running_jobs()
        pod = world.jobs[name]["spec"]["template"]["spec"]
        found: dict[str, str] = pod["containers"][0]["resources"]["requests"]
        assert world.work_of("score").metric_weights == spec.get("metricWeights")
        assert world.work_of("score").score_on_gpu == spec.get("scoreOnGpu", False)
        return found

    weights = {"metricWeights": "s3://wan/weights"}
    assert requests()["memory"] == "1536Mi"
    assert requests(**weights)["memory"] == "16Gi"
    assert "nvidia.com/gpu" not in requests(**weights)
    on_gpu = requests(**weights, scoreOnGpu=True)
    assert (on_gpu["memory"], on_gpu["nvidia.com/gpu"]) == ("16Gi", "1")


def test_gpu_hours_count_the_pods_that_measure() -> None:
    def hours(**spec: object) -> object:
        world = EvaluationWorld(
            sampling={"size": {"width": 1280, "height": 720}, "frames": 81},
            clips={**DATASET, "count": 1000},
            podTemplate={"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L40"}},
            metrics=["psnr", "ssim", "lpips"],
            metricWeights="s3://wan/weights",
            **spec,
        )
        world.look()
        return world.status["effective"].get("gpuHours")

    assert hours() is None, "Tiny presets are not planned"
    assert hours(scoreOnGpu=True) == round(2000 * 81 * (0.03 + 0.04) / 4 / 3600, 2)


def test_a_fine_tune_of_a_model_without_tea_cache_waits_for_an_edit() -> None:
    tea = {**TUNED, "acceleration": {"profile": "Fast", "stepCache": "TeaCache"}}
    world = EvaluationWorld(candidates=[BASE, tea])
    world.finetune(**exported())["spec"]["model"]["preset"] = "Wan2.2-I2V-Tiny"
    world.settle()
    assert world.leading == ("Stalled", "FineTuneUnsuitable")
    assert "never fitted for Wan2.2-I2V-Tiny: take EasyCache" in str(world.status)
    world.edit(candidates=[BASE, TUNED])
    world.settle()
    assert world.running == ["collect"]


def test_a_failed_fine_tune_is_named_with_its_reason() -> None:
    world = EvaluationWorld(candidates=[BASE, TUNED])
    failed = {
        "type": "Failed", "status": "True", "reason": "ClipInvalid", "message": "a.mp4 is black",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    world.finetune(conditions=[failed])
    world.settle()
    assert world.leading == ("Stalled", "FineTuneFailed")
    message = world.status["conditions"][0]["message"]
    assert message == "WanFineTune tune has no weights: ClipInvalid: a.mp4 is black"


def test_weights_in_another_store_are_refused() -> None:
    world = EvaluationWorld(candidates=[BASE, TUNED], store={"endpoint": "http://elsewhere"})
    world.finetune(**exported())
    world.settle()
    assert world.leading == ("Stalled", "FineTuneUnsuitable")


def test_all_that_is_waited_for_is_named() -> None:
    second = {"name": "second", "fineTuneRef": {"name": "later"}}
    world = EvaluationWorld(candidates=[TUNED, second])
    world.finetune()
    world.settle()
    assert world.leading == ("Stalled", "FineTuneNotFound")
    message = world.status["conditions"][0]["message"]
    assert "later does not exist" in message
    assert "tune is not done: not started" in message


# -- Edits


def test_wrong_input_is_waited_for_before_a_candidate_is_at_work() -> None:
    world = EvaluationWorld()
    world.settle()
    world.end("collect", ExitClass.INPUT, "no clip is left")
    world.settle()
    assert world.leading == ("Stalled", "ClipInvalid")
    world.passes(80)
    world.settle()
    assert world.running == ["collect"]
    world.finish("collect")
    assert "generate-base" in world.running


def test_an_edit_before_a_candidate_is_at_work_starts_over() -> None:
    world = EvaluationWorld()
    world.settle()
    world.end("collect", ExitClass.INPUT, "no such folder")
    world.settle()
    world.edit(clips={"dataset": {"source": "s3://data/other"}}, candidates=[BASE])
    world.settle()
    assert world.running == ["collect"]
    assert "compare-collect-2" in world.running_jobs()
    dataset = world.work_of("collect").clips.dataset
    assert dataset is not None
    assert dataset.source == "s3://data/other"
    assert [each["name"] for each in world.status["effective"]["candidates"]] == ["base"]
    assert [each["name"] for each in world.status["steps"]] == [
        "collect", "generate-base", "score", "compare",
    ]  # fmt: skip
    world.compare()
    assert world.is_true("Complete")


def test_from_then_on_the_fields_are_fixed_by_the_time_in_the_status() -> None:
    world = EvaluationWorld(ratings=RATINGS)
    world.settle()
    assert "comparingSince" not in world.status
    world.finish("collect")
    world.settle()
    assert world.status["comparingSince"] == "2026-11-22T12:00:00Z"
    world.edit(ratings={**RATINGS, "deadlineSeconds": 60})
    world.settle()
    assert world.running == ["generate-base", "generate-other"], "that starts nothing over"


def test_an_edit_of_the_deadline_starts_nothing_over() -> None:
    world = EvaluationWorld(ratings=RATINGS)
    world.settle()
    world.starts()
    world.edit(ratings={**RATINGS, "deadlineSeconds": 60})
    world.settle()
    assert world.running_jobs() == ["compare-collect-1"]


def test_what_is_waited_for_is_an_event_once() -> None:
    world = EvaluationWorld(candidates=[BASE, TUNED])
    world.settle()
    world.finetune()
    world.settle()
    world.finetune(
        progress={"step": "train", "display": "train 40/200", "time": "2026-01-01T00:00:00Z"}
    )
    world.settle()
    assert "train 40/200" in world.status["conditions"][0]["message"]
    assert [each.reason for each in world.events] == ["FineTuneNotFound", "WaitingForFineTune"]


def test_videos_that_do_not_fit_are_refused_before_anything_starts() -> None:
    model = {"preset": "Wan2.2-I2V-A14B", "source": BUCKET}
    world = EvaluationWorld(
        candidates=[BASE, {"name": "large", "model": model}],
        podTemplate={"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L40"}},
        sampling={"size": {"width": 1920, "height": 1088}, "frames": 241, "fps": 16},
    )
    world.settle()
    assert world.leading == ("Stalled", "DoesNotFit")
    message = world.status["conditions"][0]["message"]
    assert "candidate large of 1920x1088 and 241 frames needs" in message
    assert not world.created
    world.edit(candidates=[BASE, OTHER])
    world.settle()
    assert world.running == ["collect"]
