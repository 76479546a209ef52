"""What clients read of requests that cannot be used: the field, its value and what would be right,
for every text field of every route, in JSON and in forms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from running_gateway import RunningGateway
from unit.serving.test_gateway import PHOTO, ask, error
from wan_runtime.contract.service import LimitSpec
from wan_runtime.serving.gateway import addresses, references, video_request, webhooks
from wan_runtime.serving.gateway.video_request import Remix
from wan_runtime.serving.problems import Refusal
from wan_runtime.serving.webhook_secret import WebhookSecret
from words import library_words

pytest_plugins = ["gateway_fixtures"]

HALF = r"\ud83d"
NUL = r"\u0000"


def texts(model: type[BaseModel]) -> list[str]:
    """Fields that hold any text: names and choices are narrower."""
    narrow = {"pattern", "enum", "const"}
    return [
        name
        for name, field in model.model_json_schema()["properties"].items()
        for each in field.get("anyOf", [field])
        if each.get("type") == "string" and not each.keys() & narrow
    ]


def inputs() -> Iterator[tuple[str, str, str, str]]:
    """(name, path, body with TEXT in place of the text, field) of each field of each route."""
    create, estimate, remix = "/v1/videos", "/v1/videos/estimate", "/v1/videos/video_1/remix"
    for name in texts(video_request.Ask):
        for path in (create, estimate):
            body = json.dumps({"prompt": "a cat"} | {name: "TEXT"})
            yield f"{path} {name}", path, body, name
    for name in texts(video_request.Reference):
        body = json.dumps({"prompt": "a cat", "input_reference": {name: "TEXT"}})
        yield f"{create} {name}", create, body, f"input_reference.{name}"
    for name in texts(Remix):
        yield f"{remix} {name}", remix, json.dumps({"prompt": "a"} | {name: "TEXT"}), name
    adapter = {"prompt": "a cat", "adapters": [{"name": "TEXT"}]}
    yield "adapter", create, json.dumps(adapter), "adapters[0].name"


INPUTS = {name: each for name, *each in inputs()}


def test_every_text_field_is_among_them() -> None:
    assert texts(video_request.Ask) == [
        *("prompt", "model", "negative_prompt", "user", "webhook_url"),
    ]
    assert texts(video_request.Reference) == ["image_url", "file_id"]
    assert texts(Remix) == ["prompt", "user"]


def said(answer: httpx.Response, status: int = 400) -> str:
    """Its message, in words for people."""
    assert answer.status_code == status, answer.text
    message: str = answer.json()["error"]["message"]
    assert not library_words(message), message
    return message


def test_text_that_nothing_can_keep_is_refused_by_its_field(http: httpx.Client) -> None:
    json_kind = {"Content-Type": "application/json"}
    for name, (path, body, field) in INPUTS.items():
        for odd, right in ((HALF, "must be text in UTF-8"), (NUL, "without the character U+0000")):
            text = body.replace("TEXT", f"a {odd} b").encode()
            answer = http.post(path, content=text, headers=json_kind)
            assert error(answer) == (400, "invalid_request", field), name
            if field != "adapters[0].name":  # of a narrower form
                assert right in said(answer), name
    assert not http.get("/v1/videos").json()["data"], "nothing was queued"


@pytest.mark.parametrize("charset", ["", "; charset=unicode_escape"])
@pytest.mark.parametrize("odd", [HALF, NUL])
def test_so_it_is_in_forms(http: httpx.Client, charset: str, odd: str) -> None:
    fields = {
        **dict.fromkeys(texts(video_request.Ask), odd),
        "adapters": f'[{{"name": "{odd}"}}]',
        "input_reference[image_url]": odd,
        f"odd {odd}": "1",
    }
    for name, text in fields.items():
        if not charset and not name.startswith("adapters"):
            text = text.encode().decode("unicode_escape")
            if odd == HALF:
                continue  # no bytes of UTF-8 mean it
        lines = [f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n--x--\r\n']
        kind = {"Content-Type": f"multipart/form-data; boundary=x{charset}"}
        answer = http.post("/v1/videos", content=lines[0].encode(), headers=kind)
        message, field = said(answer), error(answer)[2] or ""
        if not name.startswith("odd"):
            assert field.startswith(name.split("[")[0]), message


BODIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "the body is"),
    "cut off": (b'{"prompt": "a', "is no JSON from"),
    "not UTF-8": (b'{"prompt": "\xff"}', "is no JSON in UTF-8"),
    "deep": (b"[" * 100_000, "is nested too deeply"),
    "a long number": (b'{"seed": ' + b"9" * 5000 + b"}", "a number of thousands of digits"),
    "a list": (b"[]", "must be"),
    "a number": (b"7", "must be"),
    "an unknown field": (b'{"prompt": "x", "cfg": 7}', "cfg: there is no such field"),
    "a list of text": (b'{"prompt": ["x"]}', 'prompt: must be text, not ["x"]'),
    "half a name": (b'{"prompt": "x", "\\ud800": 1}', "must be text in UTF-8"),
}


@pytest.mark.parametrize("path", ["/v1/videos", "/v1/videos/estimate", "/v1/videos/video_1/remix"])
def test_bodies(http: httpx.Client, path: str) -> None:
    for name, (body, words) in BODIES.items():
        answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
        message = said(answer)
        assert words in message, name
        assert not message.startswith((":", "must"))
        assert len(message) < 300, name


PARTS: dict[str, tuple[list[tuple[str, str]], str]] = {
    "twice": ([("prompt", "b")], "prompt is given twice"),
    "text and parts": ([("prompt[a]", "b")], "prompt is given twice"),
    "adapters as both": ([("adapters", "[]"), ("adapters[][name]", "x")], "adapters is given"),
    "adapters as a number": ([("adapters", "7")], "adapters: must be a list, not 7"),
    "adapters of text": ([("adapters", '["x"]')], "adapters[0]: must be an object"),
    "adapters too deep": ([("adapters", "[" * 100_000)], "is nested too deeply"),
    "adapters of a long number": ([("adapters", "9" * 5000)], "thousands of digits"),
    "adapters that end": ([("adapters", "[{")], "from line 1, column 3 on"),
    "only brackets": ([("[", "7")], "there is no such field"),
    "a part twice": (
        [("input_reference[image_url]", "a"), ("input_reference[image_url]", "b")],
        "image_url is given twice",
    ),
    "steps as text": ([("steps", "many")], 'steps: must be a whole number, not "many"'),
    "endless": ([("strength", "NaN"), ("fps", "inf")], "fps: must be"),
}


def test_forms(http: httpx.Client) -> None:
    for name, (parts, words) in PARTS.items():
        fields = [("prompt", "a cat"), *parts]
        files: Any = [(key, (None, value.encode())) for key, value in fields]
        message = said(http.post("/v1/videos", files=files))
        assert words in message, name
        assert len(message) < 300, name


ADDRESSES = [
    ("GET", "/v1/videos/a%00b", 400, "video_id must be text without the character U+0000"),
    ("DELETE", "/v1/videos/a%00b", 400, "video_id must be text"),
    ("POST", "/v1/videos/a%00b/cancel", 400, "video_id must be text"),
    ("GET", "/v1/videos/a%00b/content", 400, "video_id must be text"),
    ("GET", "/v1/videos?after=%00", 400, "after must be text"),
    ("GET", "/v1/videos?limit=ten", 400, 'limit: must be a whole number, not "ten"'),
    ("GET", "/v1/videos?order=up", 400, 'order: must be asc or desc, not "up"'),
    ("GET", "/v1/videos/%ff%fe", 404, "there is no video"),
    ("GET", "/v1/models/" + "x" * 400, 404, "there is no model"),
    ("GET", "/v1/models/a%00b", 400, "model must be text"),
    ("GET", "/v2/videos", 404, "there is no /v2/videos: /openapi.json"),
    ("PUT", "/v1/videos", 405, "/v1/videos takes"),
]


def test_addresses(http: httpx.Client) -> None:
    for method, path, status, words in ADDRESSES:
        message = said(http.request(method, path), status)
        assert words in message, path
        assert len(message) < 300, path


HOSTS = [
    "https://a..b/hook",
    "https://" + "a" * 64 + ".com/",
    "https://ex\ud83dample.com/",
    "https://[::1/",
    "https://example.com:99999/",
    "https://example.com:port/",
    "https://\u2100.com/",
    "https://",
    "https://./",
    "http://example.com/",
]


@pytest.mark.parametrize("url", HOSTS)
async def test_addresses_of_pictures_and_receivers(url: str) -> None:
    """One that no system resolves once ended the loop that sends webhooks."""
    with pytest.raises(Refusal) as refused:
        await references.read(url, LimitSpec(url_references=True))
    assert refused.value.param == references.PARAM
    assert not library_words(refused.value.message)
    with pytest.raises(Refusal) as refused:
        await webhooks.check_receiver(url, WebhookSecret("secret"), addresses.NONE)
    assert refused.value.param == "webhook_url"
    assert not library_words(refused.value.message)


def test_a_repeated_request_has_its_video_whatever_the_service_lost(
    gateway: RunningGateway, http: httpx.Client
) -> None:
    key = {"Idempotency-Key": "once"}
    first = ask(http, headers=key, adapters='[{"name": "fairy"}]').json()["id"]
    gateway.app.state.gateway.service = gateway.service.model_copy(
        update={"adapters": (), "effects": ()}
    )
    again = ask(http, headers=key, adapters='[{"name": "fairy"}]')
    assert (again.status_code, again.json().get("id")) == (200, first)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert error(ask(http, headers=key, adapters='[{"name": "ghost"}]'))[0] == 409
    assert error(ask(http, photo=PHOTO, adapters='[{"name": "fairy"}]'))[0] == 400
