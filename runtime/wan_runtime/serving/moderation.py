"""The platform's own word on what may go in and what may come out."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Sequence
from enum import StrEnum

import urllib3
from pydantic import BaseModel, StrictBool, ValidationError
from urllib3.exceptions import HTTPError

from wan_runtime.contract.service import ModerationSpec, ServiceSpec
from wan_runtime.faults import described, encodable, value
from wan_runtime.no_answer import why
from wan_runtime.rendering.order import VideoOrder
from wan_runtime.serving.problems import Code, Refusal

log = logging.getLogger(__name__)


class Verdict(BaseModel):
    """What the hook answers."""

    allowed: StrictBool
    """Nothing else will do: the text "false" would count as true."""
    reason: object = ""
    """Text, for the client; whatever else it is, a refusal counts."""

    @property
    def cause(self) -> str:
        """The reason as text that can be kept."""
        given = self.reason if isinstance(self.reason, str) else value(self.reason)
        return encodable(given).replace("\0", "\ufffd")[:500]


class Unanswered(Exception):
    """The hook gave no verdict; the text says why."""


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
        verdict = await _verdict(hook, json.dumps(question).encode())
    except Unanswered as error:
        log.warning("no verdict of spec.moderation on %s: %s", job_id, error)
        if hook.on_error == "Allow":
            return
        text = f"moderation does not answer: {error}; nothing is made without it"
        raise Refusal(Code.UNAVAILABLE, text, retry_after=10) from error
    if not verdict.allowed:
        raise Refusal(Code.MODERATION_REFUSED, f"refused by moderation: {verdict.cause}")


def unreachable(hook: ModerationSpec, seconds: float) -> str:
    """Why the server of the hook gives no answer within a time; empty if it gives any. No question
    is sent."""
    try:
        with urllib3.PoolManager() as pool:
            pool.request("HEAD", hook.url, timeout=seconds, retries=False)
    except HTTPError as error:
        return why(error)
    return ""


async def _verdict(hook: ModerationSpec, question: bytes) -> Verdict:
    """Raises Unanswered."""
    try:
        # A limit on the whole answer: a server that trickles gives none.
        async with asyncio.timeout(hook.timeout_seconds):
            status, answer = await asyncio.to_thread(_ask, hook, question)
    except TimeoutError as error:
        raise Unanswered(f"no answer within {hook.timeout_seconds:g} s") from error
    except HTTPError as error:
        raise Unanswered(why(error)) from error
    if status != 200:
        raise Unanswered(f"it answered with status {status}, not 200")
    try:
        # Not by pydantic's parser, which refuses halves of characters in a reason.
        content = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise Unanswered("its answer is no JSON in UTF-8") from error
    try:
        return Verdict.model_validate(content)
    except ValidationError as error:
        raise Unanswered(f"its answer {described(error)}") from error


def _ask(hook: ModerationSpec, question: bytes) -> tuple[int, bytes]:
    """Status and body. Raises HTTPError."""
    with urllib3.PoolManager() as pool:
        answer = pool.request(
            "POST",
            hook.url,
            body=question,
            headers={"Content-Type": "application/json"},
            timeout=hook.timeout_seconds,
            retries=False,
        )
    return answer.status, answer.data
