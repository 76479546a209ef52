"""`kubectl wan plan` of a WanInferenceService."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from wan_runtime.planner.gpus import DEFAULTS, by_name
from wan_runtime.planner.serving import plan_serving
from wan_runtime.planner.workload import Serving

EXAMPLES = Path(__file__).parents[2] / "examples"
H100 = "NVIDIA-H100-80GB-HBM3"
EXACT = {"acceleration": {"profile": "Exact"}}
pytest_plugins = ["plan_fixtures"]
Plan = Callable[..., tuple[int, str, str]]


def service(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "wan-operator.dev/v1alpha1",
        "kind": "WanInferenceService",
        "metadata": {"name": "videos"},
        "spec": {
            "model": {"preset": "Wan2.2-I2V-A14B", "source": {"s3": "s3://models/wan"}},
            "workers": {"podTemplate": {"nodeSelector": {"nvidia.com/gpu.product": H100}}},
            "gateway": {"keysSecretRef": {"name": "keys"}},
            **spec,
        },
    }


def one(plan: Plan, *arguments: str, **spec: Any) -> dict[str, Any]:
    _, out, _ = plan("-o", "json", *arguments, of=[service(**spec)])
    [found] = json.loads(out)
    assert isinstance(found, dict)
    return found


def test_the_numbers_are_the_planners(plan: Plan) -> None:
    gpu = by_name("H100-80GB", DEFAULTS)
    assert gpu is not None
    wanted = Serving(preset="Wan2.2-I2V-A14B", frames=81, width=1280, height=720, steps=40)
    known = plan_serving(wanted, gpu)
    told = one(plan)
    assert told["gpuGib"] == pytest.approx(known.gib, abs=0.01)
    assert told["secondsPerVideo"] == pytest.approx(known.seconds_per_clip, abs=0.01)
    assert told["videosPerHour"] == pytest.approx(3600 / known.seconds_per_clip, abs=0.01)
    cost = known.seconds_per_clip / 3600 * gpu.price_per_hour
    assert told["cost"] == pytest.approx(cost, abs=0.01)
    assert told["longest"]["frames"] == 121
    assert told["longest"]["secondsPerVideo"] > told["secondsPerVideo"]
    for total, terms in (
        ("gpuGib", "gpuGibTerms"), ("secondsPerVideo", "secondsTerms"),
        ("hostGib", "hostGibTerms"), ("scratchGib", "scratchGibTerms"),
    ):  # fmt: skip
        assert sum(told[terms].values()) == pytest.approx(told[total], abs=0.1)


def test_steps_that_a_profile_leaves_out_take_no_time(plan: Plan) -> None:
    all_of_them = one(plan)["secondsTerms"]["transformer"]
    lossless = all_of_them / 80
    # As the passes of the profiles were measured.
    for by, share in (
        ({"profile": "Balanced"}, 20 / 40 * 8.197 / lossless),
        ({"profile": "Fast"}, 16 / 40 * 7.275 / lossless),
        ({"profile": "Fast", "stepCache": "EasyCache"}, 7.275 / lossless),
    ):
        told = one(plan, acceleration=by)
        wanted = all_of_them * share
        assert told["secondsTerms"]["transformer"] == pytest.approx(wanted, abs=0.02), by
        assert told["longest"]["secondsPerVideo"] == one(plan)["longest"]["secondsPerVideo"]
    _, out, _ = plan(of=[service(acceleration={"profile": "Fast"})])
    assert "40 steps, 16 of them computed, guided" in out


def test_guidance_of_one_expert_is_guidance(plan: Plan) -> None:
    both = one(plan)["secondsTerms"]["transformer"]
    lone = {"guidance": 1, "guidanceLow": 3.5}
    assert one(plan, defaults=lone)["secondsTerms"]["transformer"] == both
    assert one(plan, defaults={"guidance": 1})["secondsTerms"]["transformer"] < 0.6 * both


def test_of_several_gpus_each_costs(plan: Plan) -> None:
    alone = one(plan, "--gpu", "H100-80GB", workers={"gpus": 1})
    both = one(plan, "--gpu", "H100-80GB", workers={"gpus": 2})
    assert both["videosPerHour"] > 1.5 * alone["videosPerHour"]
    faster = alone["secondsPerVideo"] / both["secondsPerVideo"]
    assert both["cost"] == pytest.approx(2 * alone["cost"] / faster, abs=0.02)


@pytest.mark.parametrize("name", ["ring-of-native", "one-gpu-xdit", "tiny-heads"])
def test_a_layout_that_the_api_server_refuses_is_not_planned(name: str, plan: Plan) -> None:
    text = (EXAMPLES / f"invalid/inference/{name}.yaml").read_text()
    said, field = re.findall(r"^# (?:refused|field): (.*)$", text, re.MULTILINE)
    status, _, error = plan(of=text)
    assert status == 2
    assert field in error
    assert said in error


def test_every_layout_is_planned_or_refused(plan: Plan) -> None:
    for gpus, ring in product((2, 4, 8), (1, 2, 4)):
        backend = {"backend": "xDiT", "ring": ring}
        spec: dict[str, Any] = {"workers": {"gpus": gpus}, "parallelism": backend}
        status, out, error = plan("-o", "json", "--gpu", "H200-141GB", of=[service(**spec)])
        if 2 * ring > gpus:
            assert status == 2
            assert f"half of workers.gpus, {gpus}, which" in error
            continue
        [told] = json.loads(out)
        assert told["fits"] == "yes"
        assert ("exchange of tokens" in told["secondsTerms"]) == (gpus > 2)
    exact = {"workers": {"gpus": 8}, "parallelism": {"backend": "xDiT", "ring": 2}, **EXACT}
    assert "a ring rounds otherwise than one GPU" in plan(of=[service(**exact)])[2]
    tiny = {"model": {"preset": "Wan2.2-I2V-Tiny"}, **exact, "acceleration": {}}
    assert plan(of=[service(**tiny)])[0] == 0, "4 heads, of which each ring's 4 GPUs take one"


def test_the_services_own_price_wins(plan: Plan) -> None:
    assert one(plan, pricePerHour=30)["cost"] == pytest.approx(10 * one(plan)["cost"], rel=0.02)


def test_what_does_not_fit_says_what_would(plan: Plan) -> None:
    large = service(defaults={"frames": 241}, limits={"frames": 241}, **EXACT)
    status, out, _ = plan("--gpu", "A100-40GB", of=[large])
    assert status == 1
    assert re.search(r"^fits +no: the operator refuses it$", out, re.MULTILINE)
    fix, same = re.findall(r"^  fits with +(.*)$", out, re.MULTILINE)
    assert fix == same, "the longest is this one"
    found = re.fullmatch(r"(\d+) frames, or a GPU of type (.*)", fix)
    assert found is not None, fix
    frames = {"frames": int(found[1])}
    shorter = service(defaults=frames, limits=frames, **EXACT)
    assert plan("--gpu", "A100-40GB", of=[shorter])[0] == 0
    assert plan("--gpu", found[2], of=[large])[0] == 0
    smaller = service(defaults={"frames": 121}, **EXACT)
    _, out, _ = plan("--gpu", "A100-40GB", of=[smaller])
    profile = "acceleration.profile: Lossless"  # which streams what Exact cannot
    fix = rf"^  fits with +{profile}, or \d+ frames, or 832x480, or a GPU of type"
    assert re.search(fix, out, re.MULTILINE)
    faster = service(defaults={"frames": 121})
    assert plan("--gpu", "A100-40GB", of=[faster])[0] == 0
    smaller["spec"]["sizes"] = [{"width": 832, "height": 480}]
    assert plan("--gpu", "A100-40GB", of=[smaller])[0] == 0


def test_the_longest_video_is_told_if_it_does_not_fit(plan: Plan) -> None:
    status, out, _ = plan("--gpu", "A100-40GB", of=[service(limits={"frames": 241}, **EXACT)])
    assert status == 1
    assert re.search(r"^longest +241 frames of 1280x720: .* GiB, fits: no, ", out, re.MULTILINE)
    [fix] = re.findall(r"^  fits with +(\d+) frames, or a GPU of type", out, re.MULTILINE)
    shorter = service(limits={"frames": int(fix)}, **EXACT)
    status, out, _ = plan("--gpu", "A100-40GB", of=[shorter])
    assert (status, "fits with" in out) == (0, False)


def test_what_fills_a_gpu_is_streamed_unless_exact(plan: Plan) -> None:
    streamed, resident = (
        one(plan, "--gpu", "A100-40GB", **spec)["gpuGibTerms"] for spec in ({}, EXACT)
    )
    assert streamed["base weights"] + streamed["streamed blocks"] < 4
    assert resident["base weights"] > 26
    assert "streamed blocks" not in resident
    assert "streamed blocks" not in one(plan, "--gpu", "H200-141GB")["gpuGibTerms"]
    assert plan("--gpu", "L4-24GB", of=[service()])[0] == 0


def test_time_from_zero_is_not_made_up(plan: Plan) -> None:
    _, out, _ = plan(of=[service()])
    assert re.search(r"^from zero +unknown until a worker has started", out, re.MULTILINE)
    assert one(plan)["secondsFromZero"] is None


def test_all_of_the_catalogue_side_by_side(plan: Plan) -> None:
    status, out, _ = plan("--compare", of=[service()])
    assert status == 0
    lines = [line.split() for line in out.splitlines()[2:]]
    assert {line[0] for line in lines} == {gpu.name for gpu in DEFAULTS}
    fitting = [line for line in lines if line[3] in ("yes", "barely")]
    assert lines[: len(fitting)] == fitting
    costs = [float(line[7]) for line in fitting]
    assert costs == sorted(costs)
    unknown = service(workers={})
    assert plan(of=[unknown])[1] == out, "so is one whose GPU is not known"


def test_a_tiny_preset_is_not_planned(plan: Plan) -> None:
    tiny = service(model={"preset": "Wan2.2-I2V-Tiny"})
    for arguments in ((), ("--compare",)):
        status, out, _ = plan(*arguments, of=[tiny])
        assert status == 0
        text = "WanInferenceService videos: Wan2.2-I2V-Tiny fits everywhere and is not planned"
        assert out.strip() == text


def test_both_kinds_in_one_file(plan: Plan) -> None:
    finetune = yaml.safe_load((EXAMPLES / "finetune-anime-fairy.yaml").read_text())
    effects = yaml.safe_load((EXAMPLES / "inference-effects.yaml").read_text())
    status, out, _ = plan("-o", "json", of=[effects, finetune])
    assert status == 0
    assert [row["kind"] for row in json.loads(out)] == ["WanInferenceService", "WanFineTune"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"limit": {}}, '(WanInferenceService videos): unknown field "spec.limit"'),
        ({"workers": {"gpus": 9}}, "spec.workers.gpus: must be at most 8, not 9"),
        ({"gateway": {}}, "spec.gateway.keysSecretRef: is missing"),
        ({"defaults": {"frames": 80}}, "spec.defaults.frames: must be 4n+1"),
        ({"sizes": [{"width": 1000, "height": 720}]}, "width"),
    ],
)
def test_bad_input_names_the_field(plan: Plan, spec: dict[str, Any], message: str) -> None:
    status, out, error = plan(of=[service(**spec)])
    assert (status, out) == (2, "")
    assert message in error
