"""What of a request contradicts the schedule of a distilled adapter, in the request's words."""

from __future__ import annotations

from wan_runtime.contract.service import EffectSpec
from wan_runtime.serving.gateway.video_request import Ask
from wan_runtime.serving.settings import FIXED, Schedule, check_schedule, refused


def check(ask: Ask, effect: EffectSpec | None, fixed: Schedule) -> None:
    """Raises Refusal(INVALID_REQUEST) for what a request or its effect sets otherwise."""
    check_schedule(ask.sampling(), fixed, ask.sent_as)
    if effect is None:
        return
    name, own = f"adapter {fixed.adapter}", effect.sampling
    for field in FIXED:
        wanted, value = getattr(fixed.sampling, field), getattr(own, field)
        if value is not None and value != wanted:
            text = f"{name} was distilled for {field} {wanted:g}, and effect {effect.name} has"
            raise refused("adapters", f"{text} {value:g}: leave the adapter out")
    if own.negative_prompt:
        text = f"{name} works without a negative prompt, and effect {effect.name} has one"
        raise refused("adapters", f"{text}: leave the adapter out")
