"""Adapters that fix the schedule of a video."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from unit.serving.test_orders import made, service
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.presets import PRESETS
from wan_runtime.rendering.sampling import schedule_of
from wan_runtime.serving.problems import Code, Refusal


def turbo(name: str = "turbo", steps: int = 4, shift: float = 5.0) -> dict[str, Any]:
    return {
        "name": name,
        "files": {"HighNoise": "s3://wan/high", "LowNoise": "s3://wan/low"},
        "distilled": {"steps": steps, "shift": shift},
    }


def distilled(*more: dict[str, Any], **change: Any) -> ServiceSpec:
    plain = {"name": "film", "files": {"HighNoise": "s3://wan/film.safetensors"}}
    return service(**{"adapters": [turbo(), *more, plain], "effects": [], **change})


WITH = {"adapters": [{"name": "turbo"}]}


def test_the_adapter_decides_steps_shift_and_guidance() -> None:
    spec = distilled(defaults={"steps": 30, "guidance": 6, "guidance_low": 4, "shift": 3})
    order = made(WITH, spec)
    assert (order.steps, order.shift, order.guidance, order.guidance_low) == (4, 5, 1, 1)
    preset = PRESETS["Wan2.2-I2V-A14B"]
    assert not order.guided, "one pass a step"
    found = [(round(step.sigma, 4), str(step.expert)) for step in schedule_of(preset, order)]
    high, low = (str(each) for each in preset.experts)
    assert found == [(1.0, high), (0.9375, high), (0.8333, low), (0.625, low)]
    other = made({"adapters": [{"name": "film"}]}, spec)
    assert (other.steps, other.shift, other.guidance) == (30, 3, 6)


def test_an_effect_has_its_adapters_schedule() -> None:
    effect = {"name": "quick", "adapters": [{"name": "turbo", "strength": 0.8}]}
    order = made({"model": "quick"}, distilled(effects=[effect]))
    assert (order.steps, order.guidance, order.adapters[0].strength) == (4, 1, 0.8)


def test_what_says_the_same_is_taken() -> None:
    same = {"steps": 4, "guidance": 1, "guidance_low": 1, "negative_prompt": ""}
    assert made(WITH | same, distilled()).steps == 4


@pytest.mark.parametrize(
    ("fields", "param", "text"),
    [
        ({"steps": 30}, "steps", "30 contradicts adapter turbo, which was distilled for 4"),
        ({"num_inference_steps": 8}, "num_inference_steps", "8 contradicts adapter turbo"),
        ({"guidance": 3.5}, "guidance", "3.5 contradicts adapter turbo, which was distilled for 1"),
        ({"guidance_low": 2}, "guidance_low", "2 contradicts adapter turbo"),
        ({"negative_prompt": "blur"}, "negative_prompt", "turbo was distilled to work without"),
        (
            {"adapters": [{"name": "turbo"}, {"name": "other"}]},
            "adapters",
            "turbo was distilled for 4 steps with shift 5, other for 8 steps with shift 3: use one",
        ),
        ({"model": "slow"}, "adapters", "steps 4, and effect slow has 20: leave the adapter out"),
        ({"model": "clean"}, "adapters", "without a negative prompt, and effect clean has one"),
    ],
)
def test_what_contradicts_the_schedule_is_refused(
    fields: dict[str, Any], param: str, text: str
) -> None:
    effects = [
        {"name": "slow", "sampling": {"steps": 20}},
        {"name": "clean", "sampling": {"negative_prompt": "blurry"}},
    ]
    with pytest.raises(Refusal) as refused:
        made(WITH | fields, distilled(turbo("other", 8, 3.0), effects=effects))
    assert (refused.value.code, refused.value.param) == (Code.INVALID_REQUEST, param)
    assert text in refused.value.message


@pytest.mark.parametrize(
    ("uses", "missing"),
    [
        ([{"name": "turbo", "expert": "high_noise"}], "none is on LowNoise here"),
        ([{"name": "upper"}], "none is on LowNoise here"),
        ([{"name": "turbo", "strength": 0}], "none is on HighNoise here"),
    ],
)
def test_each_transformer_needs_one(uses: list[dict[str, Any]], missing: str) -> None:
    upper = turbo("upper") | {"files": {"HighNoise": "s3://wan/high"}}
    with pytest.raises(Refusal) as refused:
        made({"adapters": uses}, distilled(upper))
    assert f"was distilled for 4 steps with shift 5, and {missing}" in refused.value.message
    lower = {"name": "turbo", "expert": "low_noise"}
    assert made({"adapters": [{"name": "upper"}, lower]}, distilled(upper)).steps == 4


def test_one_that_does_nothing_decides_nothing() -> None:
    quick = turbo() | {"files": {"Only": "s3://wan/turbo.safetensors"}}
    spec = service("Wan2.1-I2V-14B-720P", adapters=[quick], effects=[])
    assert made(WITH, spec).steps == 4
    with pytest.raises(Refusal, match="it has strength 0"):
        made({"adapters": [{"name": "turbo", "strength": 0}]}, spec)


def test_two_of_one_schedule_work_together() -> None:
    both = {"adapters": [{"name": "turbo"}, {"name": "other"}]}
    assert made(both, distilled(turbo("other"))).steps == 4


@pytest.mark.parametrize("wrong", [{"steps": 0, "shift": 5}, {"steps": 4, "shift": 0}])
def test_a_schedule_that_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        service(adapters=[turbo() | {"distilled": wrong}], effects=[])
