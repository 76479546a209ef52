"""An order has the settings of the worker that renders it: none is rendered by the schedule, the
defaults or the model's numbers of another revision of the service."""

from __future__ import annotations

from typing import Any

import pytest

from orders import rendered
from unit.serving.test_distilled import turbo
from unit.serving.test_orders import service
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.rendering.order import Job, State, VideoOrder
from wan_runtime.serving.gateway.models import is_taken
from wan_runtime.serving.gateway.resolve import again, qualities, resolved
from wan_runtime.serving.gateway.video_request import Ask, checked
from wan_runtime.serving.problems import Code, Refusal
from wan_runtime.serving.settings import settle

PLAIN = {key: value for key, value in turbo().items() if key != "distilled"}
WITH = {"adapters": [{"name": "turbo"}]}
QUICK, SLOW = (4, 5.0, 1.0, 1.0), (40, 5.0, 3.5, 3.5)


def of(adapter: dict[str, Any], **change: Any) -> ServiceSpec:
    return service(**{"adapters": [adapter], "effects": [], **change})


def job(spec: ServiceSpec, *, effect: str | None = None, **fields: Any) -> Job:
    """As the gateway of a service queues it, at 100 s."""
    made = resolved(checked(Ask, {"prompt": "a cat", "model": effect, **fields}), spec)
    return Job(
        id="video_1", owner="ann", state=State.QUEUED, order=made.order, choices=made.choices,
        priority=0, predicted_seconds=100.0, created_at="2026-01-01T00:00:00Z",  # type: ignore[arg-type]
    )  # fmt: skip


def schedule(order: VideoOrder) -> tuple[int, float, float, float]:
    return order.steps, order.shift, order.guidance, order.guidance_low


def test_a_schedule_is_that_of_the_adapter_which_renders() -> None:
    """Whichever of the two the gateway knew, and however long the video has waited."""
    distilled, plain = of(turbo()), of(PLAIN)
    for asked, first in ((distilled, QUICK), (plain, SLOW)):
        queued = job(asked, **WITH)
        assert schedule(queued.order) == first
        for renders, wanted in ((distilled, QUICK), (plain, SLOW), (distilled, QUICK)):
            queued = settle(queued, renders)
            assert schedule(queued.order) == wanted
            assert queued.choices is not None
            assert queued.choices.distilled is (renders is distilled)
    quick = settle(job(plain, **WITH), distilled)
    assert 0.04 < quick.predicted_seconds / 100 < 0.06, "a twentieth of the passes, and decoding"
    assert settle(quick, plain).predicted_seconds == pytest.approx(100.0)


def test_defaults_are_those_of_the_model_which_renders() -> None:
    old = service("Wan2.1-I2V-14B-480P", adapters=[], effects=[], defaults={"steps": 30})
    new = service(adapters=[], effects=[])
    settled = settle(job(new), old).order
    assert schedule(settled) == (30, 3.0, 5.0, 5.0)
    assert schedule(settle(job(old), new).order) == SLOW
    chosen = settle(job(new, steps=12, guidance=6, negative_prompt="blur"), old).order
    assert schedule(chosen) == (12, 3.0, 6.0, 6.0)
    assert chosen.negative_prompt == "blur"
    untouched = {"prompt", "size", "frames", "fps", "seed", "model", "profile", "image"}
    order = job(new, seed=7)
    for field in untouched:
        assert getattr(settle(order, old).order, field) == getattr(order.order, field)


def test_an_effects_choices_hold_everywhere() -> None:
    effects = [{"name": "slow", "sampling": {"steps": 20, "guidance": 2}}]
    asked = job(service(adapters=[], effects=effects), effect="slow")
    renders = service(adapters=[], effects=[], defaults={"steps": 9, "guidance_low": 4})
    assert schedule(settle(asked, renders).order) == (20, 5.0, 2.0, 4.0)


def test_strengths_are_the_adapters_own() -> None:
    one, two = of(PLAIN | {"strength": 0.5}), of(PLAIN | {"strength": 0.9})
    assert job(one, **WITH).order.adapters[0].strength == 0.5
    assert settle(job(one, **WITH), two).order.adapters[0].strength == 0.9
    chosen = job(one, adapters=[{"name": "turbo", "strength": 0.7}])
    assert settle(chosen, two).order.adapters[0].strength == 0.7


@pytest.mark.parametrize(
    ("fields", "renders", "param", "text"),
    [
        (WITH | {"steps": 30}, of(turbo()), "steps", "30 contradicts adapter turbo"),
        (WITH | {"negative_prompt": "blur"}, of(turbo()), "negative_prompt", "without guidance"),
        (
            {"adapters": [{"name": "turbo", "expert": "high_noise"}]},
            of(turbo()),
            "adapters",
            "none is on LowNoise here",
        ),
        (WITH, service(adapters=[], effects=[]), "adapters", "'turbo' is not served here"),
        (
            {"adapters": [{"name": "turbo", "expert": "low_noise"}]},
            service(
                "Wan2.1-I2V-14B-720P",
                adapters=[{"name": "turbo", "files": {"Only": "s3://wan/t"}}],
                effects=[],
            ),
            "adapters",
            "Wan2.1-I2V-14B-720P has no such expert",
        ),
        (
            {"guidance_low": 2.0},
            service("Wan2.1-I2V-14B-720P", adapters=[], effects=[]),
            "guidance_low",
            "has one expert",
        ),
    ],
)
def test_what_cannot_be_rendered_as_chosen_is_refused(
    fields: dict[str, Any], renders: ServiceSpec, param: str, text: str
) -> None:
    asked = of(PLAIN)
    with pytest.raises(Refusal, match=text) as refused:
        settle(job(asked, **fields), renders)
    assert (refused.value.code, refused.value.param) == (Code.INVALID_REQUEST, param)
    with pytest.raises(Refusal, match=r"That holds until a change of the service is rolled out"):
        job(asked.model_copy(update={"others": (renders,)}), **fields)


def test_exact_is_rendered_exactly() -> None:
    exact, lossless = service(profile="Exact"), service()
    with pytest.raises(Refusal, match="exact is not rendered by workers with the profile Lossless"):
        settle(job(exact, quality="exact"), lossless)
    for asked in (exact, lossless):
        assert settle(job(asked, quality="lossless"), exact).order.profile == "Lossless"
        assert settle(job(asked), exact).order.profile is None
    both = exact.model_copy(update={"others": (lossless,)})
    assert list(qualities(both)) == ["lossless"]


@pytest.mark.parametrize("renders", [of(turbo()), of(turbo(steps=8))])
def test_an_order_of_an_earlier_gateway_is_checked(renders: ServiceSpec) -> None:
    """It does not say what was chosen, so nothing of it is settled anew."""
    before = job(of(PLAIN), **WITH).model_copy(update={"choices": None})
    with pytest.raises(Refusal, match="40 contradicts adapter turbo, which was distilled for"):
        settle(before, renders)
    assert settle(before, of(PLAIN)) == before
    quick = job(renders, **WITH).model_copy(update={"choices": None})
    assert settle(quick, renders) == quick


def test_a_remix_of_an_earlier_gateways_order_is_one_that_all_can_render() -> None:
    source = job(of(PLAIN), **WITH).model_copy(update={"choices": None, "rendered": rendered()})
    assert again(source, "a dog", of(PLAIN))[0].steps == 40
    mixed = of(PLAIN).model_copy(update={"others": (of(turbo()),)})
    with pytest.raises(Refusal, match="40 contradicts adapter turbo"):
        again(source, "a dog", mixed)


def test_a_remix_has_the_schedule_of_the_adapter_by_now() -> None:
    distilled, plain = of(turbo()), of(PLAIN, defaults={"steps": 25})
    source = job(distilled, seed=7, **WITH).model_copy(update={"rendered": rendered()})
    order, choices = again(source, "a dog", plain)
    assert schedule(order) == (25, *SLOW[1:])
    assert (order.prompt, order.seed) == ("a dog", 7)
    assert choices is not None
    assert not choices.distilled
    same, choices = again(source, "a dog", distilled)
    assert same == source.order.model_copy(update={"prompt": "a dog"})
    assert choices is not None
    assert choices.distilled


def test_a_remix_keeps_settings_whatever_the_defaults_are_by_now() -> None:
    source = job(of(PLAIN, defaults={"steps": 25, "guidance": 4}), **WITH)
    order, choices = again(source, "a dog", of(PLAIN | {"strength": 0.3}))
    assert order == source.order.model_copy(update={"prompt": "a dog"})
    assert choices is not None
    assert choices.sampling.steps == 25
    with pytest.raises(Refusal, match="25 contradicts adapter turbo"):
        again(source, "a dog", of(turbo()))
    with pytest.raises(Refusal, match="'turbo' is not served here"):
        again(source, "a dog", service(adapters=[], effects=[]))


def test_a_remix_is_of_a_size_and_length_that_are_served() -> None:
    """Workers have warmed up at no other size, and a longer video may not fit them."""
    source = job(of(PLAIN), frames=49, size="480x832").model_copy(update={"rendered": rendered()})
    one = [{"width": 832, "height": 480}]
    for before in (source, source.model_copy(update={"choices": None})):
        assert again(before, "a dog", of(PLAIN, limits={"frames": 49}))[0].frames == 49
        with pytest.raises(Refusal, match="frames: 45 are the most now, the video has 49"):
            again(before, "a dog", of(PLAIN, limits={"frames": 45}))
        with pytest.raises(Refusal, match="size: 480x832, as the video has, is not served any"):
            again(before, "a dog", of(PLAIN, sizes=one))


def test_an_effect_that_old_workers_cannot_render_is_not_available() -> None:
    effects = [{"name": "slow", "adapters": WITH["adapters"], "sampling": {"steps": 20}}]
    new = of(PLAIN, effects=effects)
    slow = Ask(model="slow")
    assert is_taken(slow, new)
    assert not is_taken(slow, new.model_copy(update={"others": (of(turbo()),)}))
