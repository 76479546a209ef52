"""What gateway and worker make of the database before they begin."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest

from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from orders import sql
from ports import free_port
from postgres import Postgres
from running_gateway import plain, service_spec
from wan_runtime.contract.reasons import GatewayReason
from wan_runtime.contract.report import Fault, GatewayState
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.errors import InputError
from wan_runtime.process.pages import Page
from wan_runtime.serving import reach as reach_module
from wan_runtime.serving import start
from wan_runtime.serving.queue import database
from wan_runtime.serving.reach import Wait, opened, reach

SECRET = "s3cr3t"


@pytest.fixture
def spec(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ServiceSpec:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    return service_spec(server, "reached")


@pytest.fixture
def guarded(postgres: Postgres) -> tuple[str, str]:
    """A role that needs its password, and a database that lets nobody make a schema."""
    user, database = f"u{uuid4().hex}", f"d{uuid4().hex}"
    postgres.ask_password_of(user, SECRET)
    postgres.create(database)
    return user, database


@pytest.mark.parametrize(
    ("login", "name", "said"),
    [
        ("{user}:wrong", "{database}", "password authentication failed .* correct user or pass"),
        ("nobody", "{database}", 'role "nobody" does not exist: let the server admit this user'),
        ("wan", "absent", 'database "absent" does not exist: create the database, or name another'),
        ("{user}:s3cr3t", "{database}", "permission denied for database .*: grant this user CONN"),
    ],
    ids=["password", "user", "database", "right"],
)
async def test_a_refusal_is_said_at_once(
    postgres: Postgres, spec: ServiceSpec, guarded: tuple[str, str],
    login: str, name: str, said: str,
) -> None:  # fmt: skip
    names = dict(zip(("user", "database"), guarded, strict=True))
    login, name = login.format(**names), name.format(**names)
    url = f"postgresql://{login}@127.0.0.1:{postgres.port}/{name}"
    who = f"PostgreSQL at 127.0.0.1:{postgres.port} .database {name}, user {login.split(':')[0]}."
    fault = await first_fault(spec, url)
    assert fault.reason is GatewayReason.DATABASE_REFUSED
    assert re.match(f"{who} refuses: {said}", fault.message)
    assert fault.message.endswith(" in WAN_DATABASE_URL, the key url of the database's Secret")
    assert "\n" not in fault.message
    assert SECRET not in fault.message


async def first_fault(spec: ServiceSpec, url: str) -> Fault:
    """Why the first try fails."""
    found = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(reach(url, partial(opened, spec), found.set_result))
    try:
        return cast(Fault, await found)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_server_that_is_away_is_said(spec: ServiceSpec) -> None:
    port = free_port()
    fault = await first_fault(spec, f"postgresql://ann:{SECRET}@127.0.0.1:{port}/x")
    assert fault.reason is GatewayReason.DATABASE_UNREACHABLE
    said = rf"PostgreSQL at 127.0.0.1:{port} \(database x, user ann\) is away \(connect: nothing"
    assert re.match(said, fault.message)
    assert SECRET not in fault.message


async def test_tables_of_a_newer_release_are_said(spec: ServiceSpec, postgres: Postgres) -> None:
    url = postgres.create(f"d{uuid4().hex}")
    await (await opened(spec, url)).close()
    await sql(url, "insert into wan_video.migrations (number, breaking) values (99, true)")
    fault = await first_fault(spec, url)
    assert fault.reason is GatewayReason.DATABASE_REFUSED
    assert "has migration 99" in fault.message


async def test_the_mounted_secret_is_followed(
    spec: ServiceSpec, postgres: Postgres, guarded: tuple[str, str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """From one mistake to the next, each logged once, to the queue."""
    monkeypatch.setattr(reach_module, "PAUSE_SECONDS", 0.02)
    file, wait = tmp_path / "url", Wait()
    monkeypatch.setenv("WAN_DATABASE_URL_FILE", str(file))
    user, database = guarded
    address = f"127.0.0.1:{postgres.port}/{database}"
    file.write_text(f"postgresql://{user}:wrong@{address}")
    tries = 0

    def because(fault: Fault) -> None:
        nonlocal tries
        wait.because(fault)
        tries += 1
        if tries == 3:
            file.write_text(f"mysql://{user}:{SECRET}@{address}")
        if tries == 6:
            file.write_text(f"{postgres.url(database)}\n")

    queue = await reach("postgresql://none@127.0.0.1/none", partial(opened, spec), because)
    await queue.close()
    said = [record.message for record in caplog.records if "DatabaseRefused" in record.message]
    assert ["password authentication failed" in each for each in said] == [True, False]
    assert "is not postgresql://USER:PASSWORD@HOST[:PORT]/DATABASE" in said[1]
    assert SECRET not in caplog.text


async def test_a_worker_that_waits_lives_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = Wait()
    pages = wait.pages()
    assert [pages[path]()[0] for path in ("/healthz", "/readyz", "/metrics")] == [200, 503, 200]
    assert state_of(pages) == GatewayState()
    fault = Fault.of(GatewayReason.DATABASE_REFUSED, "no password")
    wait.because(fault)
    assert state_of(pages) == GatewayState(faults=(fault,))
    now = time.monotonic() + reach_module.SILENCE
    monkeypatch.setattr(reach_module.time, "monotonic", lambda: now)
    assert pages["/healthz"]()[0] == 503, "it hangs"


def state_of(pages: dict[str, Page]) -> GatewayState:
    return GatewayState.model_validate_json(pages["/state"]()[2])


async def test_a_server_that_starts_is_awaited(
    spec: ServiceSpec, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach_module, "PAUSE_SECONDS", 0.05)
    caplog.set_level(logging.WARNING)
    wait = Wait()
    with Postgres(hot_standby="off") as own:
        url = own.create("videos")
        own.kill()
        waiting = asyncio.create_task(reach(url, partial(opened, spec), wait.because))
        await asyncio.to_thread(heard, caplog, "nothing listens there")
        own.stand_by()
        starting = asyncio.create_task(asyncio.to_thread(own.start))
        await asyncio.to_thread(heard, caplog, "the database system is")
        assert not waiting.done()
        own.promote()
        await starting
        await (await waiting).close()
        assert await sql(url, "select 1 from wan_video.migrations")


def heard(caplog: pytest.LogCaptureFixture, word: str) -> None:
    """Waits until the log has it."""
    while word not in caplog.text:
        time.sleep(0.02)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mysql://wan@db/videos",
        "db:5432/videos",
        "postgresql:///videos",
        f"postgresql://wan:{SECRET}/x@db/videos",
        f"postgresql://wan:{SECRET}#@db/videos",
        f"postgresql://wan:77?{SECRET}@db/videos",
        "postgresql://wan@db:port/videos",
    ],
)
def test_a_url_that_is_none_is_told_without_itself(
    spec: ServiceSpec, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "service.json"
    file.write_text(spec.model_dump_json(by_alias=True))
    monkeypatch.setenv("WAN_DATABASE_URL", url)
    with pytest.raises(InputError, match=r"postgresql://USER:PASSWORD@HOST\[:PORT\]/") as told:
        start.given(argparse.Namespace(service=file))
    assert SECRET not in str(told.value)


@pytest.mark.parametrize("mounted", [True, False])
async def test_a_mounted_url_that_is_none_is_waited_for(
    spec: ServiceSpec, mounted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be mended; `mounted`: the kubelet has put the key there."""
    service, file = tmp_path / "service.json", tmp_path / "url"
    service.write_text(spec.model_dump_json(by_alias=True))
    if mounted:
        file.write_text("db:5432/videos")
    monkeypatch.setenv("WAN_DATABASE_URL", "db:5432/videos")
    monkeypatch.setenv("WAN_DATABASE_URL_FILE", str(file))
    _, url = start.given(argparse.Namespace(service=service))
    fault = await first_fault(spec, url)
    assert fault.reason is GatewayReason.DATABASE_REFUSED
    assert "is not postgresql://USER:PASSWORD@HOST[:PORT]/DATABASE" in fault.message


async def test_a_pooler_that_drops_settings_is_refused(
    spec: ServiceSpec, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server with the settings that such a one passes on."""
    passed_on = {name: text for name, text in database.SETTINGS.items() if name != "search_path"}
    monkeypatch.setattr(database, "SETTINGS", passed_on)
    url = postgres.create(f"d{uuid4().hex}")
    fault = await first_fault(spec, url)
    assert "not a pooler such as PgBouncer" in fault.message
    assert "its search_path is" in fault.message
    assert await sql(url, "select 1 from pg_tables where tablename = 'jobs'") == []


def test_a_worker_waits_and_stops_on_request(
    postgres: Postgres, spec: ServiceSpec, tmp_path: Path
) -> None:
    file, words, port = tmp_path / "service.json", tmp_path / "last-words", free_port()
    file.write_text(spec.model_dump_json(by_alias=True))
    with (
        subprocess.Popen(
            [sys.executable, "-m", "wan_runtime", "worker", "--service", str(file)],
            env={
                **os.environ,
                "WAN_DATABASE_URL": postgres.url("absent"),
                "WAN_PROGRESS_PORT": str(port),
                "WAN_TERMINATION_FILE": str(words),
            },
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
        ExitStack() as stack,
    ):
        stack.callback(process.kill)
        assert process.stdout is not None
        said = next(line for line in process.stdout if "DatabaseRefused" in line)
        assert ' refuses: database \\"absent\\" does not exist: create the dat' in said
        with plain(f"http://127.0.0.1:{port}") as http:
            state = GatewayState.model_validate_json(http.get("/state").content)
            assert [each.reason for each in state.faults] == [GatewayReason.DATABASE_REFUSED]
            assert [http.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 503]
        process.terminate()
        process.communicate(timeout=300)
    assert (process.returncode, words.exists()) == (0, False)
