"""Addresses that a gateway calls on behalf of clients: those of the internet, and private ones that
the service names. Never any other way into the cluster.

A name is resolved once, each of its addresses is checked, and the connection goes to an address
that was checked: DNS rebinding reaches nothing private.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult

INTERNAL = ("localhost", "local", "internal", "svc", "home.arpa")
"""Last labels of names that are not of the internet: RFC 6761, 6762, 8375, ICANN's reserved
.internal, and Services of the cluster."""


class NotCallable(Exception):
    """An address that is never called; the text says why, as what follows its name."""


@dataclass(frozen=True, slots=True)
class PrivateHosts:
    """What a service lets its gateways call though it is private."""

    names: tuple[str, ...] = ()
    """Host names; `*.` at the start stands for any labels."""
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    @classmethod
    def of(cls, given: Sequence[str]) -> PrivateHosts:
        """Those of host names, addresses, and ranges in CIDR notation."""
        ranges = [each for each in given if "/" in each or _literal(each)]
        return cls(
            tuple(each.lower() for each in given if each not in ranges),
            tuple(ipaddress.ip_network(each, strict=False) for each in ranges),
        )

    def names_host(self, host: str) -> bool:
        """Whether the host of a URL is listed: by its name, or as an address of a range."""
        if (address := _literal(host)) is not None:
            return self.holds(address)
        host = host.rstrip(".").lower()
        return any(
            host.endswith(each[1:]) if each.startswith("*.") else host == each
            for each in self.names
        )

    def holds(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        """Whether a range has it."""
        return any(address in network for network in self.networks)


NONE = PrivateHosts()


def check(url: str, private: PrivateHosts = NONE) -> str:
    """The host of an https URL on port 443 of a public host, or of any http or https URL of a host
    that is listed. Nothing is resolved.

    Raises:
        NotCallable: it is neither, or holds credentials.
    """
    parts = _split(url)
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host:
        raise NotCallable("must begin with https://")
    if parts.username is not None or parts.password is not None:
        raise NotCallable("must not hold a user name or password")
    if private.names_host(host):
        return host
    if parts.scheme != "https":
        raise NotCallable("must begin with https://")
    if parts.port not in (None, 443):
        raise NotCallable(f"must not name port {parts.port}: only 443 is called")
    if (address := _literal(host)) is not None:
        if not is_public(str(address)):
            raise NotCallable("names an address that is not public")
    # What looks like an address goes past the resolver, and the system reads 127.1 as one.
    elif ":" in host or host.replace(".", "").isdigit():
        raise NotCallable("names an address that is not public")
    elif is_internal(host):
        raise NotCallable(f"names {host}, a host that is not public")
    return host


def is_internal(host: str) -> bool:
    """Whether a name can only be one of the cluster or of a private network."""
    host = host.rstrip(".").lower()
    return "." not in host or host.endswith(tuple(f".{each}" for each in INTERNAL))


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


class Resolver(AbstractResolver):
    """Resolves names to addresses that may be called; one other among them refuses the name."""

    def __init__(self, private: PrivateHosts = NONE) -> None:
        self._private = private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises NotCallable, and OSError where the name has no address."""
        loop = asyncio.get_running_loop()
        found: list[Any] = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listed = self._private.names_host(host)
        for *_, address in found:
            if not self._callable(address[0], listed):
                raise NotCallable(f"names {host}, a host whose address is not public")
        return [
            ResolveResult(
                hostname=host, host=address[0], port=port, family=kind, proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, *_, address in found
        ]  # fmt: skip

    async def close(self) -> None:
        """Nothing is held."""

    def _callable(self, text: str, listed: bool) -> bool:
        address = ipaddress.ip_address(text.split("%")[0])
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or address
        if is_public(text) or self._private.holds(address):
            return True
        # A name that is listed may yet stand for the gateway itself or for its node's metadata.
        near = address.is_loopback or address.is_link_local or address.is_unspecified
        return listed and not near


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
        (parts.hostname or "").encode("idna")  # as the system does to resolve it
    except ValueError as error:
        raise NotCallable(
            "is no URL of the form https://HOST/PATH, whose HOST has names of 1 to 63 characters"
        ) from error
    return parts


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
