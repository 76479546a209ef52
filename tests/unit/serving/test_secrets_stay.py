"""Values of Secrets are in no answer, page, log or last words of a pod, whatever fails."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from job_files import make_job
from object_store import ObjectStore
from orders import sql
from postgres import Postgres
from running_gateway import RunningGateway
from unit.serving.test_gateway import ask
from unit.serving.test_gateway_pages import faulty, quick, reasons
from wan_runtime.artifacts.credentials import VARIABLES
from wan_runtime.errors import StepError, classify
from wan_runtime.process import step as process_step
from wan_runtime.process.progress import Reporter
from wan_runtime.serving import start
from wan_runtime.serving.database_url import checked
from wan_runtime.serving.webhook_secret import WebhookSecret

pytest_plugins = ["gateway_fixtures"]
__all__ = ["quick"]

ACCESS, SECRET, TOKEN = "planted-access-1d", "planted-secret-1d", "planted-token-1d"
PASSWORD, API_KEY, SIGNING = "planted-password-1d", "planted-api-key-1d", "planted-signing-1d"
PLANTED = (ACCESS, SECRET, TOKEN, PASSWORD, API_KEY, SIGNING)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Takes what else was said; with all logs of all libraries it must hold nothing planted."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger().setLevel(logging.DEBUG)
    found: list[str] = []
    yield found
    assert found
    texts = [*found, *(record.getMessage() for record in caplog.records), caplog.text]
    leaks = {value: text for text in texts for value in PLANTED if value in text}
    assert leaks == {}


def plant(patch: pytest.MonkeyPatch, *values: str) -> None:
    for name, value in zip(VARIABLES.values(), values, strict=False):
        patch.setenv(name, value)


@pytest.fixture(scope="module")
def reader(server: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The planted user, who may only read."""
    admin, file = server.admin(), tmp_path_factory.mktemp("policy") / "policy.json"
    statement = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::*"]}
    file.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    admin.user_add(access_key=ACCESS, secret_key=SECRET)
    admin.policy_add(policy_name=ACCESS, policy_file=str(file))
    admin.attach_policy(policies=[ACCESS], user=ACCESS)


@pytest.mark.parametrize(
    "values",
    [
        (ACCESS, SECRET),
        (ACCESS, SECRET, TOKEN),
        (f"{ACCESS}-unknown", SECRET),
        (ACCESS, f"{SECRET}-wrong"),
        (ACCESS, f"{SECRET}\u00e9"),
        (ACCESS, f"{SECRET}\nsecond"),
        (f"{ACCESS}/odd=,", SECRET),
        (ACCESS, ""),
    ],
)
@pytest.mark.usefixtures("reader")
def test_of_steps(
    server: ObjectStore, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch,
    values: tuple[str, ...],
) -> None:  # fmt: skip
    plant(monkeypatch, *values)
    job = make_job(store=server.spec(prefix="runs").model_dump())
    with pytest.raises(StepError) as caught:
        process_step.perform(job, tmp_path, Reporter(job.step_id))
    said += [classify(caught.value).message, repr(caught.value)]


@pytest.mark.usefixtures("reader")
async def test_of_gateways(
    make_gateway: Callable[..., RunningGateway], postgres: Postgres, said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    user, name = f"u{uuid4().hex[:8]}", f"d{uuid4().hex[:8]}"
    postgres.ask_password_of(user, PASSWORD)
    postgres.create(name)
    await sql(postgres.url(), f"alter database {name} owner to {user}")
    plant(monkeypatch, ACCESS, SECRET)
    url = f"postgresql://{user}:{PASSWORD}@127.0.0.1:{postgres.port}/{name}"
    gateway = make_gateway(url=url, secret=SIGNING, patience=3)
    (gateway.keys / "planted").write_text(API_KEY)
    (gateway.keys / "twin").write_text(API_KEY)
    (gateway.keys / "lines").write_text(f"{API_KEY}\n{API_KEY}")
    with gateway.http() as http:
        http.headers["Authorization"] = f"Bearer {API_KEY}"
        faulty(gateway, lambda each: reasons(each) == ["StoreAccessDenied"])
        answers = [
            http.get("/v1/videos"), ask(http), ask(http, webhook_url="http://127.0.0.1/hook"),
            http.get("/v1/models"), http.get("/openapi.json"), http.get("/v1/videos/video_none"),
        ]  # fmt: skip
        said += [answer.text for answer in answers]
        await sql(postgres.url(), f"alter role {user} password 'another'")
        others = "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1"
        await sql(postgres.url(), others, user)
        faulty(gateway, lambda each: "DatabaseRefused" in reasons(each))
        refused = http.get("/v1/videos")
        assert refused.status_code == 503
        said += [refused.text, str(refused.headers)]
        said += [gateway.page(path).text for path in ("/state", "/metrics")]
        for path in gateway.keys.iterdir():
            path.write_text(f"{API_KEY}\u00e9")
        faulty(gateway, lambda each: "NoAPIKey" in reasons(each))
        said += [gateway.page("/state").text, http.get("/v1/videos").text]


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ann:{PASSWORD}@db/videos?sslmode=on",
        f"postgresql://ann:{PASSWORD}/x@db/videos",
        f"postgresql://ann:{PASSWORD}?x@db/videos",
        f"postgresql://ann:77?{PASSWORD}=x&a=b@db/videos",
        f"postgresql://ann:{PASSWORD}#@db/videos",
        f"mysql://ann:{PASSWORD}@db/videos",
        f"postgresql://db/videos?password={PASSWORD}&odd=1",
        f"postgresql://ann:{PASSWORD}@[::1/videos",
        PASSWORD,
    ],
)
def test_of_connection_strings_and_signing_keys(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    file, words = tmp_path / "service.json", tmp_path / "last-words"
    file.write_text('{"name": 1}')
    monkeypatch.setenv("WAN_TERMINATION_FILE", str(words))
    monkeypatch.setenv("WAN_DATABASE_URL", url)
    monkeypatch.setenv("WAN_WEBHOOK_SECRET", f"whsec_{SIGNING}x")
    for action in (
        lambda: checked(url),
        WebhookSecret.given,
        lambda: start.given(argparse.Namespace(service=file)),
    ):
        with pytest.raises(StepError) as caught:
            action()
        start.ended(caught.value.message, caught.value.exit_class)
        said.append(words.read_text())
