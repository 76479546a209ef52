"""What a gateway shows the cluster on a port of its own, and never on the public one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from orders import sign
from running_gateway import Hands, RunningGateway
from unit.serving.test_gateway import ask
from wan_runtime.contract.report import ServiceReport
from wan_runtime.contract.rollout import Rollout, Track
from wan_runtime.serving.gateway import reporter, rollouts

pytest_plugins = ["gateway_fixtures"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "EVERY", 0.05)
    monkeypatch.setattr(rollouts, "EVERY", 0.05)


def until(gateway: RunningGateway, true: Callable[[ServiceReport], bool]) -> ServiceReport:
    """The first report of which it is."""
    deadline = time.monotonic() + 60
    while True:
        answer = gateway.page("/state")
        if answer.status_code == 200:
            report = ServiceReport.model_validate_json(answer.content)
            if true(report):
                return report
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.02)


def test_the_report_is_of_queue_workers_and_age(
    http: httpx.Client, gateway: RunningGateway, hands: Hands
) -> None:
    hands.do(hands.queue.alive(sign("hands-1", revision="5f")))
    ask(http)
    report = until(gateway, lambda each: each.queue.queued == 1)
    assert [(each.name, each.revision) for each in report.workers] == [("hands-1", "5f")]
    assert 0 <= report.age_seconds < 30
    hands.complete(hands.claim())
    report = until(gateway, lambda each: each.tracks[Track.STABLE].completed == 1)
    assert report.tracks[Track.STABLE].median_seconds == 2


def test_metrics(http: httpx.Client, gateway: RunningGateway) -> None:
    ask(http)
    http.get("/v1/videos/video_a")
    until(gateway, lambda report: report.queue.queued == 1)
    text = gateway.page("/metrics").text
    assert 'wan_queue_jobs{state="queued"} 1.0' in text
    assert "wan_queue_remaining_seconds 0.0" in text
    assert 'route="/v1/videos/{video_id}",status="404"' in text
    assert "video_a" not in text


def test_clients_see_none_of_it(http: httpx.Client, gateway: RunningGateway) -> None:
    for path in ("/metrics", "/state", "/healthz"):
        assert http.get(path).status_code == 404
        assert gateway.page(path).status_code == 200 or path == "/state"
    assert [http.get(path).status_code for path in ("/livez", "/readyz")] == [200, 200]


def test_it_says_why_there_is_no_report(
    make_gateway: Callable[..., RunningGateway], own_postgres: Any
) -> None:
    gateway = make_gateway(url=own_postgres.create("videos"), patience=0.5)
    until(gateway, lambda _: True)
    assert gateway.page("/readyz").status_code == 200
    own_postgres.kill()
    while (answer := gateway.page("/state")).status_code == 200:
        assert gateway.page("/healthz").status_code == 200
    assert answer.status_code == 503
    assert "is away (report: " in answer.text
    assert gateway.page("/readyz").status_code == 503
    assert gateway.page("/healthz").status_code == 200
    assert "wan_queue_jobs" not in gateway.page("/metrics").text
    own_postgres.start()
    until(gateway, lambda _: True)


def mount(folder: Path, number: int, text: str) -> None:
    """As the kubelet refreshes it: a new folder behind a link that is replaced in one step."""
    version = folder / f"..version-{number}"
    version.mkdir(parents=True)
    (version / "rollout.json").write_text(text)
    link = folder / "..new"
    link.symlink_to(version.name)
    link.rename(folder / "..data")
    file = folder / "rollout.json"
    if not file.is_symlink():
        file.symlink_to("..data/rollout.json")


def test_a_canary_gets_its_share(http: httpx.Client, gateway: RunningGateway, hands: Hands) -> None:
    assert until(gateway, lambda _: True).rollout == Rollout()
    mount(gateway.rollout, 1, '{"canary": "6a", "weight": 100}')
    report = until(gateway, lambda each: each.rollout.canary == "6a")
    assert set(report.tracks) == {Track.STABLE, Track.CANARY}
    video = ask(http).json()["id"]
    assert hands.do(hands.queue.claim("stable", 30, "5f")) is None
    mount(gateway.rollout, 2, '{"canary": "6a", "weight": "much"}')
    job = hands.do(hands.queue.claim("canary", 30, "6a"))
    assert job is not None
    assert job.id == video
    ask(http)
    mount(gateway.rollout, 3, '{"canary": null, "weight": 0}')
    until(gateway, lambda each: each.rollout == Rollout())
    assert hands.do(hands.queue.claim("stable", 30, "5f")) is not None


def test_a_late_mount_undoes_nothing(gateway: RunningGateway, hands: Hands) -> None:
    """Another gateway's mount was refreshed before this one's."""
    until(gateway, lambda _: True)
    hands.do(hands.queue.roll_out(Rollout(canary="6a", weight=5)))
    seen = until(gateway, lambda each: each.rollout.canary == "6a")
    until(gateway, lambda each: (each.time - seen.time).total_seconds() > 0.5)
    assert until(gateway, lambda _: True).rollout.canary == "6a"
