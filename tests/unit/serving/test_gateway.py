"""The gateway over plain HTTP: idempotency, limits, cancel, events, ranges, what is refused."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import httpx
import numpy as np
import pytest

from photos import png
from running_gateway import Hands, RunningGateway
from unit.serving.test_pictures import picture

pytest_plugins = ["gateway_fixtures"]

PHOTO = picture(400, 300, "JPEG")


def ask(
    http: httpx.Client, photo: bytes | None = PHOTO, headers: Any = None, **fields: Any
) -> httpx.Response:
    files = {} if photo is None else {"input_reference": ("photo.jpg", photo, "image/jpeg")}
    data = {"prompt": "a cat", **fields}
    if not files:
        return http.post("/v1/videos", json=data, headers=headers)
    return http.post("/v1/videos", data=data, files=files, headers=headers)


def error(answer: httpx.Response) -> tuple[int, str, str | None]:
    found = answer.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return answer.status_code, found["code"], found["param"]


def test_a_key_makes_one_video_of_equal_requests(
    gateway: RunningGateway, hands: Hands, http: httpx.Client
) -> None:
    headers = {"Idempotency-Key": "order-17"}
    first = ask(http, headers=headers).json()
    again = ask(http, headers=headers)
    assert (again.json()["id"], again.headers["Idempotent-Replayed"]) == (first["id"], "true")
    assert error(ask(http, headers=headers, steps="9")) == (409, "idempotency_key_reused", None)
    assert error(ask(http, picture(), headers)) == (409, "idempotency_key_reused", None)
    with gateway.http("team") as other:
        assert ask(other, headers=headers).json()["id"] != first["id"], "keys are their owner's"
    left = {each.key.split("/")[-2] for each in gateway.store.list(f"{gateway.service.prefix}/")}
    assert len(left) == 2, "no picture is left of requests that made nothing"


def test_equal_requests_at_once_make_one_video(gateway: RunningGateway, http: httpx.Client) -> None:
    answers: list[str] = []

    def send() -> None:
        with gateway.http() as own:
            answers.append(ask(own, headers={"Idempotency-Key": "at-once"}).json()["id"])

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(answers)) == 1
    assert len(http.get("/v1/videos").json()["data"]) == 1


def test_a_full_queue_says_when_to_come_again(
    make_gateway: Callable[..., RunningGateway],
) -> None:
    gateway = make_gateway(limits={"queue_seconds": 1.0})
    with gateway.http() as http:
        assert ask(http).status_code == 200
        refused = ask(http)
        assert error(refused) == (429, "queue_full", None)
        assert int(refused.headers["Retry-After"]) >= 1
    left = list(gateway.store.list(f"{gateway.service.prefix}/"))
    assert len(left) == 1, "the refused picture is gone"


def test_limits_of_a_key(make_gateway: Callable[..., RunningGateway]) -> None:
    keys = {"app": {"queued": 2}, "team": {"requests_per_minute": 1}}
    gateway = make_gateway(limits={"keys": keys})
    with gateway.http() as http, gateway.http("team") as team:
        assert [ask(http).status_code for _ in range(3)] == [200, 200, 429]
        assert ask(team).status_code == 200
        refused = ask(team)
        assert error(refused) == (429, "rate_limited", None)
        assert 1 <= int(refused.headers["Retry-After"]) <= 60


def test_cancel(http: httpx.Client, hands: Hands) -> None:
    waiting, running = ask(http).json()["id"], ask(http).json()["id"]
    first = hands.claim()
    assert first.id == waiting
    done = http.post(f"/v1/videos/{running}/cancel").json()
    assert (done["status"], done["error"]["code"]) == ("failed", "cancelled")
    assert http.post(f"/v1/videos/{first.id}/cancel").json()["status"] == "in_progress"
    assert hands.advance(first, 1), "the worker is told with its next step"
    assert hands.do(hands.queue.cancelled(first.id, "hands"))
    assert http.get(f"/v1/videos/{first.id}").json()["error"]["code"] == "cancelled"
    assert http.post("/v1/videos/video_unknown/cancel").status_code == 404


def test_a_deleted_video_leaves_nothing(
    gateway: RunningGateway, http: httpx.Client, hands: Hands
) -> None:
    done, running = (ask(http).json()["id"] for _ in range(2))
    hands.complete(hands.claim())
    job = hands.claim()
    for video in (done, running):
        assert http.delete(f"/v1/videos/{video}").json()["deleted"] is True
        assert http.delete(f"/v1/videos/{video}").status_code == 404
    assert hands.advance(job, 1), "the worker stops"
    hands.do(hands.queue.cancelled(job.id, "hands"))
    hands.tidy()
    assert not list(gateway.store.list(f"{gateway.service.prefix}/videos/"))


def test_the_photo_goes_with_the_end_of_the_job(
    gateway: RunningGateway, http: httpx.Client, hands: Hands
) -> None:
    ask(http)
    job = hands.claim()
    assert job.order.image is not None
    hands.complete(job)
    hands.tidy()
    assert gateway.store.stat(job.order.image) is None
    kept = [each.key.rpartition("/")[2] for each in gateway.store.list(gateway.service.prefix)]
    assert kept == ["thumbnail.webp", "video.mp4"]


def test_a_photo_that_no_job_owns_is_swept(
    gateway: RunningGateway, http: httpx.Client, hands: Hands
) -> None:
    """As a gateway leaves it that dies before it queues the job."""
    queued = ask(http).json()["id"]
    folder = f"{gateway.service.prefix}/videos"
    gateway.store.put_bytes(f"{folder}/video_lost/first-frame.png", b"a photo")
    upkeep = hands.upkeep()
    hands.do(upkeep.sweep())
    assert len(list(gateway.store.list(folder))) == 2, "it may be on its way"
    hands.do(upkeep.sweep())
    (kept,) = gateway.store.list(folder)
    assert kept.key == f"{folder}/{queued}/first-frame.png"


def test_events_tell_every_change_to_the_end(http: httpx.Client, hands: Hands) -> None:
    video = ask(http).json()["id"]
    seen: list[dict[str, Any]] = []
    with http.stream("GET", f"/v1/videos/{video}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if not line.startswith("data: "):
                continue
            seen.append(json.loads(line.removeprefix("data: ")))
            if len(seen) == 1:
                job = hands.claim()
            elif seen[-1]["status"] == "in_progress" and seen[-1]["step"] is None:
                hands.advance(job, 2)
            elif seen[-1]["status"] == "in_progress":
                hands.complete(job)
    assert [each["status"] for each in seen] == [
        "queued",
        "in_progress",
        "in_progress",
        "completed",
    ]
    assert (seen[0]["queue_position"], seen[2]["step"], seen[2]["stage"]) == (1, 2, "denoising")
    assert seen[2]["eta_seconds"] == 1.0


@pytest.mark.parametrize(
    ("wanted", "status", "body"),
    [
        (None, 200, b"0123456789"),
        ("bytes=0-3", 206, b"0123"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=4-99", 206, b"456789"),
        ("bytes=4-2", 200, b"0123456789"),
        ("bytes=000-00000000000000000000001", 206, b"01"),
        (f"bytes=8-{'9' * 5000}", 206, b"89"),
        ("lines=1-2", 200, b"0123456789"),
    ],
)
def test_ranges(
    completed: str, http: httpx.Client, wanted: str | None, status: int, body: bytes
) -> None:
    headers = {} if wanted is None else {"Range": wanted}
    answer = http.get(f"/v1/videos/{completed}/content", headers=headers)
    assert (answer.status_code, answer.content) == (status, body)
    assert answer.headers["content-type"] == "video/mp4"
    assert ("content-range" in answer.headers) == (status == 206)


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=50-60", "bytes=-0", f"bytes={'9' * 5000}-"])
def test_a_range_behind_the_end(completed: str, http: httpx.Client, wanted: str) -> None:
    answer = http.get(f"/v1/videos/{completed}/content", headers={"Range": wanted})
    assert error(answer) == (416, "range_not_satisfiable", None)
    assert answer.headers["Content-Range"] == "bytes */10"


@pytest.fixture
def completed(http: httpx.Client, hands: Hands) -> str:
    video: str = ask(http).json()["id"]
    hands.complete(hands.claim(), b"0123456789")
    return video


def test_content_that_is_not_there(
    gateway: RunningGateway, completed: str, http: httpx.Client, hands: Hands
) -> None:
    path = f"/v1/videos/{completed}/content"
    assert error(http.get(path, params={"variant": "spritesheet"})) == (404, "not_found", "variant")
    assert error(http.get(path, params={"variant": "all"})) == (400, "invalid_request", "variant")
    gateway.store.delete([f"{gateway.service.prefix}/videos/{completed}/video.mp4"])
    assert error(http.get(path)) == (410, "gone", None)
    waiting = ask(http).json()["id"]
    early = http.get(f"/v1/videos/{waiting}/content")
    assert (error(early), "Retry-After" in early.headers) == ((409, "not_ready", None), False)
    hands.advance(hands.claim(), 1)
    early = http.get(f"/v1/videos/{waiting}/content")
    assert (early.status_code, early.headers["Retry-After"]) == (409, "1"), "as it is predicted"


def test_presigned(make_gateway: Callable[..., RunningGateway], make_hands: Any) -> None:
    gateway = make_gateway(results={"proxied": False})
    hands = make_hands(gateway)
    with gateway.http() as http:
        video = ask(http).json()["id"]
        hands.complete(hands.claim(), b"behind a URL")
        answer = http.get(f"/v1/videos/{video}/content")
        assert answer.status_code == 307
        assert httpx.get(answer.headers["location"], timeout=60).content == b"behind a URL"


DOT = np.zeros((1, 1, 3), np.uint8)
URL = "data:image/png;base64," + base64.b64encode(picture()).decode()
REFUSED: dict[str, tuple[bytes | None, dict[str, Any], tuple[int, str, str | None]]] = {
    "not an image": (b"hello", {}, (415, "unsupported_media_type", "input_reference")),
    "empty": (b"", {}, (400, "invalid_image", "input_reference")),
    "truncated": (PHOTO[:800], {}, (400, "invalid_image", "input_reference")),
    "60 megapixels": (png(DOT, size=(10_000, 6_000)), {},
                      (400, "invalid_image", "input_reference")),
    "bomb": (png(DOT, size=(60_000, 60_000)), {}, (400, "invalid_image", "input_reference")),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", {},
             (415, "unsupported_media_type", "input_reference")),
    "25 MB": (b"x" * 25_000_000, {}, (413, "payload_too_large", "input_reference")),
    "40 MB": (b"x" * 40_000_000, {}, (413, "payload_too_large", None)),
    "no image": (None, {}, (400, "invalid_request", "input_reference")),
    "a path": (None, {"input_reference": "/etc/passwd"},
               (400, "invalid_request", "input_reference.image_url")),
    "a URL": (None, {"input_reference": {"image_url": "https://example.com/a.png"}},
              (400, "invalid_request", "input_reference.image_url")),
    "a file id": (None, {"input_reference": {"file_id": "file-1"}},
                  (400, "not_supported", "input_reference.file_id")),
    "unknown size": (PHOTO, {"size": "64x64"}, (400, "invalid_request", "size")),
    "frames": (PHOTO, {"frames": "16"}, (400, "invalid_request", "frames")),
    "negative steps": (PHOTO, {"steps": "-4"}, (400, "invalid_request", "steps")),
    "unknown adapter": (PHOTO, {"adapters": '[{"name": "ghost"}]'},
                        (400, "invalid_request", "adapters")),
    "adapters that are no JSON": (PHOTO, {"adapters": "[{"}, (400, "invalid_request", "adapters")),
    "long prompt": (PHOTO, {"prompt": "a" * 2001}, (400, "invalid_request", "prompt")),
    "unknown field": (PHOTO, {"cfg": "1"}, (400, "invalid_request", "cfg")),
    "webhook": (PHOTO, {"webhook_url": "https://example.com"},
                (400, "invalid_request", "webhook_url")),
    "twice": (PHOTO, {"input_reference": URL}, (400, "invalid_request", "input_reference")),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(gateway: RunningGateway, http: httpx.Client, name: str) -> None:
    photo, fields, expected = REFUSED[name]
    assert error(ask(http, photo, **fields)) == expected
    assert not http.get("/v1/videos").json()["data"], "nothing was queued"
    assert not list(gateway.store.list(f"{gateway.service.prefix}/")), "and nothing kept"


def test_a_body_that_does_not_say_its_length_is_counted(http: httpx.Client) -> None:
    def body() -> Iterator[bytes]:
        yield b'{"prompt": "'
        for _ in range(40):
            yield b"a" * 1_000_000

    answer = http.post("/v1/videos", content=body(), headers={"Content-Type": "application/json"})
    assert "content-length" not in answer.request.headers
    assert error(answer) == (413, "payload_too_large", None)


def test_bodies_that_are_refused(http: httpx.Client) -> None:
    for body, kind, status, text in (
        (b'{"prompt":\n oops}', "application/json", 400, "is no JSON from line 2, column 2 on"),
        (b"\xff\xfe\xfd", "application/json", 400, "is no JSON"),
        (b"[" * 100_000, "application/json", 400, "is no JSON"),
        (b"[]", "application/json", 400, "must be a JSON object"),
        (b"--y\r\n", "multipart/form-data; boundary=x", 400, "the form cannot be read"),
        (b"", "multipart/form-data", 400, "the form cannot be read"),
        (b"a", "text/plain", 415, "not text/plain"),
        (b"", "application/x-www-form-urlencoded", 400, "input_reference is missing"),
        (b"prompt=%ff", "application/x-www-form-urlencoded", 400, "the form cannot be read"),
        (b"a=1&" * 65, "application/x-www-form-urlencoded", 400, "the form cannot be read"),
        (b'{"prompt": "a"}', "application/x-www-form-urlencoded", 400, "say Content-Type"),
    ):
        answer = http.post("/v1/videos", content=body, headers={"Content-Type": kind})
        assert error(answer)[0] == status
        assert text in answer.json()["error"]["message"]


def test_an_urlencoded_form_and_its_user(http: httpx.Client, hands: Hands) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    text = urlencode({"prompt": "a cat é", "input_reference": URL, "steps": 3, "user": "ann"})
    for body in (text, f"{text}&frames=5&num_frames=5"):
        made = http.post("/v1/videos", content=body.encode(), headers=kind).json()
        assert (made["prompt"], made["steps"], made["user"]) == ("a cat é", 3, "ann")
    assert http.get(f"/v1/videos/{made['id']}").json()["user"] == "ann"
    assert ask(http, user="x" * 257).status_code == 400
    hands.complete(hands.claim())
    done = http.get("/v1/videos", params={"order": "asc"}).json()["data"][0]["id"]
    for fields in ({"data": {"prompt": "b", "user": "bob"}}, {"files": {"prompt": (None, b"b")}}):
        remixed = http.post(f"/v1/videos/{done}/remix", **fields).json()
        assert (remixed["prompt"], remixed["user"]) == ("b", "bob" if "data" in fields else None)
    picture = {"input_reference": ("a.png", b"x")}
    for path in ("estimate", f"{done}/remix"):
        refused = http.post(f"/v1/videos/{path}", files=picture)
        assert error(refused) == (400, "invalid_request", "input_reference")
    estimated = http.post("/v1/videos/estimate", data={"num_frames": "5"}).json()
    assert estimated["frames"] == 5


def sent(http: httpx.Client, *headers: str, data: bytes = PHOTO) -> httpx.Response:
    """A form whose picture's part has these headers."""
    name, *more = headers
    head = "\r\n".join([f'Content-Disposition: form-data; name="input_reference"{name}', *more])
    body = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na cat\r\n--x\r\n'
    body += head.encode() + b"\r\n\r\n" + data + b"\r\n--x--\r\n"
    return http.post(
        "/v1/videos", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"}
    )


@pytest.mark.parametrize(
    "headers",
    [
        ("; filename=photo.jpg",),
        ("; filename=",),
        ("", "Content-Type: image/jpeg"),
        ("", "content-type: IMAGE/png"),
        ("; filename=photo", "Content-Type: application/octet-stream"),
    ],
)
def test_a_part_with_a_name_or_a_pictures_type_is_a_file(
    http: httpx.Client, headers: tuple[str, ...]
) -> None:
    large = picture(900, 700)
    assert len(large) < 2**20 < len(large + bytes(2**20))
    for data in (PHOTO, large + bytes(2**20)):
        assert sent(http, *headers, data=data).status_code == 200


def test_a_part_with_neither_is_told_what_it_lacks(http: httpx.Client) -> None:
    for headers in (("",), ("", "Content-Type: application/octet-stream")):
        for data in (PHOTO, picture(), PHOTO + bytes(2**20)):
            answer = sent(http, *headers, data=data)
            assert error(answer)[:2] == (400, "invalid_request")
            assert "filename" in answer.json()["error"]["message"]


def test_unknown_routes_and_methods(http: httpx.Client) -> None:
    assert error(http.get("/v2/videos"))[:2] == (404, "not_found")
    assert error(http.put("/v1/videos"))[:2] == (405, "invalid_request")
