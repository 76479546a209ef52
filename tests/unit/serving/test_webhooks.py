"""Webhooks: signed so that the `openai` SDK accepts them, sent at least once, never into the
cluster."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import openai
import pytest

from running_gateway import Hands, RunningGateway
from unit.serving.test_gateway import ask
from wan_runtime.serving.gateway import references, webhooks

pytest_plugins = ["gateway_fixtures"]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver:
    """Keeps what it is sent, and answers with the statuses given, then 200."""

    def __init__(self) -> None:
        self.got: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()
        self.statuses: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = outer.statuses.pop(0) if outer.statuses else 200
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://169.254.169.254/")
                self.end_headers()
                outer.got.put((headers, body))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://receiver.example:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def next(self) -> tuple[dict[str, str], bytes]:
        return self.got.get(timeout=60)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Stands for one on the internet: its name resolves, to loopback, and HTTP counts as HTTPS,
    since no certificate is to be had here."""
    running = Receiver()

    async def resolve(self: Any, host: str, port: int = 0, family: Any = None) -> Any:
        assert host == "receiver.example"
        found = {"hostname": host, "host": "127.0.0.1", "port": port}
        return [{**found, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    monkeypatch.setattr(references.PublicResolver, "resolve", resolve)
    monkeypatch.setattr(webhooks, "check", lambda url: None)
    monkeypatch.setattr(webhooks, "WAITS", (0.1, 0.1))
    yield running
    running.close()


@pytest.fixture
def gateway(make_gateway: Callable[..., RunningGateway]) -> RunningGateway:
    return make_gateway(secret=SECRET)


def test_the_sdk_accepts_what_is_sent(receiver: Receiver, http: httpx.Client, hands: Hands) -> None:
    video = ask(http, webhook_url=receiver.url).json()["id"]
    hands.complete(hands.claim())
    headers, body = receiver.next()
    client = openai.OpenAI(api_key="unused", webhook_secret=SECRET)
    client.webhooks.verify_signature(body.decode(), headers)
    event = httpx.Response(200, content=body).json()
    assert (event["type"], event["data"]["id"]) == ("video.completed", video)
    assert event["data"]["status"] == "completed"
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.verify_signature(body.decode() + " ", headers)


def test_failed_and_cancelled_videos_are_told_too(
    receiver: Receiver, http: httpx.Client, hands: Hands
) -> None:
    ask(http, webhook_url=receiver.url)
    hands.fail(hands.claim(), "internal", "a fault")
    assert b'"type":"video.failed"' in receiver.next()[1]
    video = ask(http, webhook_url=receiver.url).json()["id"]
    http.post(f"/v1/videos/{video}/cancel")
    assert b'"code":"cancelled"' in receiver.next()[1]


def test_a_receiver_that_fails_is_told_again_with_the_same_id(
    receiver: Receiver, http: httpx.Client, hands: Hands
) -> None:
    receiver.statuses = [500, 302]
    ask(http, webhook_url=receiver.url)
    hands.complete(hands.claim())
    tries = [receiver.next() for _ in range(3)]
    assert len({headers["webhook-id"] for headers, _ in tries}) == 1
    assert len({body for _, body in tries}) == 1
    # The next message is another: the third try was the last.
    ask(http, webhook_url=receiver.url)
    hands.complete(hands.claim())
    assert receiver.next()[0]["webhook-id"] != tries[0][0]["webhook-id"]


def test_none_is_sent_into_the_cluster(
    make_gateway: Callable[..., RunningGateway],
    make_hands: Callable[[RunningGateway], Hands],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A name may be public when the video is asked for, and not when it is done."""
    running = Receiver()
    monkeypatch.setattr(webhooks, "check", lambda url: None)
    monkeypatch.setattr(webhooks, "WAITS", ())
    try:
        gateway = make_gateway(secret=SECRET)
        hands = make_hands(gateway)
        with gateway.http() as http:
            ask(http, webhook_url=running.url.replace("receiver.example", "localhost"))
            hands.complete(hands.claim())
            deadline = time.monotonic() + 60
            while "address is not public, given up" not in caplog.text:
                assert time.monotonic() < deadline, caplog.text
                time.sleep(0.05)
        assert running.got.empty()
    finally:
        running.close()
