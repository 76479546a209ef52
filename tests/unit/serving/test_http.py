"""HTTP itself: every request has an id and an answer that is counted, whatever it says."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from running_gateway import KEYS, Hands, RunningGateway
from unit.serving.test_gateway import PHOTO, ask, error
from wan_runtime.serving.gateway.requests import Stamp

pytest_plugins = ["gateway_fixtures"]

COUNTED = re.compile(r"^wan_gateway_requests_total\{(.*)\} (\S+)$", re.MULTILINE)
HEAD = f"POST /v1/videos HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEYS['app']}\r\n"


def counted(gateway: RunningGateway) -> dict[str, float]:
    """Number of answers by `method route status`."""
    found = COUNTED.findall(gateway.page("/metrics").text)
    return {" ".join(re.findall(r'"([^"]*)"', labels)): float(value) for labels, value in found}


def spoken(gateway: RunningGateway, text: str, *, leave: bool = False) -> bytes:
    """What the server answers to bytes that are sent as they are, until it closes the line.
    `leave`: the client closes its own at once."""
    address = httpx.URL(gateway.url)
    with socket.create_connection((address.host, address.port or 80), timeout=60) as line:
        line.sendall(text.encode("latin-1"))
        if leave:
            line.shutdown(socket.SHUT_RDWR)
            return b""
        return b"".join(iter(lambda: line.recv(65536), b""))


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    """Log lines of the gateway, as its own handler writes them."""
    kept: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = kept.append  # type: ignore[method-assign]
    handler.addFilter(Stamp())
    caplog.set_level(logging.INFO)
    names = ("wan_runtime.serving.gateway.requests", "uvicorn.error", "asyncio")
    named = [logging.getLogger(name) for name in names]
    for logger in named:
        logger.addHandler(handler)
    yield kept
    for logger in named:
        logger.removeHandler(handler)


def broken(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(gateway.app.state.gateway.queue, "get", fail)


def test_made_up_methods_and_paths_make_no_series(
    gateway: RunningGateway, http: httpx.Client
) -> None:
    for number in range(20):
        assert http.request(f"MADE-UP{number}", f"/path{number}").status_code == 404
        assert http.request(f"MADE-UP{number}", "/v1/videos").status_code == 405
    found = counted(gateway)
    assert found.pop("other unknown 404") == 20
    assert [(label.split()[0], value) for label, value in found.items()] == [("other", 20)]


def test_every_answer_is_counted(
    gateway: RunningGateway, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(gateway, monkeypatch)
    assert http.get("/v1/videos/x").status_code == 500
    assert http.post("/v1/videos", content=bytes(40_000_000)).status_code == 413
    assert httpx.get(f"{gateway.url}/v1/videos", timeout=60).status_code == 401
    assert spoken(gateway, "no HTTP\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert counted(gateway) == {
        "GET /v1/videos/{video_id} 500": 1,
        "POST unknown 413": 1,
        "GET /v1/videos 401": 1,
        "other unknown 400": 1,
    }


def test_after_an_error_of_ours_the_line_is_closed(
    gateway: RunningGateway,
    http: httpx.Client,
    lines: list[logging.LogRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken(gateway, monkeypatch)
    answer = http.get("/v1/videos/x")
    assert error(answer) == (500, "internal", None)
    assert answer.headers["Connection"] == "close"
    assert "mistake" not in answer.text
    told = [line for line in lines if line.exc_info]
    assert [line.getMessage() for line in told] == ["a request failed"], "one traceback"
    assert told[0].__dict__["request_id"] == answer.headers["x-request-id"]


def test_every_answer_has_an_id_which_the_log_has(
    gateway: RunningGateway, http: httpx.Client, lines: list[logging.LogRecord]
) -> None:
    made, refused = ask(http), ask(http, steps="-1")
    ids = [answer.headers["x-request-id"] for answer in (made, refused)]
    assert all(re.fullmatch("req_[0-9a-f]{32}", each) for each in ids)
    while not {*ids} <= {line.__dict__.get("request_id") for line in lines}:
        http.get("/livez")  # lines come after their answers
    found = {line.__dict__["request_id"]: line.getMessage() for line in lines}
    assert [found[each] for each in ids] == ["POST /v1/videos: 200", "POST /v1/videos: 400"]
    for path in ("/livez", "/v2", "/v1/videos", "/openapi.json", "/studio/"):
        assert http.get(path).headers["x-request-id"].startswith("req_")
    assert b"x-request-id: req_" in spoken(gateway, "no HTTP\r\n\r\n")


def test_a_proxys_id_is_kept_where_it_is_plain(http: httpx.Client) -> None:
    for sent in ("from.a-proxy_1", "a b", "x" * 129, "é"):
        headers: Any = {"X-Request-ID": sent.encode("latin-1")}
        kept = http.get("/v1/videos", headers=headers).headers["x-request-id"] == sent
        assert kept is (sent == "from.a-proxy_1"), sent


CUT_OFF = (
    'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"prompt":',
    "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\na\r\n{",
    "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 9000\r\n\r\n--x\r\n"
    'Content-Disposition: form-data; name="input_reference"; filename="a.png"\r\n\r\nabc',
)


def test_an_aborted_upload_is_one_line(
    gateway: RunningGateway, http: httpx.Client, lines: list[logging.LogRecord]
) -> None:
    paths = ("/v1/videos", "/v1/videos/estimate", "/v1/videos/x/remix")
    for path in paths:
        for rest in CUT_OFF:
            spoken(gateway, HEAD.replace("/v1/videos", path) + rest, leave=True)
    while len(lines) < len(paths) * len(CUT_OFF):
        http.get("/livez")
    http.get("/livez")
    left = "the client left before its request had arrived"
    wanted = sorted(f"POST {path}: {left}" for path in paths for _ in CUT_OFF)
    assert sorted(line.getMessage() for line in lines) == wanted
    assert not [line for line in lines if line.exc_info or line.levelname != "INFO"]
    assert counted(gateway).keys() == {"GET /livez 200"}, "nobody was answered"


def test_damaged_chunks_end_in_one_answer(
    gateway: RunningGateway, lines: list[logging.LogRecord]
) -> None:
    rest = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    for method in ("POST", "DELETE"):
        answered = spoken(gateway, HEAD.replace("POST", method) + rest)
        assert re.findall(rb"HTTP/1.1 (\d+)", answered) == [b"400"], method
    assert not [line for line in lines if line.exc_info]


def test_head_is_get_without_its_body(http: httpx.Client, hands: Hands) -> None:
    video = ask(http).json()["id"]
    hands.complete(hands.claim(), b"0123456789")
    for path in (
        f"/v1/videos/{video}/content",
        f"/v1/videos/{video}",
        "/v1/videos",
        "/v1/models",
        "/livez",
        "/openapi.json",
        "/studio/studio.css",
        "/v1/videos/unknown",
    ):
        head, get = http.head(path), http.get(path)
        assert head.content == b""
        for answer in (head, get):
            del answer.headers["date"], answer.headers["x-request-id"]
        assert (head.status_code, head.headers) == (get.status_code, get.headers), path
    ranged = http.head(f"/v1/videos/{video}/content", headers={"Range": "bytes=2-3"})
    assert (ranged.status_code, ranged.headers["Content-Length"]) == (200, "10")
    follow = http.head(f"/v1/videos/{video}/events")
    assert follow.headers["content-type"].startswith("text/event-stream")


def test_allow_names_every_method_of_a_path(http: httpx.Client) -> None:
    for path, methods in {
        "/v1/videos": "GET, HEAD, POST",
        "/v1/videos/x": "DELETE, GET, HEAD",
        "/v1/videos/x/cancel": "POST",
        "/v1/videos/estimate": "DELETE, GET, HEAD, POST",
        "/livez": "GET, HEAD",
        "/openapi.json": "GET, HEAD",
        "/studio/": "GET, HEAD",
    }.items():
        answer = http.request("PATCH", path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, methods), path
        assert f"takes {methods}, not PATCH" in answer.json()["error"]["message"]
    head = http.head("/v1/videos/x/cancel")
    assert (head.status_code, head.headers["Allow"]) == (405, "POST")


def test_health_is_where_other_servers_have_it(gateway: RunningGateway) -> None:
    assert httpx.get(f"{gateway.url}/health", timeout=60).text == "ok\n"


def test_no_videos_may_be_listed(http: httpx.Client) -> None:
    found = http.get("/v1/videos", params={"limit": 0}).json()
    assert (found["data"], found["has_more"]) == ([], False)
    ask(http)
    found = http.get("/v1/videos", params={"limit": 0}).json()
    assert (found["data"], found["last_id"], found["has_more"]) == ([], None, True)


def test_an_odd_host_is_no_error_of_ours(gateway: RunningGateway) -> None:
    for host in ("[::1", "x:port", "\xff", "a b"):
        rest = f"HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        for path in ("/v2", "/v1/videos/", "/v1/videos", "/"):
            answer = spoken(gateway, f"GET {path} {rest}")
            assert answer[9:10] in (b"3", b"4"), answer


def test_polls_are_as_far_apart_at_the_first_as_at_the_last(
    http: httpx.Client, hands: Hands
) -> None:
    """OpenAI's SDK goes by the first alone."""
    video, behind = ask(http).json()["id"], ask(http).json()["id"]
    polled = [http.get(f"/v1/videos/{each}") for each in (video, behind)]
    job = hands.claim()
    hands.advance(job, 3)
    polled.append(http.get(f"/v1/videos/{video}"))
    assert {answer.headers["openai-poll-after-ms"] for answer in polled} == {"1000"}
    hands.complete(job)
    assert "openai-poll-after-ms" not in http.get(f"/v1/videos/{video}").headers


def test_limits_are_quoted_as_the_services_own(http: httpx.Client) -> None:
    for answer in (
        http.post("/v1/videos", content=bytes(40_000_000)),
        ask(http, PHOTO + bytes(21 * 2**20)),
    ):
        assert error(answer)[:2] == (413, "payload_too_large")
        assert "takes pictures of up to 20 MiB" in answer.json()["error"]["message"]
