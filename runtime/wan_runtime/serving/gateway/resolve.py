"""Resolve a request into what is rendered: request over effect over service over preset."""

from __future__ import annotations

import secrets

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
from wan_runtime.presets import NEGATIVE_PROMPT, PRESETS, Preset
from wan_runtime.rendering.order import VideoOrder
from wan_runtime.serving.gateway import distilled
from wan_runtime.serving.gateway.video_request import Ask
from wan_runtime.serving.problems import Code, Refusal


def order_of(ask: Ask, service: ServiceSpec) -> VideoOrder:
    """All that the pixels depend on, but the picture.

    Raises:
        Refusal: INVALID_REQUEST, with the field and what the service takes.
    """
    preset = PRESETS[service.model.preset]
    effect = _effect(ask, service)
    adapters = _adapters(ask, effect, service)
    fixed = distilled.schedule(adapters, service)
    if fixed is not None:
        distilled.check(ask, effect, fixed)
    layers = (
        *([fixed.sampling] if fixed else ()),
        _requested(ask),
        *([effect.sampling] if effect else ()),
        service.defaults,
    )
    size = _size(ask, layers, service)
    fps = _first(layers, "fps", preset.fps)
    guidance = _first(layers, "guidance", preset.guidance)
    if ask.guidance_low is not None and len(preset.experts) == 1:
        param = ask.sent_as("guidance_low")
        raise _refused(param, f"{preset.name} has one expert: leave it out")
    return VideoOrder(
        prompt=_prompt(ask, effect, service),
        negative_prompt=_first(layers, "negative_prompt", NEGATIVE_PROMPT),
        size=size,
        frames=_frames(ask, layers, fps, preset, service),
        fps=fps,
        steps=_first(layers, "steps", preset.inference_steps),
        guidance=guidance,
        # A request's own guidance goes before an effect's for the low-noise expert.
        guidance_low=guidance
        if ask.guidance is not None and ask.guidance_low is None
        else _first(layers, "guidance_low", guidance),
        shift=_first(layers, "shift", preset.shift),
        seed=secrets.randbelow(2**31) if ask.seed is None else ask.seed,
        adapters=adapters,
        model=service.name if effect is None else effect.name,
        profile=_profile(ask, service),
        visible_mark=ask.visible_mark,
    )


def _profile(ask: Ask, service: ServiceSpec) -> Profile | None:
    if ask.quality is None:
        return None
    known = qualities(service)
    if ask.quality not in known:
        text = f"{ask.quality} is not served here: it is one of {', '.join(known)}"
        raise _refused("quality", text)
    return known[ask.quality]


def qualities(service: ServiceSpec) -> dict[str, Profile]:
    """Profiles that requests may choose, by their name in requests, the service's own first."""
    own = service.profile or DEFAULT_PROFILE
    # A transformer is either Exact or compiled. Who asks for lossless has no less with Exact.
    others: tuple[Profile, ...] = ("Lossless", "Balanced", "Fast")
    if own == "Exact":
        return {"exact": own, "lossless": own}
    return {each.lower(): each for each in (own, *others)}


def _effect(ask: Ask, service: ServiceSpec) -> EffectSpec | None:
    if ask.model in (None, service.name, service.model.preset):
        return None
    effect = service.effect(str(ask.model))
    if effect is None:
        known = ", ".join((service.name, *(each.name for each in service.effects)))
        raise _refused("model", f"{ask.model!r} is not served here: it is one of {known}")
    return effect


def _requested(ask: Ask) -> SamplingSpec:
    return SamplingSpec(
        fps=ask.fps,
        steps=ask.steps,
        guidance=ask.guidance,
        guidance_low=ask.guidance_low,
        negative_prompt=ask.negative_prompt,
    )


def _first(layers: tuple[SamplingSpec, ...], field: str, default: object) -> object:
    """Typed loosely: VideoOrder checks each field."""
    return next((v for v in (getattr(layer, field) for layer in layers) if v is not None), default)


def _size(ask: Ask, layers: tuple[SamplingSpec, ...], service: ServiceSpec) -> Size:
    if ask.size is None:
        chosen = _first(layers, "size", service.sizes[0])
        assert isinstance(chosen, Size)
        return chosen
    for size in service.sizes:
        if str(size) == ask.size:
            return size
    known = ", ".join(str(size) for size in service.sizes)
    raise _refused(ask.sent_as("size"), f"{ask.size} is not served here: it is one of {known}")


def _frames(
    ask: Ask,
    layers: tuple[SamplingSpec, ...],
    fps: object,
    preset: Preset,
    service: ServiceSpec,
) -> int:
    if ask.frames is None and ask.seconds is None:
        return int(str(_first(layers, "frames", min(preset.frames, service.limits.frames))))
    assert isinstance(fps, int | float)
    most, param = service.limits.frames, ask.sent_as("frames")
    frames = ask.frames
    if ask.seconds is not None:
        if ask.seconds * fps > most + TEMPORAL_STRIDE:
            longest = f"{most} frames, {(most - 1) / fps:.4g} s at {fps:g} a second"
            raise _refused("seconds", f"this service makes at most {longest}, not {ask.seconds:g}")
        whole = TEMPORAL_STRIDE * max(1, round(ask.seconds * fps / TEMPORAL_STRIDE)) + 1
        if frames not in (None, whole):
            text = f"{frames} contradicts seconds {ask.seconds:g}, which are {whole} frames"
            raise _refused(param, f"{text}: give one of them")
        frames, param = whole, "seconds"
    assert frames is not None
    if (frames - 1) % TEMPORAL_STRIDE:
        near = TEMPORAL_STRIDE * ((frames - 1) // TEMPORAL_STRIDE) + 1
        raise _refused(param, f"{frames} is not 4n+1: {near} or {near + TEMPORAL_STRIDE} would be")
    if frames > most:
        raise _refused(param, f"this service makes at most {most} frames, not {frames}")
    return frames


def _prompt(ask: Ask, effect: EffectSpec | None, service: ServiceSpec) -> str:
    given = ask.prompt.strip()
    most = service.limits.prompt_characters
    if len(given) > most:
        raise _refused("prompt", f"has {len(given)} characters, more than {most}")
    if effect is None:
        if not given:
            raise _refused("prompt", "is empty: say what happens in the video")
        return given
    return effect.prompt.replace("{prompt}", given).strip()


def _adapters(ask: Ask, effect: EffectSpec | None, service: ServiceSpec) -> tuple[AdapterUse, ...]:
    uses = [*(effect.adapters if effect else ()), *(each.use() for each in ask.adapters)]
    resolved: list[AdapterUse] = []
    experts = PRESETS[service.model.preset].experts
    for use in uses:
        adapter = service.adapter(use.name)
        if adapter is None:
            known = ", ".join(each.name for each in service.adapters) or "none"
            raise _refused("adapters", f"{use.name!r} is not served here; there are: {known}")
        if use.expert is not None and use.expert not in experts:
            raise _refused("adapters", f"{use.name}: {service.model.preset} has no such expert")
        if any(_overlap(use, each) for each in resolved):
            raise _refused("adapters", _twice(use.name, effect))
        strength = adapter.strength if use.strength is None else use.strength
        resolved.append(use.model_copy(update={"strength": strength}))
    return tuple(resolved)


def _overlap(one: AdapterUse, other: AdapterUse) -> bool:
    """Whether both are one adapter on one transformer."""
    same = one.expert == other.expert or None in (one.expert, other.expert)
    return same and one.name == other.name


def _twice(name: str, effect: EffectSpec | None) -> str:
    """What is to say of an adapter whose strengths would add up."""
    if effect is not None and any(each.name == name for each in effect.adapters):
        return f"effect {effect.name} has {name} already: leave it out, or the effect"
    return f"{name} is named twice for one transformer: name it once"


def _refused(param: str, text: str) -> Refusal:
    return Refusal(Code.INVALID_REQUEST, f"{param}: {text}", param=param)
