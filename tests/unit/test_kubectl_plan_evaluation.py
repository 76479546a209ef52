"""`kubectl wan plan` of a WanEvaluation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from wan_runtime.planner.gpus import DEFAULTS, by_name
from wan_runtime.planner.serving import plan_serving
from wan_runtime.planner.workload import Serving

H100 = "NVIDIA-H100-80GB-HBM3"
WAN21 = {"preset": "Wan2.1-I2V-14B-480P", "source": {"s3": "s3://models/wan21"}}
HELD_OUT = {"fineTuneRef": {"name": "tune"}}
pytest_plugins = ["plan_fixtures"]
Plan = Callable[..., tuple[int, str, str]]


def evaluation(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "wan-operator.dev/v1alpha1",
        "kind": "WanEvaluation",
        "metadata": {"name": "compare"},
        "spec": {
            "candidates": [
                {"name": "base", "model": WAN21},
                {"name": "tuned", "fineTuneRef": {"name": "tune"}},
                {"name": "old", "videos": "s3://wan/old"},
            ],
            "clips": {"fineTuneRef": {"name": "tune"}, "count": 10},
            "sampling": {"steps": 20},
            "noiseFloor": "tuned",
            "podTemplate": {"nodeSelector": {"nvidia.com/gpu.product": H100}},
            **spec,
        },
    }


TUNE = {
    "apiVersion": "wan-operator.dev/v1alpha1",
    "kind": "WanFineTune",
    "metadata": {"name": "tune"},
    "spec": {
        "model": WAN21,
        "dataset": {"source": "s3://wan/data", "width": 832, "height": 480, "frames": 49},
        "podTemplate": {"nodeSelector": {"nvidia.com/gpu.product": H100}},
    },
}


def test_the_numbers_are_the_planners_and_the_size_is_the_fine_tunes(plan: Plan) -> None:
    status, out, _ = plan("-o", "json", of=[TUNE, evaluation()])
    assert status == 0
    found = json.loads(out)[1]
    assert [found[each] for each in ("width", "height", "frames")] == [832, 480, 49]
    gpu = by_name("H100-80GB", DEFAULTS)
    assert gpu is not None
    work = Serving(preset=WAN21["preset"], frames=49, width=832, height=480, steps=20)  # type: ignore[arg-type]
    video = plan_serving(work, gpu)
    base, tuned, old = found["candidates"]
    assert base["gpuGib"] == tuned["gpuGib"] == round(video.gib, 2)
    assert base["secondsPerVideo"] == round(video.seconds_per_clip, 2)
    assert (base["videos"], tuned["videos"]) == (10, 20), "the noise floor is one render more"
    assert old["preset"] is old["gpuGib"] is None
    hours = 30 * video.seconds_per_clip / 3600
    assert found["gpuHours"] == round(hours, 2)
    assert found["cost"] == round(hours * gpu.price_per_hour, 2)
    assert found["steps"] == [
        "collect", "import-base", "generate-base", "generate-tuned", "generate-old", "score",
        "compare",
    ]  # fmt: skip


def test_pods_that_measure_on_a_gpu_hold_it(plan: Plan) -> None:
    def planned(**spec: Any) -> dict[str, Any]:
        made = evaluation(**spec)
        if "candidates" in spec:
            del made["spec"]["noiseFloor"]
        found: dict[str, Any] = json.loads(plan("-o", "json", of=[TUNE, made])[1])[1]
        return found

    clips = {**HELD_OUT, "count": 1000}
    metrics = {
        "metrics": ["psnr", "vmaf"], "metricWeights": "s3://wan/weights", "clips": clips,
        "decision": {"metric": "vmaf"},
    }  # fmt: skip
    more = planned(**metrics, scoreOnGpu=True)["gpuHours"] - planned(**metrics)["gpuHours"]
    videos, pixels = 4000, 49 * 832 * 480 / (1280 * 720)
    assert more == pytest.approx(videos * pixels * (0.03 + 0.16) / 4 / 3600, abs=0.02)
    assert more > 0
    assert planned(**metrics, scoreOnGpu=True)["unmeasuredMetrics"] == []
    ready = [{"name": "old", "videos": "s3://wan/old"}]
    alone = planned(**metrics, scoreOnGpu=True, candidates=ready)
    assert alone["gpuHours"] == pytest.approx(more / 4, abs=0.02)
    assert planned(**metrics, candidates=ready)["gpuHours"] is None


def test_networks_whose_time_was_not_measured_are_named(plan: Plan) -> None:
    weighed = {
        "metrics": ["psnr", "ssim", "lpips", "vbench_dynamic_degree"],
        "metricWeights": "s3://wan/weights",
    }
    made = evaluation(**weighed, scoreOnGpu=True)
    _, out, _ = plan(of=[TUNE, made])
    assert re.search(
        r"^  score +0\.\d\d GPU-hours, without the networks of lpips, vbench_dynamic_degree: not "
        r"measured$",
        out,
        re.MULTILINE,
    )
    _, out, _ = plan("--compare", of=made)
    assert out.endswith("networks of lpips, vbench_dynamic_degree, which was not measured\n")
    assert "networks" not in plan(of=[TUNE, evaluation(**weighed)])[1], "on CPUs"


def test_a_candidate_that_fills_a_gpu_is_streamed_unless_exact(plan: Plan) -> None:
    small = evaluation(
        candidates=[
            {"name": "usual", "model": WAN21},
            {"name": "exact", "model": WAN21, "acceleration": {"profile": "Exact"}},
        ],
        noiseFloor="usual",
        podTemplate={"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}},
    )
    usual, exact = json.loads(plan("-o", "json", of=[TUNE, small])[1])[1]["candidates"]
    assert usual["gpuGib"] < exact["gpuGib"] - 25
    small["spec"]["noiseFloorRenders"] = ["OtherSeed", "OtherKernels"]
    usual, _ = json.loads(plan("-o", "json", of=[TUNE, small])[1])[1]["candidates"]
    assert usual["gpuGib"] == exact["gpuGib"], "one of its renders is Exact"


def test_steps_that_a_profile_leaves_out_take_no_time(plan: Plan) -> None:
    fast = {"profile": "Fast"}
    some = evaluation(
        candidates=[
            {"name": "usual", "model": WAN21},
            {"name": "fast", "model": WAN21, "acceleration": fast},
            {"name": "guessed", "model": WAN21, "acceleration": {**fast, "stepCache": "TeaCache"}},
        ],
        noiseFloor="usual",
        sampling={"steps": 40},
    )
    usual, spaced, guessed = json.loads(plan("-o", "json", of=[TUNE, some])[1])[1]["candidates"]
    assert spaced["secondsPerVideo"] < 0.45 * guessed["secondsPerVideo"]
    assert guessed["secondsPerVideo"] < 0.77 * usual["secondsPerVideo"], "of arithmetic alone"
    assert "10 videos of 40 steps, 16 of them computed:" in plan(of=[TUNE, some])[1]


def test_the_render_that_is_exact_streams_no_weights(plan: Plan) -> None:
    large = evaluation(
        candidates=[
            {"name": "usual", "model": WAN21},
            {"name": "exact", "model": WAN21, "acceleration": {"profile": "Exact"}},
        ],
        noiseFloor="usual",
        podTemplate={"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L40S"}},
    )
    usual, exact = json.loads(plan("-o", "json", of=[TUNE, large])[1])[1]["candidates"]
    assert usual["gpuGib"] < exact["gpuGib"] - 20
    large["spec"]["noiseFloorRenders"] = ["OtherKernels"]
    usual, _ = json.loads(plan("-o", "json", of=[TUNE, large])[1])[1]["candidates"]
    assert usual["gpuGib"] == exact["gpuGib"], "the other of its renders is Exact"


def test_what_the_clips_can_tell_is_said_before_they_are_rendered(plan: Plan) -> None:
    _, out, _ = plan(of=[TUNE, evaluation(clips={**HELD_OUT, "count": 16})])
    assert "0.96 of its deviation from clip to clip, in 95 of 100 evaluations; half" in out
    assert "with 59 clips" in out
    _, out, _ = plan(of=[TUNE, evaluation(clips={**HELD_OUT, "count": 5})])
    assert "nothing: fewer than 8 clips give no winner" in out


def test_each_render_of_the_noise_floor_is_counted(plan: Plan) -> None:
    floor = {"noiseFloorRenders": ["OtherSeed", "OtherKernels"]}
    status, out, _ = plan("-o", "json", of=[TUNE, evaluation(**floor)])
    assert status == 0
    assert [each["videos"] for each in json.loads(out)[1]["candidates"][:2]] == [10, 30]


def test_a_fine_tune_that_no_file_has_is_named(plan: Plan) -> None:
    status, out, _ = plan(of=[evaluation()])
    assert status == 0
    assert "tune: give the files of these fine-tunes too" in out
    assert "known with its fine-tune" in out


def test_what_does_not_fit_is_said_with_what_would(plan: Plan) -> None:
    large = {"size": {"width": 1920, "height": 1088}, "frames": 241}
    status, out, _ = plan("--gpu", "L40-48GB", of=[TUNE, evaluation(sampling=large)])
    assert status == 1
    assert "no: the operator refuses it" in out
    assert "fits with" in out


def test_types_are_compared(plan: Plan) -> None:
    status, out, _ = plan("--compare", of=[evaluation(pricePerGpuHour=1)])
    assert status == 0
    assert out.splitlines()[1].split()[:6] == ["GPU", "HAS", "NEEDS", "FITS", "GPU-HOURS", "COST"]
    assert len(out.splitlines()) == 2 + len(DEFAULTS)


def test_a_candidate_of_two_sources_is_a_mistake(plan: Plan) -> None:
    twice = [{"name": "x", "model": WAN21, "videos": "s3://wan/old"}]
    status, _, error = plan(of=[evaluation(candidates=twice, noiseFloor=None)])
    assert status == 2
    wanted = "set exactly one of model, fineTuneRef, serviceRef and videos"
    assert f"spec.candidates[0]: {wanted}" in error
