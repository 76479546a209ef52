"""Adapters that were distilled for a schedule of few steps: which one a video gets, and what
contradicts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wan_runtime.contract.service import (
    AdapterSpec,
    AdapterUse,
    EffectSpec,
    SamplingSpec,
    ServiceSpec,
)
from wan_runtime.contract.steps import Expert
from wan_runtime.presets import PRESETS
from wan_runtime.serving.gateway.video_request import Ask
from wan_runtime.serving.problems import Code, Refusal

FIXED = ("steps", "guidance", "guidance_low", "shift")
"""Settings that the schedule decides."""


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
            raise _refused("adapters", f"{text}: use one of them")
        found = found or one
        left -= _experts(spec, use)
    if found is not None and left:
        who = f"{found.adapter} was distilled for {found}, and"
        which = "it has strength 0" if left == {Expert.ONLY} else f"none is on {min(left)} here"
        raise _refused("adapters", f"{who} {which}: use one on each transformer, or leave it out")
    return found


def _experts(spec: AdapterSpec, use: AdapterUse) -> set[Expert]:
    """Transformers that an adapter works on, as far as names of its files say so."""
    if use.strength == 0:
        return set()
    of = {*(spec.files or Expert)}
    if Expert.ONLY in of:
        of = {*Expert}
    return of if use.expert is None else of & {use.expert}


def check(ask: Ask, effect: EffectSpec | None, fixed: Schedule) -> None:
    """Raises Refusal(INVALID_REQUEST) for what a request or its effect sets otherwise."""
    name = f"adapter {fixed.adapter}"
    for field in FIXED:
        wanted = getattr(fixed.sampling, field)
        given = getattr(ask, field, None)
        if given is not None and given != wanted:
            text = f"{given:g} contradicts {name}, which was distilled for {wanted:g}"
            raise _refused(ask.sent_as(field), f"{text}: leave it out")
        set_by = None if effect is None else getattr(effect.sampling, field)
        if effect is not None and set_by is not None and set_by != wanted:
            text = f"{name} was distilled for {field} {wanted:g}, and effect {effect.name} has"
            raise _refused("adapters", f"{text} {set_by:g}: leave the adapter out")
    if effect is not None and effect.sampling.negative_prompt:
        text = f"{name} works without a negative prompt, and effect {effect.name} has one"
        raise _refused("adapters", f"{text}: leave the adapter out")
    if ask.negative_prompt:
        text = f"{name} was distilled to work without guidance, and so without a negative prompt"
        raise _refused("negative_prompt", f"{text}: leave it out")


def _refused(param: str, text: str) -> Refusal:
    return Refusal(Code.INVALID_REQUEST, f"{param}: {text}", param=param)
