"""What a gateway shows the cluster on a port of its own, and never on the public one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from object_store import ObjectStore
from orders import sign, sql
from postgres import Postgres
from running_gateway import Hands, RunningGateway
from unit.serving.test_gateway import ask
from wan_runtime.contract.reasons import GatewayReason, Reason
from wan_runtime.contract.report import Fault, GatewayState, ServiceReport
from wan_runtime.contract.rollout import Rollout, Track
from wan_runtime.serving import reach
from wan_runtime.serving.gateway import checks, reporter, rollouts

pytest_plugins = ["gateway_fixtures"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "EVERY", 0.05)
    monkeypatch.setattr(checks, "EVERY", 0.05)
    monkeypatch.setattr(checks, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(rollouts, "EVERY", 0.05)
    monkeypatch.setattr(reach, "PAUSE_SECONDS", 0.05)


def until(gateway: RunningGateway, true: Callable[[ServiceReport], bool]) -> ServiceReport:
    """The first report of which it is."""
    deadline = time.monotonic() + 60
    while True:
        answer = gateway.page("/state")
        if answer.status_code == 200:
            report = GatewayState.model_validate_json(answer.content).service
            if report is not None and true(report):
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
        assert gateway.page(path).status_code == 200
    assert [http.get(path).status_code for path in ("/livez", "/readyz")] == [200, 200]


def faulty(gateway: RunningGateway, true: Callable[[tuple[Fault, ...]], bool]) -> list[Fault]:
    """The first faults of which it is."""
    deadline = time.monotonic() + 60
    while True:
        answer = gateway.page("/state")
        state = GatewayState.model_validate_json(answer.content)
        if true(state.faults):
            return list(state.faults)
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.02)


def reasons(faults: tuple[Fault, ...]) -> list[str]:
    return [fault.reason.value for fault in faults]


def test_it_says_why_there_is_no_report(
    make_gateway: Callable[..., RunningGateway], own_postgres: Any
) -> None:
    gateway = make_gateway(url=own_postgres.create("videos"), patience=3)
    until(gateway, lambda _: True)
    assert gateway.page("/readyz").status_code == 200
    own_postgres.kill()
    [fault] = faulty(gateway, bool)
    assert fault.reason is GatewayReason.DATABASE_UNREACHABLE
    assert "is away (report: " in fault.message
    assert gateway.page("/healthz").status_code == 200
    assert gateway.page("/readyz").status_code == 503
    assert 'wan_gateway_fault{reason="DatabaseUnreachable"} 1.0' in gateway.page("/metrics").text
    assert "wan_queue_jobs" not in gateway.page("/metrics").text
    own_postgres.start()
    until(gateway, lambda _: True)
    faulty(gateway, lambda faults: not faults)


def test_it_serves_once_its_database_is_made(
    make_gateway: Callable[..., RunningGateway], postgres: Postgres
) -> None:
    name = f"d{uuid4().hex[:8]}"
    gateway = make_gateway(url=postgres.url(name), is_admitted=False)
    [fault] = faulty(gateway, bool)
    assert fault.reason is GatewayReason.DATABASE_REFUSED
    assert f'database "{name}" does not exist: create the database, or name an' in fault.message
    assert [gateway.page(path).status_code for path in ("/healthz", "/readyz")] == [200, 503]
    with gateway.http() as http:
        assert http.get("/livez").status_code == 200
        for path in ("/readyz", "/health", "/v1/videos", "/openapi.json", "/studio/", "/nothing"):
            assert (path, http.get(path).status_code) == (path, 503)
        refused = ask(http)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "service_unavailable"
        assert "retry-after" not in refused.headers, "waiting does not help its client"
        postgres.create(name)
        until(gateway, lambda _: True)
        assert ask(http).status_code == 200
        assert http.get("/readyz").status_code == 200
    assert gateway.page("/readyz").status_code == 200


def test_a_database_that_only_reads_or_refuses_is_a_fault(
    make_gateway: Callable[..., RunningGateway], postgres: Postgres
) -> None:
    url = postgres.create(name := f"d{uuid4().hex[:8]}")
    gateway = make_gateway(url=url, patience=3)
    until(gateway, lambda _: True)

    def change(what: str) -> None:
        asyncio.run(sql(postgres.url(), f"alter database {name} {what}"))
        others = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1"
        asyncio.run(sql(postgres.url(), others, name))

    change("set default_transaction_read_only = on")
    # On a busy machine, that it gave no answer in time may come first.
    refusal = "cannot execute UPDATE in a read-only transaction"
    found = faulty(gateway, lambda each: any(refusal in fault.message for fault in each))
    assert reasons(found) == ["DatabaseUnreachable"]
    change("reset default_transaction_read_only")
    faulty(gateway, lambda faults: not faults)
    asyncio.run(sql(postgres.url(), f"drop database {name} with (force)"))
    found = faulty(gateway, lambda each: "DatabaseRefused" in reasons(each))
    assert f'database "{name}" does not exist: create the database' in found[0].message
    with gateway.http() as http:
        refused = http.get("/v1/videos")
    assert refused.status_code == 503
    assert "Retry-After" not in refused.headers
    assert refused.headers["x-should-retry"] == "false"
    assert "waiting does not help" in refused.text


def test_what_the_store_refuses_is_a_fault_until_it_is_mended(
    make_gateway: Callable[..., RunningGateway], own_store: ObjectStore, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    bucket = {**own_store.spec(prefix="serving").model_dump(), "bucket": "later"}
    gateway = make_gateway(store=bucket)
    [fault] = faulty(gateway, bool)
    assert fault.reason is Reason.STORE_NOT_FOUND
    assert fault.message == f"{own_store.endpoint} has no bucket 'later': create it"
    assert 'wan_gateway_fault{reason="StoreNotFound"} 1.0' in gateway.page("/metrics").text
    with gateway.http() as http:
        health = http.get("/health")
        assert (health.status_code, health.text) == (503, "StoreNotFound\n")
        assert http.get("/readyz").status_code == 200
        refused = ask(http)
        assert refused.status_code == 503
        assert "Retry-After" not in refused.headers
        assert refused.headers["x-should-retry"] == "false"
        own_store.client().make_bucket("later")
        faulty(gateway, lambda faults: not faults)
        assert ask(http).status_code == 200
        assert http.get("/health").status_code == 200
    own_store.kill()
    [fault] = faulty(gateway, bool)
    assert fault.reason is Reason.STORE_UNREACHABLE
    own_store.start()
    faulty(gateway, lambda faults: not faults)
    access, secret = own_store.user_who_may(tmp_path, "s3:GetObject", "s3:ListBucket")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", access)
        patch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        reader = make_gateway(store=own_store.spec(prefix="serving").model_dump())
    [fault] = faulty(reader, bool)
    assert fault.reason is Reason.STORE_ACCESS_DENIED
    assert "s3:PutObject of 'serving/media/" in fault.message
    assert "Access Denied" in fault.message
    with reader.http() as http:
        assert "Retry-After" not in ask(http).headers


def test_keys_that_no_request_can_match_are_a_fault(gateway: RunningGateway) -> None:
    faulty(gateway, lambda faults: not faults)
    for path in gateway.keys.iterdir():
        path.unlink()
    [fault] = faulty(gateway, bool)
    assert fault.reason is GatewayReason.NO_API_KEY
    assert "keysSecretRef: there is none, so every request is refused" in fault.message
    (gateway.keys / "app").write_text("two\nlines of a s3cr3t")
    [fault] = faulty(gateway, lambda each: bool(each) and "several lines" in each[0].message)
    assert "s3cr3t" not in fault.message
    (gateway.keys / "app").write_text("a-key\n")
    faulty(gateway, lambda faults: not faults)


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
    began = "2026-01-01T00:00:00Z"
    mount(gateway.rollout, 1, f'{{"canary": "6a", "weight": 100, "begun": "{began}"}}')
    report = until(gateway, lambda each: each.rollout.begun is not None)
    assert report.rollout == Rollout(canary="6a", weight=100, begun=began)
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
