"""The settings of an order, by whoever renders it: what the request chose, over the schedule of a
distilled adapter, the service's defaults and the preset's. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wan_runtime.contract.service import (
    DEFAULT_PROFILE,
    AdapterSpec,
    AdapterUse,
    SamplingSpec,
    ServiceSpec,
)
from wan_runtime.contract.steps import Expert
from wan_runtime.presets import NEGATIVE_PROMPT, PRESETS
from wan_runtime.rendering.order import Choices, Job, VideoOrder
from wan_runtime.serving.planned import Workers
from wan_runtime.serving.problems import Code, Refusal

FIXED = ("steps", "guidance", "guidance_low", "shift")
"""Settings that the schedule of a distilled adapter decides."""
SETTLED = (*FIXED, "negative_prompt")
"""Settings that each worker settles for itself."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Settings that a distilled adapter fixes."""

    adapter: str
    sampling: SamplingSpec

    def __str__(self) -> str:
        return f"{self.sampling.steps} steps with shift {self.sampling.shift:g}"


def schedule(adapters: Sequence[AdapterUse], service: ServiceSpec) -> Schedule | None:
    """Schedule of a video with these adapters; None if none of them was distilled.

    Raises:
        Refusal: INVALID_REQUEST, if two were, for different schedules, or none for one of the
            experts: without guidance, a few steps of the released one make no video.
    """
    found: Schedule | None = None
    left = {*PRESETS[service.model.preset].experts}
    for use in adapters:
        spec = service.adapter(use.name)
        if spec is None or spec.distilled is None:
            continue
        made = SamplingSpec(
            steps=spec.distilled.steps,
            shift=spec.distilled.shift,
            guidance=1.0,
            guidance_low=1.0,
        )
        one = Schedule(use.name, made)
        if found is not None and found.sampling != made:
            text = f"{found.adapter} was distilled for {found}, {one.adapter} for {one}"
            raise refused("adapters", f"{text}: use one of them")
        found = found or one
        left -= _experts(spec, use)
    if found is not None and left:
        who = f"{found.adapter} was distilled for {found}, and"
        which = "it has strength 0" if left == {Expert.ONLY} else f"none is on {min(left)} here"
        raise refused("adapters", f"{who} {which}: use one on each transformer, or leave it out")
    return found


def _experts(spec: AdapterSpec, use: AdapterUse) -> set[Expert]:
    """Transformers that an adapter works on, as far as names of its files say so."""
    if use.strength == 0:
        return set()
    of = {*(spec.files or Expert)}
    if Expert.ONLY in of:
        of = {*Expert}
    return of if use.expert is None else of & {use.expert}


def strengths(adapters: Sequence[AdapterUse], service: ServiceSpec) -> tuple[AdapterUse, ...]:
    """With those that are the adapters' own. Raises Refusal(INVALID_REQUEST) for one that is not
    the service's, or is for an expert that its model does not have."""
    resolved = []
    experts = PRESETS[service.model.preset].experts
    for use in adapters:
        adapter = service.adapter(use.name)
        if adapter is None:
            known = ", ".join(each.name for each in service.adapters) or "none"
            raise refused("adapters", f"{use.name!r} is not served here; there are: {known}")
        if use.expert is not None and use.expert not in experts:
            raise refused("adapters", f"{use.name}: {service.model.preset} has no such expert")
        strength = adapter.strength if use.strength is None else use.strength
        resolved.append(use.model_copy(update={"strength": strength}))
    return tuple(resolved)


def settled(order: VideoOrder, choices: Choices, service: ServiceSpec) -> VideoOrder:
    """The order with the settings that workers of `service` render it with.

    Raises:
        Refusal: INVALID_REQUEST, for what they cannot render as it was chosen.
    """
    preset, chosen = PRESETS[service.model.preset], choices.sampling
    _check_profile(order, service)
    adapters = strengths(choices.adapters, service)
    fixed = schedule(adapters, service)
    if fixed is not None:
        check_schedule(chosen, fixed)
    layers = (*([fixed.sampling] if fixed else ()), chosen, service.defaults)
    guidance = first(layers, "guidance", preset.guidance)
    low = first(layers, "guidance_low", guidance)
    if len(preset.experts) == 1:
        if chosen.guidance_low not in (None, guidance):
            raise refused("guidance_low", f"{preset.name} has one expert: leave it out")
        low = guidance
    update = {
        "negative_prompt": first((chosen, service.defaults), "negative_prompt", NEGATIVE_PROMPT),
        "steps": first(layers, "steps", preset.inference_steps),
        "guidance": guidance,
        "guidance_low": low,
        "shift": first(layers, "shift", preset.shift),
        "adapters": adapters,
    }
    return VideoOrder.model_validate({**dict(order), **update})


def check(order: VideoOrder, service: ServiceSpec) -> None:
    """Raises Refusal(INVALID_REQUEST) if workers of `service` must not render the order as it is:
    without the schedule of its adapters, or with less than it asks for."""
    _check_profile(order, service)
    fixed = schedule(strengths(order.adapters, service), service)
    if fixed is not None:
        given = {field: getattr(order, field) for field in FIXED}
        check_schedule(SamplingSpec.model_construct(**given), fixed)


def _check_profile(order: VideoOrder, service: ServiceSpec) -> None:
    own = service.profile or DEFAULT_PROFILE
    if order.profile == "Exact" != own:
        raise refused("quality", f"exact is not rendered by workers with the profile {own}")


def check_schedule(
    given: SamplingSpec, fixed: Schedule, sent_as: Callable[[str], str] = str
) -> None:
    """Raises Refusal(INVALID_REQUEST) for what is chosen otherwise than it is fixed. `sent_as`:
    gives the name that a request has for a setting."""
    name = f"adapter {fixed.adapter}"
    for field in FIXED:
        wanted, value = getattr(fixed.sampling, field), getattr(given, field)
        if value is not None and value != wanted:
            text = f"{value:g} contradicts {name}, which was distilled for {wanted:g}"
            raise refused(sent_as(field), f"{text}: leave it out")
    if given.negative_prompt:
        text = f"{name} was distilled to work without guidance, and so without a negative prompt"
        raise refused("negative_prompt", f"{text}: leave it out")


def settle(job: Job, service: ServiceSpec) -> Job:
    """The job as a worker of `service` renders it, with the seconds that it then takes.

    Raises:
        Refusal: INVALID_REQUEST, as `settled` and `check`.
    """
    if job.choices is None:
        check(job.order, service)
        return job
    order = settled(job.order, job.choices, service)
    seconds = job.predicted_seconds
    if order != job.order:
        workers = Workers.of(service)
        seconds *= workers.seconds(order).whole / workers.seconds(job.order).whole
    distilled = schedule(order.adapters, service) is not None
    choices = job.choices.model_copy(update={"distilled": distilled})
    return job.model_copy(update={"order": order, "choices": choices, "predicted_seconds": seconds})


def first(layers: Sequence[SamplingSpec], field: str, default: object) -> object:
    """Typed loosely: VideoOrder checks each field."""
    return next((v for v in (getattr(layer, field) for layer in layers) if v is not None), default)


def refused(param: str, text: str) -> Refusal:
    return Refusal(Code.INVALID_REQUEST, f"{param}: {text}", param=param)
