"""Telling clients that a video is done, as Standard Webhooks: signed, at least once, with retries.

The message is put into the outbox in the transaction that ends the job, so it is neither lost nor
sent for something that did not happen.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import logging
import time
from urllib.parse import urlsplit

import aiohttp

from wan_runtime.serving.gateway import video_response
from wan_runtime.serving.gateway.addresses import NONE, NotCallable, PrivateHosts, Resolver, check
from wan_runtime.serving.problems import Code, Refusal
from wan_runtime.serving.queue.errors import QueueAway
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.queue.upkeep import Webhook
from wan_runtime.serving.webhook_secret import WebhookSecret, key_of

log = logging.getLogger(__name__)

SECONDS = 15.0
"""For an answer."""
RESOLVING = 2.0
"""Seconds for a name, in the request that gives it. TimeoutError is an OSError."""
IDLE = 1.0
"""Seconds between looks at an empty outbox."""
WAITS = (5, 30, 120, 600, 3600, 6 * 3600)
"""Seconds before each further try; then it is given up."""


async def check_receiver(url: str, secret: WebhookSecret, private: PrivateHosts) -> None:
    """Raises Refusal(INVALID_REQUEST) for a receiver that nothing would be sent to;
    Refusal(UNAVAILABLE) while nothing can be signed."""
    if secret.fault():
        text = (
            "webhook_url: the service's webhook secret cannot be used: those who run the service "
            "find the cause in its status. Without webhook_url the request is taken"
        )
        raise Refusal(Code.UNAVAILABLE, text, param="webhook_url")
    if not secret.is_set:
        text = "webhook_url: this service has no webhook secret, so it sends none"
        raise Refusal(Code.INVALID_REQUEST, text, param="webhook_url")
    try:
        host = check(url, private)
        # A name that does not resolve now may do so once the video is done.
        with contextlib.suppress(OSError, UnicodeError):
            async with asyncio.timeout(RESOLVING):
                await Resolver(private).resolve(host)
    except NotCallable as fault:
        text = (
            f"webhook_url {fault}; this service sends webhooks to public addresses and to those of "
            "its spec.gateway.webhookPrivateHosts"
        )
        raise Refusal(Code.INVALID_REQUEST, text, param="webhook_url") from None


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,<base64 of HMAC-SHA256>` over `id.timestamp.body` (standardwebhooks.com, section
    "Signature scheme")."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def payload(message: Webhook) -> bytes:
    """{type, created_at, data}: `video.completed` or `video.failed`, with the video's object. Its
    deliveries are left out, so that each of them says the same."""
    found = video_response.video(message.job)
    event = {
        "type": f"video.{found.status}",
        "created_at": int(message.created_at.timestamp()),
        "data": found.model_dump(mode="json", exclude={"webhook"}),
    }
    return json.dumps(event, separators=(",", ":")).encode()


class Deliveries:
    """Sends what is in the outbox, for as long as it runs. Several gateways share the work."""

    def __init__(self, queue: Queue, secret: WebhookSecret, private: PrivateHosts = NONE) -> None:
        self._queue, self._secret, self._private = queue, secret, private

    async def run(self) -> None:
        """Until cancelled."""
        if not self._secret.is_set:
            return
        connector = aiohttp.TCPConnector(resolver=Resolver(self._private), use_dns_cache=False)
        timeout = aiohttp.ClientTimeout(SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while True:
                try:
                    secret = self._secret.current()
                    sent = secret is not None and await self._next(session, secret)
                except QueueAway as error:
                    log.warning("webhooks wait for the database: %s", error)
                    sent = False
                if not sent:
                    await asyncio.sleep(IDLE)

    async def _next(self, session: aiohttp.ClientSession, secret: str) -> bool:
        message = await self._queue.next_webhook()
        if message is None:
            return False
        # Without the rest of its URL, which may hold a token.
        what = f"webhook of {message.job.id} to {urlsplit(message.url).hostname}"
        fault = await self._send(session, secret, message)
        if fault is None:
            log.info("%s: delivered", what)
            await self._queue.delivered(message)
        elif message.attempts <= len(WAITS):
            wait = WAITS[message.attempts - 1]
            log.warning("%s: %s; sent again in %g s", what, fault, wait)
            await self._queue.undelivered(message, fault, wait)
        else:
            log.error("%s: %s; given up after %d attempts", what, fault, message.attempts)
            await self._queue.undelivered(message, fault, None)
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
            check(message.url, self._private)  # the service may list other hosts than it did
            async with session.post(
                message.url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return None if 200 <= answer.status < 300 else f"status {answer.status}"
        except NotCallable as fault:
            return f"the URL {fault}"
        except TimeoutError:
            return f"no answer within {SECONDS:.0f} s"
        except (aiohttp.InvalidURL, UnicodeError):
            return "its address is no URL"
        except aiohttp.ClientConnectorDNSError as error:
            return f"the name {error.host} does not resolve"
        except aiohttp.ClientSSLError as error:
            return f"{error.host}:{error.port} has no certificate that is trusted"
        except aiohttp.ClientConnectorError as error:
            return f"nothing answers at {error.host}:{error.port}"
        except (aiohttp.ClientError, OSError):
            return "the connection ended before the answer"
