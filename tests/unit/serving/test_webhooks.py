"""Webhooks: signed so that the `openai` SDK accepts them, sent at least once, never into the
cluster."""

from __future__ import annotations

import asyncio
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
from wan_runtime.serving.gateway import webhooks

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
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook?token=t0k3n"
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
    """One that the service lists, so that plain HTTP will do."""
    running = Receiver()
    monkeypatch.setattr(webhooks, "WAITS", (0.1, 0.1))
    yield running
    running.close()


@pytest.fixture
def gateway(make_gateway: Callable[..., RunningGateway]) -> RunningGateway:
    return make_gateway(secret=SECRET, webhook_private_hosts=["127.0.0.1"])


def ended(http: httpx.Client, video: str) -> dict[str, Any]:
    """What the video says of its webhook, once no delivery is under way or due."""
    deadline = time.monotonic() + 60
    while True:
        found: dict[str, Any] = http.get(f"/v1/videos/{video}").json()["webhook"]
        if found["delivered_at"] or (found["failure"] and not found["next_at"]):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def test_the_sdk_accepts_what_is_sent(receiver: Receiver, http: httpx.Client, hands: Hands) -> None:
    video = ask(http, webhook_url=receiver.url).json()["id"]
    hands.complete(hands.claim())
    headers, body = receiver.next()
    client = openai.OpenAI(api_key="unused", webhook_secret=SECRET)
    client.webhooks.verify_signature(body.decode(), headers)
    event = httpx.Response(200, content=body).json()
    assert (event["type"], event["data"]["id"]) == ("video.completed", video)
    assert event["data"]["status"] == "completed"
    assert "webhook" not in event["data"], "every delivery says the same"
    said = ended(http, video)
    assert said["delivered_at"] >= event["created_at"]
    assert {**said, "delivered_at": None} == {
        "url": receiver.url, "attempts": 1, "delivered_at": None, "failed_at": None,
        "failure": None, "next_at": None,
    }  # fmt: skip
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.verify_signature(body.decode() + " ", headers)


def test_failed_and_cancelled_videos_have_events_too(
    receiver: Receiver, http: httpx.Client, hands: Hands
) -> None:
    ask(http, webhook_url=receiver.url)
    hands.fail(hands.claim(), "internal", "a fault")
    assert b'"type":"video.failed"' in receiver.next()[1]
    video = ask(http, webhook_url=receiver.url).json()["id"]
    http.post(f"/v1/videos/{video}/cancel")
    assert b'"code":"cancelled"' in receiver.next()[1]


def test_a_receiver_that_fails_gets_the_event_again_with_the_same_id(
    receiver: Receiver, http: httpx.Client, hands: Hands, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = [500, 302, 503]
    video = ask(http, webhook_url=receiver.url).json()["id"]
    waiting = http.get(f"/v1/videos/{video}").json()["webhook"]
    assert (waiting["url"], waiting["attempts"], waiting["next_at"]) == (receiver.url, 0, None)
    hands.complete(hands.claim())
    tries = [receiver.next() for _ in range(3)]
    assert len({headers["webhook-id"] for headers, _ in tries}) == 1
    assert len({body for _, body in tries}) == 1
    said = ended(http, video)
    assert (said["attempts"], said["failure"], said["next_at"]) == (3, "status 503", None)
    assert said["failed_at"] is not None
    assert said["delivered_at"] is None
    what = f"webhook of {video} to 127.0.0.1: status"
    assert f"{what} 500; sent again in 0.1 s" in caplog.text
    assert f"{what} 503; given up after 3 attempts" in caplog.text
    assert "t0k3n" not in caplog.text
    # The next message is another: the third try was the last.
    ask(http, webhook_url=receiver.url)
    hands.complete(hands.claim())
    assert receiver.next()[0]["webhook-id"] != tries[0][0]["webhook-id"]


@pytest.mark.parametrize(
    ("listed", "host", "failure"),
    [
        # The name was public when the video was asked for; or the service listed it then.
        (
            [],
            "rebound.example",
            "the URL names rebound.example, a host whose address is not public",
        ),
        ([], "127.0.0.1", "the URL names an address that is not public"),
        (["gone.example"], "gone.example", "the name gone.example does not resolve"),
        (["127.0.0.1"], "127.0.0.1", "nothing answers at 127.0.0.1:1"),
    ],
)
def test_what_is_not_called_says_so(
    listed: list[str],
    host: str,
    failure: str,
    make_gateway: Callable[..., RunningGateway],
    make_hands: Callable[[RunningGateway], Hands],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def accept(*_: Any) -> None:
        pass

    async def resolve(loop: Any, name: str, port: int, **_: Any) -> Any:
        if name == "gone.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(webhooks, "check_receiver", accept)
    monkeypatch.setattr(webhooks, "WAITS", ())
    gateway = make_gateway(secret=SECRET, webhook_private_hosts=listed)
    hands = make_hands(gateway)
    url = f"http{'s' * (not listed)}://{host}{':1' if listed else ''}/hook"
    with gateway.http() as http:
        video = ask(http, webhook_url=url).json()["id"]
        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
        hands.complete(hands.claim())
        assert ended(http, video)["failure"] == failure
