"""What a video would take, told before it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from object_store import BUCKET
from orders import sign
from running_gateway import Hands, RunningGateway
from unit.serving.test_gateway import ask, error

pytest_plugins = ["gateway_fixtures"]


def estimate(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = http.post("/v1/videos/estimate", json=fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_it_is_what_the_video_is_then_told(hands: Hands, http: httpx.Client) -> None:
    hands.do(hands.queue.alive(sign("hands")))
    ask(http)
    told = estimate(http, prompt="a dog", steps=8)
    made = ask(http, prompt="a dog", steps="8").json()
    assert (told["queue_position"], made["queue_position"]) == (2, 2)
    assert told["predicted_seconds"] == made["predicted_seconds"]
    wait = told["starts_in_seconds"] + told["predicted_seconds"]
    assert wait == pytest.approx(made["eta_seconds"], abs=0.2)
    for field in ("model", "size", "seconds", "frames", "steps"):
        assert told[field] == made[field]
    assert len(http.get("/v1/videos").json()["data"]) == 2, "an estimate queues nothing"


def test_the_line_is_the_fair_one(gateway: RunningGateway, http: httpx.Client) -> None:
    for _ in range(3):
        ask(http)
    with gateway.http("team") as team:
        assert estimate(team)["queue_position"] == 2
    assert estimate(http)["queue_position"] == 4


def test_nobody_tells_when_no_worker_is_ready(http: httpx.Client) -> None:
    told = estimate(http)
    assert (told["queue_position"], told["starts_in_seconds"], told["cost"]) == (1, None, None)


def test_a_price_makes_a_cost(make_gateway: Callable[..., RunningGateway]) -> None:
    with make_gateway(price_per_hour=36.0).http() as http:
        told = estimate(http, steps=40)
    assert told["cost"] == pytest.approx(told["predicted_seconds"] * 0.01, abs=1e-3)
    assert told["cost"] > 0


def test_what_a_video_refuses_it_refuses(http: httpx.Client) -> None:
    for fields, param in (
        ({"size": "64x64"}, "size"), ({"steps": 0}, "steps"), ({"frames": 6}, "frames"),
        ({"seed": 2**32}, "seed"),  # it would draw the noise of 0
        ({"prompt": "x" * 2001}, "prompt"), ({"adapters": [{"name": "unknown"}]}, "adapters"),
        ({"picture": "x"}, "picture"),
    ):  # fmt: skip
        answer = http.post("/v1/videos/estimate", json=fields)
        assert error(answer) == (400, "invalid_request", param)


def test_previews_of_effects(make_gateway: Callable[..., RunningGateway]) -> None:
    preview = {"kept": f"s3://{BUCKET}/previews/kept.mp4", "web": "https://example.com/web.mp4"}
    effects = [{"name": name, "preview": uri} for name, uri in preview.items()]
    gateway = make_gateway(effects=effects)
    gateway.store.put_bytes("previews/kept.mp4", b"clip")
    with gateway.http() as http:
        found = http.get("/v1/models/kept/preview")
        assert (found.content, found.headers["Content-Type"]) == (b"clip", "video/mp4")
        for name in ("web", "nothing", gateway.service.name):
            assert error(http.get(f"/v1/models/{name}/preview")) == (404, "not_found", "model")
        gateway.store.delete(["previews/kept.mp4"])
        assert error(http.get("/v1/models/kept/preview"))[:2] == (410, "gone")
    assert httpx.get(f"{gateway.url}/v1/models/kept/preview", timeout=60).status_code == 401
