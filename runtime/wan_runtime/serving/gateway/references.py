"""A first frame named by a URL. Off unless the service allows it, and never a way into the cluster.

The name is resolved once, every address must be public, and the connection goes to the address that
was checked; a redirect is checked as the first URL was. So neither DNS rebinding nor a redirect
reaches a private address.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import socket
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from wan_runtime.contract.service import LimitSpec
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
    except (TimeoutError, aiohttp.ClientError, OSError, UnicodeError) as error:
        # Not the error's text: it would show what answers inside the network.
        raise _refused("could not be fetched within 10 s from a public address") from error


async def _fetch(url: str, most: int) -> bytes:
    connector = aiohttp.TCPConnector(resolver=PublicResolver(), use_dns_cache=False)
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
            raise Refusal(Code.TOO_LARGE, f"{PARAM} has more than {most} bytes", param=PARAM)
    return bytes(parts)


def check(url: str) -> None:
    """Raises Refusal unless it is https to a name or a public address, without credentials."""
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")  # as the system does to resolve it
    except ValueError as error:
        raise _refused(
            "is no URL of the form https://HOST/PATH, whose HOST has names of 1 to 63 characters"
        ) from error
    if parts.scheme != "https" or not parts.hostname:
        raise _refused("must begin with https:// (or data:)")
    if parts.username is not None or parts.password is not None:
        raise _refused("must not hold a user name or password")
    if port not in (None, 443):
        raise _refused(f"must not name port {port}: only 443 is fetched from")
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        # What looks like an address goes past the resolver, and the system reads 127.1 as one.
        if ":" in parts.hostname or parts.hostname.replace(".", "").isdigit():
            raise _refused("names an address that is not public") from None
        return  # a name: its addresses are checked when it is resolved
    if not is_public(str(address)):
        raise _refused("names an address that is not public")


def is_public(address: str) -> bool:
    """Whether an address belongs to the internet: not private, link-local (cloud metadata),
    loopback, multicast or reserved, nor an IPv6 form of such an IPv4 address."""
    found = ipaddress.ip_address(address.split("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inner is None and found in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast and not found.is_reserved


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses only; one private address among them refuses the name."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises Refusal."""
        loop = asyncio.get_running_loop()
        found: list[Any] = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for *_, address in found:
            if not is_public(address[0]):
                raise _refused("names a host whose address is not public")
        return [
            ResolveResult(
                hostname=host, host=address[0], port=port, family=kind, proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, *_, address in found
        ]  # fmt: skip

    async def close(self) -> None:
        """Nothing is held."""


def _inline(url: str, most: int) -> bytes:
    head, comma, text = url.partition(",")
    if not comma:
        raise _refused("is a data: URL without data")
    if len(text) > 2 * most:
        raise Refusal(Code.TOO_LARGE, f"{PARAM} has more than {most} bytes", param=PARAM)
    try:
        plain = unquote_to_bytes(text)
        data = base64.b64decode(plain, validate=True) if head.endswith(";base64") else plain
    except (binascii.Error, ValueError) as error:
        raise _refused("is a data: URL whose base64 is damaged") from error
    if len(data) > most:
        raise Refusal(Code.TOO_LARGE, f"{PARAM} has more than {most} bytes", param=PARAM)
    return data


def _refused(text: str) -> Refusal:
    return Refusal(Code.INVALID_REQUEST, f"{PARAM} {text}", param=PARAM)
