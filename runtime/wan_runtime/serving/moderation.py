"""The platform's own word on what may go in and what may come out."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from enum import StrEnum

import urllib3
from urllib3.exceptions import HTTPError

from wan_runtime.contract.service import ModerationSpec, ServiceSpec
from wan_runtime.rendering.order import VideoOrder
from wan_runtime.serving.problems import Code, Refusal


class Side(StrEnum):
    INPUT = "Input"
    OUTPUT = "Output"


async def check(
    service: ServiceSpec, side: Side, job_id: str, order: VideoOrder, pictures: Sequence[bytes]
) -> None:
    """Ask the hook, if there is one: {stage, id, model, prompt, images} -> {allowed, reason}.

    Raises:
        Refusal: MODERATION_REFUSED, or UNAVAILABLE if it does not answer and errors refuse.
    """
    hook = service.moderation
    if hook is None:
        return
    question = {
        "stage": side,
        "id": job_id,
        "model": order.model,
        "prompt": order.prompt,
        "images": [base64.b64encode(each).decode() for each in pictures],
    }
    try:
        # Of the whole answer: a server that trickles is none.
        async with asyncio.timeout(hook.timeout_seconds):
            verdict = await asyncio.to_thread(_ask, hook, json.dumps(question).encode())
        allowed, reason = bool(verdict["allowed"]), str(verdict.get("reason", ""))
    except (HTTPError, TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
        if hook.on_error == "Allow":
            return
        text = f"moderation does not answer: {type(error).__name__}; nothing is made without it"
        raise Refusal(Code.UNAVAILABLE, text, retry_after=10) from error
    if not allowed:
        raise Refusal(Code.MODERATION_REFUSED, f"refused by moderation: {reason[:500]}")


def _ask(hook: ModerationSpec, question: bytes) -> dict[str, object]:
    """Raises HTTPError, ValueError, TypeError."""
    with urllib3.PoolManager() as pool:
        answer = pool.request(
            "POST",
            hook.url,
            body=question,
            headers={"Content-Type": "application/json"},
            timeout=hook.timeout_seconds,
            retries=False,
        )
    if answer.status != 200:
        raise ValueError(f"status {answer.status}")
    return dict(json.loads(answer.data))
