"""Keys, rates, signatures and what clients are shown."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from wan_runtime.contract.service import Profile, Size
from wan_runtime.rendering.order import Advance, Job, Rendered, Stage, State, VideoOrder
from wan_runtime.serving.gateway import addresses, video_response, webhooks
from wan_runtime.serving.gateway.keys import Key, Keys
from wan_runtime.serving.gateway.predict import Predictor
from wan_runtime.serving.gateway.rates import Rates
from wan_runtime.serving.planned import Workers
from wan_runtime.serving.problems import Code, Refusal
from wan_runtime.serving.webhook_secret import WebhookSecret

ORDER = VideoOrder(
    prompt="a cat", negative_prompt="", size=Size(width=832, height=480), frames=81, fps=16,
    steps=40, guidance=3.5, guidance_low=3.5, shift=5, seed=1, model="studio",
)  # fmt: skip
NOW = datetime(2026, 11, 23, tzinfo=UTC)


def job(state: State, **change: object) -> Job:
    return Job.model_validate(
        {
            "id": "video_1", "owner": "app", "state": state, "order": ORDER, "priority": 0,
            "predicted_seconds": 100.0, "created_at": NOW, **change,
        }
    )  # fmt: skip


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """As the kubelet mounts a Secret: links through a folder that it swaps."""
    (tmp_path / "..2026").mkdir()
    for name, key in {"app": "wan-key-1\n", "team": "wan-key-2", "empty": ""}.items():
        (tmp_path / "..2026" / name).write_text(key)
        os.symlink(f"..2026/{name}", tmp_path / name)
    return Keys(tmp_path, "uid-1")


def test_a_key_has_the_name_of_its_file(keys: Keys) -> None:
    assert keys.caller("Bearer wan-key-1").name == "app"
    assert keys.caller("bearer  wan-key-2 ").name == "team"


def test_an_id_goes_with_the_key_and_not_with_its_name(keys: Keys, tmp_path: Path) -> None:
    before = keys.caller("Bearer wan-key-1")
    (tmp_path / "renamed").write_text("wan-key-1")
    (tmp_path / "app").unlink()
    (tmp_path / "app").write_text("wan-key-9")
    assert keys.caller("Bearer wan-key-1") == Key("renamed", before.id)
    assert keys.caller("Bearer wan-key-9").id != before.id
    assert keys.ids()["renamed"] == before.id
    elsewhere = Keys(tmp_path, "uid-2").caller("Bearer wan-key-1")
    assert elsewhere.id != before.id, "rows of two services do not tell that they share a key"
    assert "wan-key-1" not in before.id


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic wan-key-1", "wan-key-1", "Bearer wan-key-3",
     "Bearer wan-key", "Bearer ключ"],
)  # fmt: skip
def test_keys_that_are_refused(keys: Keys, header: str | None) -> None:
    with pytest.raises(Refusal) as caught:
        keys.caller(header)
    assert caught.value.code is Code.INVALID_API_KEY
    assert caught.value.status == 401


def test_a_key_that_is_taken_out_ends(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "app").unlink()
    with pytest.raises(Refusal):
        keys.caller("Bearer wan-key-1")


def test_a_minute_slides() -> None:
    rates = Rates()
    assert [rates.wait("app", 2, now) for now in (0.0, 10.0)] == [0.0, 0.0]
    assert rates.wait("app", 2, 20.0) == 40.0
    assert rates.wait("team", 2, 20.0) == 0.0
    assert rates.wait("app", 2, 60.5) == 0.0
    assert rates.wait("app", 2, 61.0) == 9.0, "what was refused did not count"


def test_signatures_are_those_of_standard_webhooks() -> None:
    # The example of the specification's reference implementations.
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    signature = webhooks.sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    plain = webhooks.sign("not base64 at all", "msg", 1, body)
    assert len(base64.b64decode(plain.removeprefix("v1,"))) == 32


@pytest.mark.parametrize(
    ("url", "secret", "text"),
    [
        ("https://example.com/hook", "", "no webhook secret"),
        ("http://example.com/hook", "secret", "webhook_url must begin with https"),
        ("https://10.0.0.1/hook", "secret", "webhook_url names an address that is not public"),
        (
            "https://hooks.team-a.svc/",
            "secret",
            "hooks.team-a.svc, .* spec.gateway.webhookPrivateH",
        ),
        ("https://rebound.example/", "secret", "rebound.example, a host whose address is not pub"),
    ],
)
async def test_receivers_that_are_refused(
    url: str, secret: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(*_: Any, **__: Any) -> Any:
        return [(2, 1, 6, "", ("10.0.0.7", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    with pytest.raises(Refusal, match=text):
        await webhooks.check_receiver(url, WebhookSecret(secret), addresses.NONE)
    listed = addresses.PrivateHosts.of(["10.0.0.0/24", "*.team-a.svc"])
    if secret and url.startswith("https"):
        await webhooks.check_receiver(url, WebhookSecret(secret), listed)


async def test_a_receiver_whose_name_does_not_resolve_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    await webhooks.check_receiver(
        "https://example.com/hook", WebhookSecret("secret"), addresses.NONE
    )


@pytest.mark.parametrize(
    ("state", "advance", "progress"),
    [
        (State.QUEUED, None, 0),
        (State.RUNNING, None, 0),
        (State.RUNNING, Advance(stage=Stage.LOADING), 1),
        (State.RUNNING, Advance(stage=Stage.DENOISING, step=20, steps=40), 45),
        (State.RUNNING, Advance(stage=Stage.DENOISING, step=40, steps=40), 90),
        (State.RUNNING, Advance(stage=Stage.DECODING), 90),
        (State.RUNNING, Advance(stage=Stage.WRITING), 97),
        (State.COMPLETED, Advance(stage=Stage.WRITING), 100),
        (State.FAILED, Advance(stage=Stage.WRITING), 0),
    ],
)
def test_progress(state: State, advance: Advance | None, progress: int) -> None:
    assert video_response.progress(job(state, advance=advance)) == progress


def test_states_are_the_four_that_clients_wait_for() -> None:
    cancelled = video_response.video(job(State.CANCELLED))
    assert (cancelled.status, cancelled.error and cancelled.error.code) == ("failed", "cancelled")
    running = video_response.video(job(State.RUNNING))
    assert (running.status, running.seconds, running.eta_seconds) == ("in_progress", "5", 100.0)
    queued = video_response.video(job(State.QUEUED), position=3, starts_in=20.0)
    assert (queued.queue_position, queued.eta_seconds) == (3, 120.0)


@pytest.mark.parametrize(
    ("chosen", "rendered", "answered"),
    [
        (None, None, None),
        ("Fast", None, "fast"),
        (None, "Balanced", "balanced"),
        ("Lossless", "Exact", "exact"),
    ],
)
def test_an_answer_names_what_a_video_was_rendered_with(
    chosen: Profile | None, rendered: Profile | None, answered: str | None
) -> None:
    order = ORDER.model_copy(update={"profile": chosen})
    assert video_response.video(job(State.QUEUED, order=order)).quality == (
        chosen and chosen.lower()
    )
    made = Rendered(files={}, bytes=1, sha256="0" * 64, seconds={}, profile=rendered)
    completed = video_response.video(job(State.COMPLETED, order=order, rendered=made))
    assert completed.quality == answered, "workers of earlier releases do not tell"


def test_predictions_follow_what_is_seen() -> None:
    predictor = Predictor(Workers(preset="Wan2.2-I2V-A14B"))
    planned = predictor.seconds(ORDER)
    short = ORDER.model_copy(update={"frames": 41})
    assert 0.2 * planned < predictor.seconds(short) < 0.5 * planned
    rendered = Rendered(
        files={}, bytes=1, sha256="0" * 64,
        seconds={Stage.DENOISING: 2 * planned, Stage.WRITING: 500.0},
    )  # fmt: skip
    for _ in range(3):
        predictor.learn(job(State.COMPLETED, rendered=rendered))
    assert predictor.seconds(ORDER) == pytest.approx(2 * planned)
    assert predictor.seconds(short) == pytest.approx(2 * predictor.planned(short))
    half = rendered.model_copy(update={"seconds": {Stage.DENOISING: planned / 2}})
    fast = {"profile": "Fast"}
    predictor.learn(job(State.COMPLETED, order=ORDER.model_copy(update=fast), rendered=half))
    assert predictor.seconds(ORDER) == pytest.approx(2 * planned)
    assert predictor.seconds(ORDER.model_copy(update=fast)) == pytest.approx(planned / 2)
    quick = short.model_copy(update=fast)
    factor = planned / 2 / predictor.planned(ORDER.model_copy(update=fast))
    assert predictor.seconds(quick) == pytest.approx(factor * predictor.planned(quick))


def test_steps_that_are_left_out_take_no_time() -> None:
    profiles: tuple[Profile, ...] = ("Lossless", "Balanced", "Fast")
    orders = [ORDER.model_copy(update={"profile": each}) for each in profiles]
    whole, half, least = map(Predictor(Workers(preset="Wan2.2-I2V-A14B")).seconds, orders)
    assert 0.41 < half / whole < 0.43, "20 of 40 steps, each faster, and all of the decoding"
    assert 0.29 < least / whole < 0.31
    fast = Predictor(Workers(preset="Wan2.2-I2V-A14B", profile="Fast"))
    assert fast.seconds(ORDER) == least, "as the service has it"
    spent = {Stage.DENOISING: 160.0, Stage.DECODING: 3.0}
    rendered = Rendered(files={}, bytes=1, sha256="0" * 64, seconds=spent)
    fast.learn(job(State.COMPLETED, rendered=rendered))
    twenty = ORDER.model_copy(update={"steps": 20})
    assert fast.seconds(twenty) == pytest.approx(163.0), "16 steps of 20, too"
    estimated = Predictor(Workers(preset="Wan2.2-I2V-A14B", profile="Fast", policy="EasyCache"))
    assert estimated.seconds(ORDER) > 2 * least, "nobody knows how many it leaves out"


def test_what_other_workers_rendered_says_nothing() -> None:
    """A service that went from one GPU a worker to two must not be told of twice the seconds."""
    predictor = Predictor(Workers(preset="Wan2.2-I2V-A14B", gpus=2))
    planned = predictor.seconds(ORDER)
    slow = Rendered(
        files={}, bytes=1, sha256="0" * 64, seconds={Stage.DENOISING: 5 * planned},
        preset="Wan2.2-I2V-A14B", profile="Lossless", gpus=1, computed=40,
    )  # fmt: skip
    for change in ({}, {"gpus": 2, "preset": "Wan2.1-I2V-14B-720P"}):
        predictor.learn(job(State.COMPLETED, rendered=slow.model_copy(update=change)))
    assert predictor.seconds(ORDER) == planned
    exact = slow.model_copy(update={"gpus": 2, "profile": "Exact"})
    predictor.learn(job(State.COMPLETED, rendered=exact))
    factor = predictor.seconds(ORDER) / planned
    by_exact = Predictor(Workers(preset="Wan2.2-I2V-A14B", gpus=2, profile="Exact"))
    assert factor == pytest.approx(5 * planned / by_exact.planned(ORDER)), "of its own profile"
    ours = slow.model_copy(update={"gpus": 2})
    predictor.learn(job(State.COMPLETED, rendered=ours))
    assert predictor.seconds(ORDER) == pytest.approx(5 * planned), "a profile's own go first"


def test_a_clip_like_the_last_ones_takes_its_steps_by_their_seconds() -> None:
    predictor = Predictor(Workers(preset="Wan2.1-I2V-Tiny"))
    for step, decoding in ((0.5, 3.0), (0.4, 2.0), (9.0, 50.0)):
        spent = {Stage.DENOISING: 4 * step, Stage.DECODING: decoding, Stage.WRITING: 7.0}
        rendered = Rendered(files={}, bytes=1, sha256="0" * 64, seconds=spent)
        brief = ORDER.model_copy(update={"steps": 4})
        predictor.learn(job(State.COMPLETED, order=brief, rendered=rendered))
    assert predictor.seconds(ORDER) == pytest.approx(ORDER.steps * 0.5 + 3.0)
    unguided = ORDER.model_copy(update={"guidance": 1.0, "guidance_low": 1.0})
    assert predictor.seconds(unguided) < 0.9 * predictor.seconds(ORDER), "planned"
