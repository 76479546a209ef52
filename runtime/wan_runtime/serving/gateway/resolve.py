"""Resolve a request into what is rendered: request over effect over service over preset."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from wan_runtime.contract.service import (
    DEFAULT_PROFILE,
    AdapterUse,
    EffectSpec,
    Profile,
    SamplingSpec,
    ServiceSpec,
    Size,
)
from wan_runtime.contract.strides import TEMPORAL_STRIDE
from wan_runtime.presets import PRESETS, Preset
from wan_runtime.rendering.order import Choices, Job, VideoOrder
from wan_runtime.serving.gateway import distilled
from wan_runtime.serving.gateway.video_request import Ask
from wan_runtime.serving.problems import Refusal
from wan_runtime.serving.settings import (
    SETTLED,
    check,
    first,
    refused,
    schedule,
    settled,
    strengths,
)


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a request comes to."""

    order: VideoOrder
    """All that the pixels depend on, but the picture."""
    choices: Choices
    """Choices by which a worker whose defaults are others settles it anew."""


def order_of(ask: Ask, service: ServiceSpec) -> VideoOrder:
    """As `resolved`."""
    return resolved(ask, service).order


def resolved(ask: Ask, service: ServiceSpec) -> Resolved:
    """The request with the service's defaults.

    Raises:
        Refusal: INVALID_REQUEST, with the field and what the service takes; also for what workers
            that are being replaced cannot render.
    """
    preset = PRESETS[service.model.preset]
    effect = _effect(ask, service)
    uses = _adapters(ask, effect, service)
    requested = ask.sampling()
    layers = (requested, *([effect.sampling] if effect else ()), service.defaults)
    if ask.guidance_low is not None and len(preset.experts) == 1:
        param = ask.sent_as("guidance_low")
        raise refused(param, f"{preset.name} has one expert: leave it out")
    fps = first(layers, "fps", preset.fps)
    order = VideoOrder(
        prompt=_prompt(ask, effect, service),
        negative_prompt="",
        size=_size(ask, layers, service),
        frames=_frames(ask, layers, fps, preset, service),
        fps=fps,
        steps=preset.inference_steps,
        guidance=preset.guidance,
        guidance_low=preset.guidance,
        shift=preset.shift,
        seed=secrets.randbelow(2**31) if ask.seed is None else ask.seed,
        model=service.name if effect is None else effect.name,
        profile=_profile(ask, service),
        visible_mark=ask.visible_mark,
    )
    choices = Choices(sampling=_chosen(requested, effect), adapters=uses)
    _check_others(ask, effect, order, choices, service)
    fixed = schedule(strengths(uses, service), service)
    if fixed is not None:
        distilled.check(ask, effect, fixed)
    order = settled(order, choices, service)
    return Resolved(order, choices.model_copy(update={"distilled": fixed is not None}))


def again(source: Job, prompt: str, service: ServiceSpec) -> tuple[VideoOrder, Choices | None]:
    """The order of a completed video with another prompt. What a distilled adapter decided of it,
    the adapter decides anew, as it may be another by now.

    Raises:
        Refusal: INVALID_REQUEST, if it cannot be rendered any more.
    """
    order = source.order.model_copy(update={"prompt": prompt, "image": None})
    _check_picture(order, service)
    before = source.choices
    if before is None:
        for each in (*(service.others or ()), service):
            check(order, each)
        return order, None
    kept = before.sampling if before.distilled else SamplingSpec.model_validate(
        {field: getattr(order, field) for field in SETTLED}
    )  # fmt: skip
    choices = before.model_copy(update={"sampling": kept, "adapters": order.adapters})
    for other in service.others or ():
        settled(order, choices, other)
    made = settled(order, choices, service)
    fixed = schedule(made.adapters, service)
    return made, choices.model_copy(update={"distilled": fixed is not None})


def _check_picture(order: VideoOrder, service: ServiceSpec) -> None:
    """Raises Refusal(INVALID_REQUEST) for what the service offers no more, and workers were neither
    warmed up nor planned for."""
    if order.frames > service.limits.frames:
        raise refused(
            "frames", f"{service.limits.frames} are the most now, the video has {order.frames}"
        )
    if order.size not in service.sizes:
        known = ", ".join(map(str, service.sizes))
        raise refused(
            "size", f"{order.size}, as the video has, is not served any more, only {known}"
        )


def _check_others(
    ask: Ask, effect: EffectSpec | None, order: VideoOrder, choices: Choices, service: ServiceSpec
) -> None:
    """Raises Refusal(INVALID_REQUEST) for what workers of another revision cannot render."""
    for other in service.others or ():
        try:
            fixed = schedule(strengths(choices.adapters, other), other)
            if fixed is not None:
                distilled.check(ask, effect, fixed)
            settled(order, choices, other)
        except Refusal as refusal:
            text = f"{refusal.message}. That holds until a change of the service is rolled out"
            raise Refusal(refusal.code, text, param=refusal.param) from None


def _chosen(requested: SamplingSpec, effect: EffectSpec | None) -> SamplingSpec:
    """What the request and its effect have of SETTLED."""
    layers = (requested, *([effect.sampling] if effect else ()))
    chosen = {field: first(layers, field, None) for field in SETTLED}
    if requested.guidance is not None and requested.guidance_low is None:
        # A request's own guidance goes before an effect's for the low-noise expert.
        chosen["guidance_low"] = requested.guidance
    return SamplingSpec.model_validate(chosen)


def _profile(ask: Ask, service: ServiceSpec) -> Profile | None:
    if ask.quality is None:
        return None
    known = qualities(service)
    if ask.quality not in known:
        text = f"{ask.quality} is not served here: it is one of {', '.join(known)}"
        raise refused("quality", text)
    return known[ask.quality]


def qualities(service: ServiceSpec) -> dict[str, Profile]:
    """Profiles that requests may choose of all workers at work, by their name in requests: the
    service's own first, where all have it."""
    known = _qualities(service)
    for other in service.others or ():
        known = {name: known[name] for name in known if name in _qualities(other)}
    return known


def _qualities(service: ServiceSpec) -> dict[str, Profile]:
    own = service.profile or DEFAULT_PROFILE
    # A transformer is either Exact or compiled. Who asks for lossless has no less with Exact.
    others: tuple[Profile, ...] = ("Lossless", "Balanced", "Fast")
    if own == "Exact":
        return {"exact": own, "lossless": "Lossless"}
    return {each.lower(): each for each in (own, *others)}


def _effect(ask: Ask, service: ServiceSpec) -> EffectSpec | None:
    if ask.model in (None, service.name, service.model.preset):
        return None
    effect = service.effect(str(ask.model))
    if effect is None:
        known = ", ".join((service.name, *(each.name for each in service.effects)))
        raise refused("model", f"{ask.model!r} is not served here: it is one of {known}")
    return effect


def _size(ask: Ask, layers: tuple[SamplingSpec, ...], service: ServiceSpec) -> Size:
    if ask.size is None:
        chosen = first(layers, "size", service.sizes[0])
        assert isinstance(chosen, Size)
        return chosen
    for size in service.sizes:
        if str(size) == ask.size:
            return size
    known = ", ".join(str(size) for size in service.sizes)
    raise refused(ask.sent_as("size"), f"{ask.size} is not served here: it is one of {known}")


def _frames(
    ask: Ask,
    layers: tuple[SamplingSpec, ...],
    fps: object,
    preset: Preset,
    service: ServiceSpec,
) -> int:
    if ask.frames is None and ask.seconds is None:
        return int(str(first(layers, "frames", min(preset.frames, service.limits.frames))))
    assert isinstance(fps, int | float)
    most, param = service.limits.frames, ask.sent_as("frames")
    frames = ask.frames
    if ask.seconds is not None:
        if ask.seconds * fps > most + TEMPORAL_STRIDE:
            longest = f"{most} frames, {(most - 1) / fps:.4g} s at {fps:g} a second"
            raise refused("seconds", f"this service makes at most {longest}, not {ask.seconds:g}")
        whole = TEMPORAL_STRIDE * max(1, round(ask.seconds * fps / TEMPORAL_STRIDE)) + 1
        if frames not in (None, whole):
            text = f"{frames} contradicts seconds {ask.seconds:g}, which are {whole} frames"
            raise refused(param, f"{text}: give one of them")
        frames, param = whole, "seconds"
    assert frames is not None
    if (frames - 1) % TEMPORAL_STRIDE:
        near = TEMPORAL_STRIDE * ((frames - 1) // TEMPORAL_STRIDE) + 1
        raise refused(param, f"{frames} is not 4n+1: {near} or {near + TEMPORAL_STRIDE} would be")
    if frames > most:
        raise refused(param, f"this service makes at most {most} frames, not {frames}")
    return frames


def _prompt(ask: Ask, effect: EffectSpec | None, service: ServiceSpec) -> str:
    given = ask.prompt.strip()
    most = service.limits.prompt_characters
    if len(given) > most:
        raise refused("prompt", f"has {len(given)} characters, more than {most}")
    if effect is None:
        if not given:
            raise refused("prompt", "is empty: say what happens in the video")
        return given
    return effect.prompt.replace("{prompt}", given).strip()


def _adapters(ask: Ask, effect: EffectSpec | None, service: ServiceSpec) -> tuple[AdapterUse, ...]:
    uses = [*(effect.adapters if effect else ()), *(each.use() for each in ask.adapters)]
    strengths(uses, service)
    for place, use in enumerate(uses):
        if any(_overlap(use, each) for each in uses[:place]):
            raise refused("adapters", _twice(use.name, effect))
    return tuple(uses)


def _overlap(one: AdapterUse, other: AdapterUse) -> bool:
    """Whether both are one adapter on one transformer."""
    same = one.expert == other.expert or None in (one.expert, other.expert)
    return same and one.name == other.name


def _twice(name: str, effect: EffectSpec | None) -> str:
    """What is to say of an adapter whose strengths would add up."""
    if effect is not None and any(each.name == name for each in effect.adapters):
        return f"effect {effect.name} has {name} already: leave it out, or the effect"
    return f"{name} is named twice for one transformer: name it once"
