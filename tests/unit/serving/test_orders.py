"""From a request to an order."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from wan_runtime.contract.service import ServiceSpec
from wan_runtime.presets import NEGATIVE_PROMPT
from wan_runtime.rendering.order import VideoOrder
from wan_runtime.serving.gateway.resolve import order_of
from wan_runtime.serving.gateway.video_request import Ask, checked, digest_of
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


def test_an_adapter_may_have_a_strength_for_each_expert() -> None:
    uses = [{"name": "fairy", "expert": each} for each in ("high_noise", "low_noise")]
    assert len(made({"adapters": uses}).adapters) == 2


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "size": ({"size": "64x64"}, "size", "832x480, 480x832"),
    "size form": ({"size": "large"}, "size", "must have the form"),
    "model": ({"model": "sora-2"}, "model", "studio, anime-fairy"),
    "frames": ({"frames": 20}, "frames", "21"),
    "too many frames": ({"frames": 125}, "frames", "121"),
    "seconds": ({"seconds": 30}, "seconds", "121"),
    "both": ({"frames": 17, "seconds": 2}, "frames", "contradicts seconds 2, which are 33 frames"),
    "negative steps": ({"steps": -1}, "steps", "must be at least 1, not -1"),
    "no prompt": ({"prompt": "  "}, "prompt", "empty"),
    "long prompt": ({"prompt": "a" * 2001}, "prompt", "2001"),
    "seed": ({"seed": -1}, "seed", "at least 0"),
    "guidance": ({"guidance": float("nan")}, "guidance", "finite"),
    "adapter": ({"adapters": [{"name": "ghost"}]}, "adapters", "fairy, film"),
    "adapter twice": ({"adapters": [{"name": "fairy"}] * 2}, "adapters", "fairy is named twice"),
    "adapter twice for an expert": (
        {"adapters": [{"name": "fairy", "expert": "low_noise"}, {"name": "fairy"}]},
        "adapters",
        "fairy is named twice for one transformer: name it once",
    ),
    "adapter of the effect": (
        {"model": "anime-fairy", "adapters": [{"name": "fairy", "strength": 0.5}]},
        "adapters",
        "effect anime-fairy has fairy already: leave it out, or the effect",
    ),
    "strength": (
        {"adapters": [{"name": "fairy", "strength": 9}]},
        "adapters[0].strength",
        "at most 4",
    ),
    "unknown field": ({"cfg": 3}, "cfg", "there is no such field"),
    "text": ({"steps": "many"}, "steps", "a whole number, not"),
    "quality": ({"quality": "best"}, "quality", "lossless"),
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


OTHER_NAMES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Wan's tools": (
        {"num_frames": "17", "num_inference_steps": 9, "guidance_scale": 4, "guidance_scale_2": 3},
        {"frames": 17, "steps": 9, "guidance": 4.0, "guidance_low": 3.0},
    ),
    "a size in two": ({"width": "480", "height": 832}, {"size": "480x832"}),
    "both, and the same": (
        {"num_frames": 17, "frames": 17, "seconds": 1, "width": 832, "height": 480,
         "size": "832x480", "guidance_scale": 4, "guidance": 4.0},
        {"frames": 17, "seconds": 1, "size": "832x480", "guidance": 4.0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_names_of_other_tools(name: str) -> None:
    sent, ours = (checked(Ask, {"prompt": "x"} | fields) for fields in OTHER_NAMES[name])
    seeded = [order_of(ask.model_copy(update={"seed": 1}), service()) for ask in (sent, ours)]
    assert seeded[0] == seeded[1]
    assert digest_of(sent, b"x") == digest_of(ours, b"x"), "one request for an Idempotency-Key"


@pytest.mark.parametrize(
    ("fields", "param", "text"),
    [
        ({"num_frames": 17, "frames": 21}, "num_frames", "17 contradicts frames 21"),
        ({"num_inference_steps": 4, "steps": "5"}, "num_inference_steps", "contradicts steps 5"),
        (
            {"guidance_scale_2": 4, "guidance_low": 5},
            "guidance_scale_2",
            "contradicts",
        ),
        ({"width": 480, "height": 832, "size": "832x480"}, "width", "contradicts size 832x480"),
        ({"width": 480}, "height", "width and height go together"),
        ({"width": 64, "height": 64}, "width", "64x64 is not served here"),
        ({"num_frames": 16}, "num_frames", "16 is not 4n+1: 13 or 17"),
        ({"num_frames": "many"}, "num_frames", "must be a whole number"),
        ({"num_frames": 17, "seconds": 5}, "num_frames", "contradicts seconds 5, which are 81"),
        ({"frames": 10**9 + 1}, "frames", "this service makes at most 121 frames"),
        ({"seconds": 1e300}, "seconds", "at most 121 frames, 7.5 s at 16 a second"),
        ({"seconds": 8}, "seconds", "at most 121 frames"),
        ({"seconds": float("inf")}, "seconds", "must be a finite number"),
    ],
)
def test_contradictions_and_limits(fields: dict[str, Any], param: str, text: str) -> None:
    with pytest.raises(Refusal) as refused:
        made(fields)
    assert refused.value.param == param
    assert text in refused.value.message


def test_a_key_stands_for_what_it_did_in_earlier_releases() -> None:
    """A client that repeats a request across an upgrade gets its video, not a refusal."""
    ask = checked(Ask, {"prompt": "a cat", "seed": 7, "adapters": [{"name": "fairy"}]})
    written = "9263cd66a3ac67da1801065e59a39d369b68e387e9741651f4a3a4eb75a8caab"
    assert digest_of(ask, b"picture") == written
    assert digest_of(ask.model_copy(update={"user": "ann"}), b"picture") != written


@pytest.mark.parametrize(
    ("own", "wanted", "profile"),
    [
        (None, None, None),
        (None, "lossless", "Lossless"),
        (None, "balanced", "Balanced"),
        (None, "fast", "Fast"),
        ("Balanced", None, None),
        ("Balanced", "lossless", "Lossless"),
        ("Exact", "exact", "Exact"),
        ("Exact", "lossless", "Lossless"),
    ],
)
def test_a_request_may_choose_the_arithmetic(
    own: str | None, wanted: str | None, profile: str | None
) -> None:
    assert made({"quality": wanted}, service(profile=own)).profile == profile


@pytest.mark.parametrize(
    ("own", "wanted", "known"),
    [
        ("Exact", "balanced", "exact, lossless"),
        (None, "exact", "lossless, balanced, fast"),
        ("Balanced", "exact", "balanced, lossless, fast"),
    ],
)
def test_arithmetic_that_workers_do_not_have_is_refused(
    own: str | None, wanted: str, known: str
) -> None:
    with pytest.raises(Refusal) as refused:
        made({"quality": wanted}, service(profile=own))
    assert refused.value.param == "quality"
    assert f"{wanted} is not served here: it is one of {known}" in refused.value.message
