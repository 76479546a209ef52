"""The platform's own word on what may go in."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from running_gateway import RunningGateway
from unit.serving.test_gateway import ask, error

pytest_plugins = ["gateway_fixtures"]


class Hook:
    """Answers what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] = (200, b'{"allowed": true}')
        self.asked: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.append(json.loads(body))
                self.send_response(outer.answer[0])
                self.end_headers()
                self.wfile.write(outer.answer[1])

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/check"


@contextmanager
def answering() -> Iterator[Hook]:
    """At its url."""
    made = Hook()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join()


@pytest.fixture
def hook() -> Iterator[Hook]:
    with answering() as made:
        yield made


@pytest.fixture
def guarded(
    make_gateway: Callable[..., RunningGateway], hook: Hook
) -> Iterator[Callable[[str], httpx.Client]]:
    clients: list[httpx.Client] = []

    def make(on_error: str) -> httpx.Client:
        gateway = make_gateway(moderation={"url": hook.url, "on_error": on_error})
        clients.append(gateway.http())
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_what_it_allows_is_queued(guarded: Callable[[str], httpx.Client], hook: Hook) -> None:
    made = ask(guarded("Refuse")).json()
    (question,) = hook.asked
    assert (question["stage"], question["prompt"]) == ("Input", "a cat")
    assert question["id"] == made["id"]
    (image,) = question["images"]
    assert base64.b64decode(image).startswith(b"\x89PNG")


def test_what_it_refuses_is_not(guarded: Callable[[str], httpx.Client], hook: Hook) -> None:
    hook.answer = (200, b'{"allowed": false, "reason": "a face"}')
    http = guarded("Allow")
    refused = ask(http)
    assert error(refused) == (400, "moderation_refused", None)
    assert "a face" in refused.json()["error"]["message"]
    assert not http.get("/v1/videos").json()["data"]


@pytest.mark.parametrize(
    "answer", [(500, b""), (200, b"yes"), (200, b"{}"), (200, b"[]"), (302, b"")]
)
def test_without_an_answer_nothing_is_made(
    guarded: Callable[[str], httpx.Client], hook: Hook, answer: tuple[int, bytes]
) -> None:
    hook.answer = answer
    http = guarded("Refuse")
    assert error(ask(http)) == (503, "service_unavailable", None)
    assert not http.get("/v1/videos").json()["data"]
    assert ask(guarded("Allow")).status_code == 200, "unless errors allow"
