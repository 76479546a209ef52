"""From a request to an order."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from wan_runtime.contract.service import ServiceSpec
from wan_runtime.presets import NEGATIVE_PROMPT
from wan_runtime.rendering.order import VideoOrder
from wan_runtime.serving.gateway.resolve import order_of
from wan_runtime.serving.gateway.video_request import Ask, checked
from wan_runtime.serving.problems import Code, Refusal

SHA = "0" * 64


def service(preset: str = "Wan2.2-I2V-A14B", **change: Any) -> ServiceSpec:
    return ServiceSpec.model_validate(
        {
            "namespace": "media",
            "name": "studio",
            "uid": "0f9e8d7c-0000-4000-8000-000000000000",
            "model": {"preset": preset},
            "store": {"endpoint": "http://store:9000", "bucket": "wan", "prefix": "team"},
            "sizes": [{"width": 832, "height": 480}, {"width": 480, "height": 832}],
            "adapters": [
                {"name": "fairy", "artifact": {"uri": "s3://wan/a/manifest.json", "sha256": SHA},
                 "strength": 0.8},
                {"name": "film", "files": {"HighNoise": "s3://wan/film.safetensors"}},
            ],
            "effects": [
                {"name": "anime-fairy", "adapters": [{"name": "fairy"}],
                 "prompt": "anime fairy style, {prompt}",
                 "sampling": {"steps": 20, "guidance": 4.0, "negative_prompt": "blurry"}},
            ],
            **change,
        }
    )  # fmt: skip


def made(change: dict[str, Any], spec: ServiceSpec | None = None) -> VideoOrder:
    fields = {"prompt": "a cat walks", **change}
    return order_of(checked(Ask, fields), spec or service())


def test_defaults_are_the_presets() -> None:
    order = made({})
    assert (str(order.size), order.frames, order.fps) == ("832x480", 81, 16)
    assert (order.steps, order.guidance, order.guidance_low, order.shift) == (40, 3.5, 3.5, 5.0)
    assert (order.negative_prompt, order.model) == (NEGATIVE_PROMPT, "studio")
    assert made({}).seed != order.seed, "a random one each time"


def test_the_service_goes_before_the_preset_and_the_request_before_both() -> None:
    spec = service(defaults={"steps": 30, "fps": 15, "size": {"width": 480, "height": 832}})
    assert (made({}, spec).steps, made({}, spec).fps, str(made({}, spec).size)) == (
        30, 15, "480x832",
    )  # fmt: skip
    order = made({"steps": 12, "fps": 24, "size": "832x480", "seed": 7}, spec)
    assert (order.steps, order.fps, str(order.size), order.seed) == (12, 24, "832x480", 7)


def test_an_effect_brings_adapters_words_and_settings() -> None:
    order = made({"model": "anime-fairy"})
    assert order.prompt == "anime fairy style, a cat walks"
    assert (order.steps, order.guidance, order.guidance_low) == (20, 4.0, 4.0)
    assert (order.negative_prompt, order.model) == ("blurry", "anime-fairy")
    assert [(use.name, use.strength) for use in order.adapters] == [("fairy", 0.8)]
    assert made({"model": "anime-fairy", "prompt": ""}).prompt == "anime fairy style,"
    assert made({"model": "anime-fairy", "steps": 8, "negative_prompt": ""}).steps == 8
    assert made({"model": "anime-fairy", "negative_prompt": ""}).negative_prompt == ""


@pytest.mark.parametrize("name", ["studio", "Wan2.2-I2V-A14B"])
def test_names_of_the_base_model(name: str) -> None:
    assert made({"model": name}).model == "studio"


@pytest.mark.parametrize(
    ("seconds", "fps", "frames"),
    [(5, 16, 81), (4, 16, 65), (1, 15, 17), (0.1, 16, 5), (7.5, 16, 121)],
)
def test_seconds_become_frames(seconds: float, fps: float, frames: int) -> None:
    assert made({"seconds": seconds, "fps": fps}).frames == frames


def test_two_guidance_values() -> None:
    order = made({"guidance": 5, "guidance_low": 2})
    assert (order.guidance, order.guidance_low) == (5, 2)
    assert made({"guidance": 5}).guidance_low == 5
    assert made({"guidance_low": 2}).guidance == 3.5


def test_adapters_of_the_request_come_after_the_effects() -> None:
    order = made(
        {
            "model": "anime-fairy",
            "adapters": [{"name": "film", "strength": 0.5, "expert": "high_noise"}],
        }
    )
    assert [(use.name, use.strength, use.expert) for use in order.adapters] == [
        ("fairy", 0.8, None), ("film", 0.5, "HighNoise"),
    ]  # fmt: skip


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "size": ({"size": "64x64"}, "size", "832x480, 480x832"),
    "size form": ({"size": "large"}, "size", "must have the form"),
    "model": ({"model": "sora-2"}, "model", "studio, anime-fairy"),
    "frames": ({"frames": 20}, "frames", "21"),
    "too many frames": ({"frames": 125}, "frames", "121"),
    "seconds": ({"seconds": 30}, "seconds", "121"),
    "both": ({"frames": 17, "seconds": 1}, "frames", "not both"),
    "negative steps": ({"steps": -1}, "steps", "must be at least 1, not -1"),
    "no prompt": ({"prompt": "  "}, "prompt", "empty"),
    "long prompt": ({"prompt": "a" * 2001}, "prompt", "2001"),
    "seed": ({"seed": -1}, "seed", "at least 0"),
    "guidance": ({"guidance": float("nan")}, "guidance", "finite"),
    "adapter": ({"adapters": [{"name": "ghost"}]}, "adapters", "fairy, film"),
    "strength": (
        {"adapters": [{"name": "fairy", "strength": 9}]},
        "adapters[0].strength",
        "at most 4",
    ),
    "unknown field": ({"cfg": 3}, "cfg", "there is no such field"),
    "text": ({"steps": "many"}, "steps", "a whole number, not"),
    "quality": ({"quality": "fast"}, "quality", "lossless"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    change, param, text = REFUSED[name]
    with pytest.raises(Refusal) as caught:
        made(change)
    assert (caught.value.code, caught.value.param) == (Code.INVALID_REQUEST, param)
    assert text in caught.value.message


def test_wan21_has_one_guidance_and_no_experts() -> None:
    spec = service("Wan2.1-I2V-14B-720P")
    with pytest.raises(Refusal, match="one expert"):
        made({"guidance_low": 2}, spec)
    with pytest.raises(Refusal, match="no such expert"):
        made({"adapters": [{"name": "fairy", "expert": "low_noise"}]}, spec)


def test_a_service_that_does_not_add_up() -> None:
    with pytest.raises(ValidationError, match="uses adapter ghost"):
        service(effects=[{"name": "x", "adapters": [{"name": "ghost"}]}])
    with pytest.raises(ValidationError, match="share the name fairy"):
        service(effects=[{"name": "fairy"}])
    with pytest.raises(ValidationError, match="not 4n\\+1"):
        service(defaults={"frames": 80})
    with pytest.raises(ValidationError, match="either artifact or files"):
        service(adapters=[{"name": "none"}], effects=[])
