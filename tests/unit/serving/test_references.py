"""First frames by URL: what must never be fetched."""

from __future__ import annotations

import asyncio
import base64
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from wan_runtime.contract.service import LimitSpec
from wan_runtime.serving.gateway import addresses, references
from wan_runtime.serving.problems import Code, Refusal

OPEN = LimitSpec(url_references=True, upload_bytes=1000)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1",
        "169.254.169.254", "169.254.170.2", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "192.0.2.1",
        "198.18.0.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not addresses.is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_that_are_public(address: str) -> None:
    assert addresses.is_public(address)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://example.com/a.png", "must begin with https://"),
        ("file:///etc/passwd", "must begin with https://"),
        ("/etc/passwd", "must begin with https://"),
        ("ftp://example.com/a.png", "must begin with https://"),
        ("gopher://example.com", "must begin with https://"),
        ("https:///a.png", "must begin with https://"),
        ("https://user:password@example.com/a.png", "must not hold"),
        ("https://example.com:8443/a.png", "port 8443"),
        ("https://example.com:99999/a.png", "is no URL"),
        ("https://127.0.0.1/a.png", "not public"),
        ("https://[::1]/a.png", "not public"),
        ("https://[fd00::1]/a.png", "not public"),
        ("https://169.254.169.254/latest/meta-data", "not public"),
        ("https://localhost/a.png", "localhost, a host that is not public"),
        ("https://kubernetes.default.svc/a.png", "not public"),
        ("https://kubernetes.default.svc.cluster.local./a.png", "not public"),
        ("https://printer.local/a.png", "not public"),
        ("https://127.1/a.png", "not public"),
        ("https://2130706433/a.png", "not public"),
        ("https://0x7f000001/a.png", "not public"),
        ("https://0177.0.0.1/a.png", "not public"),
        ("https://１２７.0.0.1/a.png", "not public"),
    ],
)
async def test_urls_that_are_refused(url: str, text: str) -> None:
    with pytest.raises(Refusal) as caught:
        await references.read(url, OPEN)
    assert caught.value.code is Code.INVALID_REQUEST
    assert text in caught.value.message


async def test_urls_are_off_by_default() -> None:
    with pytest.raises(Refusal, match="switched off"):
        await references.read("https://example.com/a.png", LimitSpec())


async def test_a_data_url() -> None:
    text = base64.b64encode(b"some bytes").decode()
    assert await references.read(f"data:image/png;base64,{text}", LimitSpec()) == b"some bytes"
    assert await references.read("data:,a%20b", LimitSpec()) == b"a b"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("data:image/png;base64,%%%", Code.INVALID_REQUEST),
        ("data:image/png;base64", Code.INVALID_REQUEST),
        ("data:," + "a" * 1500, Code.TOO_LARGE),
        ("data:;base64," + base64.b64encode(b"a" * 1500).decode(), Code.TOO_LARGE),
        ("data:," + "a" * 5000, Code.TOO_LARGE),
    ],
)
async def test_data_urls_that_are_refused(url: str, code: Code) -> None:
    with pytest.raises(Refusal) as caught:
        await references.read(url, OPEN)
    assert caught.value.code is code


async def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: a name may answer with anything."""
    answers = [(2, 1, 6, "", ("8.8.8.8", 443)), (2, 1, 6, "", ("10.0.0.7", 443))]

    async def resolve(*_: Any, **__: Any) -> Any:
        return answers

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    with pytest.raises(Refusal, match="not public"):
        await references.read("https://rebinding.example/a.png", OPEN)
    del answers[1]
    found = await addresses.Resolver().resolve("rebinding.example", 443)
    assert [each["host"] for each in found] == ["8.8.8.8"], "connected to what was checked"


LISTED = addresses.PrivateHosts.of(
    [
        "receiver.team-a.svc",
        "*.Team-B.svc.cluster.local",
        "10.20.0.0/16",
        "fd00:20::/32",
        "10.9.9.9",
    ]
)


@pytest.mark.parametrize(
    "url",
    [
        "http://receiver.team-a.svc:8080/hook", "https://RECEIVER.team-a.svc./hook",
        "http://a.b.team-b.svc.cluster.local/", "http://10.20.3.4:1234/", "https://[fd00:20::7]/",
        "https://10.9.9.9/", "https://public.example/",
    ],
)  # fmt: skip
def test_hosts_that_are_listed(url: str) -> None:
    addresses.check(url, LISTED)


@pytest.mark.parametrize(
    "url",
    [
        "http://receiver.team-b.svc:8080/hook", "https://x.receiver.team-a.svc/",
        "http://team-b.svc.cluster.local/", "http://10.21.0.1/", "https://10.9.9.8/",
        "http://public.example/", "https://public.example:8443/", "ftp://receiver.team-a.svc/",
        "http://user:word@receiver.team-a.svc/",
    ],
)  # fmt: skip
def test_hosts_beside_those_that_are_listed(url: str) -> None:
    with pytest.raises(addresses.NotCallable):
        addresses.check(url, LISTED)


@pytest.mark.parametrize(
    ("host", "address", "callable_"),
    [
        ("receiver.team-a.svc", "10.96.0.9", True),
        ("receiver.team-a.svc", "100.64.0.9", True),
        ("receiver.team-a.svc", "127.0.0.1", False),
        ("receiver.team-a.svc", "169.254.169.254", False),
        ("receiver.team-a.svc", "::ffff:169.254.169.254", False),
        ("receiver.team-a.svc", "::ffff:127.0.0.1", False),
        ("receiver.team-a.svc", "::", False),
        ("public.example", "10.20.0.9", True),
        ("public.example", "10.96.0.9", False),
    ],
)
async def test_what_a_listed_host_resolves_to(
    host: str, address: str, callable_: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(*_: Any, **__: Any) -> Any:
        return [(2, 1, 6, "", (address, 80))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    resolver = addresses.Resolver(LISTED)
    if callable_:
        assert [each["host"] for each in await resolver.resolve(host, 80)] == [address]
    else:
        with pytest.raises(addresses.NotCallable, match=f"{host}, a host whose address is not pub"):
            await resolver.resolve(host, 80)


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/to="):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
            return
        self.send_response(404 if self.path == "/gone" else 200)
        self.end_headers()
        self.wfile.write(b"x" * (2000 if self.path == "/large" else 10))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that stands for one on the internet: its name counts as public, and plain HTTP as
    HTTPS, since no certificate is to be had here."""
    server = HTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    port = server.server_port
    real = references.check

    def check(url: str) -> None:
        if not url.startswith(f"http://site.example:{port}/"):
            real(url)

    async def resolve(self: Any, host: str, port: int = 0, family: Any = None) -> Any:
        if host != "site.example":
            raise AssertionError(f"{host} was looked up")
        return [
            {"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0,
             "flags": 0}
        ]  # fmt: skip

    monkeypatch.setattr(references, "check", check)
    monkeypatch.setattr(addresses.Resolver, "resolve", resolve)
    yield f"http://site.example:{port}"
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_picture_is_fetched(site: str) -> None:
    assert await references.read(f"{site}/a.png", OPEN) == b"x" * 10
    assert await references.read(f"{site}/to={site}/a.png", OPEN) == b"x" * 10


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/large", "is too large"),
        ("/gone", "status 404"),
        ("/to=https://169.254.169.254/latest", "not public"),
        ("/to=http://example.com/", "must begin with https://"),
        ("/to=/to=/to=/to=/a", "redirects more than 3 times"),
    ],
)
async def test_answers_that_are_refused(site: str, path: str, text: str) -> None:
    with pytest.raises(Refusal, match=text):
        await references.read(f"{site}{path}", OPEN)


async def test_nothing_is_told_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any, **__: Any) -> Any:
        raise ssl.SSLError("the secret of 10.1.2.3")

    monkeypatch.setattr(references, "_fetch", refuse)
    with pytest.raises(Refusal) as caught:
        await references.read("https://example.com/a.png", OPEN)
    assert "10.1.2.3" not in caught.value.message
