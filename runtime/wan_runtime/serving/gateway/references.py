"""A first frame named by a URL. Off unless the service allows it, and never a way into the cluster.

A redirect is checked as the first URL was: it reaches no private address either.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from urllib.parse import unquote_to_bytes, urljoin

import aiohttp

from wan_runtime.contract.service import LimitSpec
from wan_runtime.serving.gateway.addresses import NotCallable, Resolver, check
from wan_runtime.serving.gateway.body import too_large
from wan_runtime.serving.problems import Code, Refusal

PARAM = "input_reference.image_url"
SECONDS = 10.0
"""For all of a fetch."""
REDIRECTS = 3


async def read(url: str, limits: LimitSpec) -> bytes:
    """The bytes behind a data: or https: URL.

    Raises:
        Refusal: INVALID_REQUEST, TOO_LARGE.
    """
    if url.startswith("data:"):
        return _inline(url, limits.upload_bytes)
    if not limits.url_references:
        raise _refused(
            "URLs are switched off for this service: upload the picture, or use a data: URL"
        )
    try:
        async with asyncio.timeout(SECONDS):
            return await _fetch(url, limits.upload_bytes)
    except NotCallable as error:
        raise _refused(str(error)) from error
    except (TimeoutError, aiohttp.ClientError, OSError, UnicodeError) as error:
        # Not the error's text: it would show what answers inside the network.
        raise _refused("could not be fetched within 10 s from a public address") from error


async def _fetch(url: str, most: int) -> bytes:
    connector = aiohttp.TCPConnector(resolver=Resolver(), use_dns_cache=False)
    async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
        for _ in range(REDIRECTS + 1):
            check(url)
            async with session.get(url, allow_redirects=False) as answer:
                if answer.status in (301, 302, 303, 307, 308):
                    url = urljoin(url, answer.headers.get("Location", ""))
                    continue
                if answer.status != 200:
                    raise _refused(f"answered with status {answer.status}")
                return await _body(answer, most)
    raise _refused(f"redirects more than {REDIRECTS} times")


async def _body(answer: aiohttp.ClientResponse, most: int) -> bytes:
    parts = bytearray()
    async for chunk in answer.content.iter_chunked(65536):
        parts += chunk
        if len(parts) > most:
            raise too_large(PARAM, most, PARAM)
    return bytes(parts)


def _inline(url: str, most: int) -> bytes:
    head, comma, text = url.partition(",")
    if not comma:
        raise _refused("is a data: URL without data")
    if len(text) > 2 * most:
        raise too_large(PARAM, most, PARAM)
    try:
        plain = unquote_to_bytes(text)
        data = base64.b64decode(plain, validate=True) if head.endswith(";base64") else plain
    except (binascii.Error, ValueError) as error:
        raise _refused("is a data: URL whose base64 is damaged") from error
    if len(data) > most:
        raise too_large(PARAM, most, PARAM)
    return data


def _refused(text: str) -> Refusal:
    return Refusal(Code.INVALID_REQUEST, f"{PARAM} {text}", param=PARAM)
