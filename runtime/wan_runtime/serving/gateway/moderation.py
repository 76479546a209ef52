"""The platform's own word on what may go in and what may come out."""

from __future__ import annotations

import base64
import json

import aiohttp

from wan_runtime.serving.problems import Code, Refusal
from wan_runtime.serving.service import ServiceSpec
from wan_runtime.serving.video import VideoOrder


async def check(
    service: ServiceSpec, stage: str, job_id: str, order: VideoOrder, picture: bytes
) -> None:
    """Ask the hook, if there is one: {stage, id, model, prompt, image} -> {allowed, reason}.

    Raises:
        Refusal: MODERATION_REFUSED, or UNAVAILABLE if it does not answer and errors refuse.
    """
    hook = service.moderation
    if hook is None:
        return
    question = {
        "stage": stage,
        "id": job_id,
        "model": order.model,
        "prompt": order.prompt,
        "image": base64.b64encode(picture).decode(),
    }
    try:
        timeout = aiohttp.ClientTimeout(hook.timeout_seconds)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(hook.url, json=question, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")
            verdict = json.loads(await answer.text())
            allowed, reason = bool(verdict["allowed"]), str(verdict.get("reason", ""))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
        if hook.on_error == "Allow":
            return
        text = f"moderation does not answer: {type(error).__name__}; nothing is made without it"
        raise Refusal(Code.UNAVAILABLE, text, retry_after=10) from error
    if not allowed:
        raise Refusal(Code.MODERATION_REFUSED, f"refused by moderation: {reason[:500]}")
