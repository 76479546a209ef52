"""Telling clients that a video is done, as Standard Webhooks: signed, at least once, with retries.

The message is put into the outbox in the transaction that ends the job, so it is neither lost nor
sent for something that did not happen.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import time

import aiohttp

from wan_runtime.serving.gateway import video_response
from wan_runtime.serving.gateway.references import PublicResolver, check
from wan_runtime.serving.problems import Code, Refusal
from wan_runtime.serving.queue.errors import QueueAway
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.queue.upkeep import Webhook
from wan_runtime.serving.start import WEBHOOK_PREFIX

log = logging.getLogger(__name__)

SECONDS = 15.0
"""For an answer."""
IDLE = 1.0
"""Seconds between looks at an empty outbox."""
WAITS = (5, 30, 120, 600, 3600, 6 * 3600)
"""Seconds before each further try; then it is given up."""


def check_receiver(url: str, secret: str | None) -> None:
    """Raises Refusal(INVALID_REQUEST) for a receiver that nothing could be sent to."""
    if secret is None:
        text = "webhook_url: this service has no webhook secret, so it sends none"
        raise Refusal(Code.INVALID_REQUEST, text, param="webhook_url")
    try:
        check(url)
    except Refusal as refusal:
        raise Refusal(Code.INVALID_REQUEST, _of_receiver(refusal), param="webhook_url") from None


def _of_receiver(refusal: Refusal) -> str:
    """What is wrong with an address, whose rules are those of pictures' addresses."""
    return refusal.message.replace(str(refusal.param), "webhook_url")


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,<base64 of HMAC-SHA256>` over `id.timestamp.body` (standardwebhooks.com, section
    "Signature scheme"). A secret `whsec_<base64>` stands for the bytes."""
    key = (
        base64.b64decode(secret.removeprefix(WEBHOOK_PREFIX))
        if secret.startswith(WEBHOOK_PREFIX)
        else secret.encode()
    )
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def payload(message: Webhook) -> bytes:
    """{type, created_at, data}: `video.completed` or `video.failed`, with the video's object."""
    found = video_response.video(message.job)
    event = {
        "type": f"video.{found.status}",
        "created_at": int(message.created_at.timestamp()),
        "data": found.model_dump(mode="json"),
    }
    return json.dumps(event, separators=(",", ":")).encode()


class Deliveries:
    """Sends what is in the outbox, for as long as it runs. Several gateways share the work."""

    def __init__(
        self, queue: Queue, secret: str | None, resolver: PublicResolver | None = None
    ) -> None:
        self._queue, self._secret = queue, secret
        self._resolver = resolver or PublicResolver()

    async def run(self) -> None:
        """Until cancelled."""
        if self._secret is None:
            return
        connector = aiohttp.TCPConnector(resolver=self._resolver, use_dns_cache=False)
        timeout = aiohttp.ClientTimeout(SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while True:
                try:
                    sent = await self._next(session, self._secret)
                except QueueAway as error:
                    log.warning("webhooks wait for the database: %s", error)
                    sent = False
                if not sent:
                    await asyncio.sleep(IDLE)

    async def _next(self, session: aiohttp.ClientSession, secret: str) -> bool:
        message = await self._queue.next_webhook()
        if message is None:
            return False
        fault = await self._send(session, secret, message)
        if fault is None:
            await self._queue.webhook_done(message)
        elif message.attempts <= len(WAITS):
            log.info("webhook %s: %s, tried again", message.id, fault)
            await self._queue.webhook_retry(message, WAITS[message.attempts - 1])
        else:
            log.warning("webhook %s: %s, given up", message.id, fault)
            await self._queue.webhook_done(message)
        return True

    async def _send(
        self, session: aiohttp.ClientSession, secret: str, message: Webhook
    ) -> str | None:
        body = payload(message)
        name = f"{message.job.id}-{message.id}"
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(secret, name, now, body),
        }
        try:
            async with session.post(
                message.url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return None if 200 <= answer.status < 300 else f"status {answer.status}"
        except Refusal as refusal:
            return _of_receiver(refusal)
        except TimeoutError:
            return f"no answer within {SECONDS:.0f} s"
        except (aiohttp.InvalidURL, UnicodeError):
            return "its address is no URL"
        except aiohttp.ClientConnectorError as error:
            return f"nothing answers at {error.host}:{error.port}"
        except (aiohttp.ClientError, OSError):
            return "the connection ended before the answer"
