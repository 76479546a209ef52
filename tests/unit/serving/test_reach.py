"""What gateway and worker make of the database before they begin."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore, free_port
from orders import sql
from postgres import Postgres
from running_gateway import service_spec
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.errors import InfrastructureError, InputError
from wan_runtime.serving import start
from wan_runtime.serving.queue import database
from wan_runtime.serving.reach import reach

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
async def test_a_refusal_is_told_at_once(
    postgres: Postgres, spec: ServiceSpec, guarded: tuple[str, str],
    login: str, name: str, said: str,
) -> None:  # fmt: skip
    names = dict(zip(("user", "database"), guarded, strict=True))
    login, name = login.format(**names), name.format(**names)
    url = f"postgresql://{login}@127.0.0.1:{postgres.port}/{name}"
    who = f"PostgreSQL at 127.0.0.1:{postgres.port} .database {name}, user {login.split(':')[0]}."
    with pytest.raises(InputError, match=f"^{who} refuses: {said}") as told:
        await reach(spec, url)
    assert told.value.message.endswith(" in WAN_DATABASE_URL, the key url of the database's Secret")
    assert "\n" not in told.value.message
    assert SECRET not in told.value.message


async def test_a_server_that_stays_away_is_told(spec: ServiceSpec) -> None:
    port = free_port()
    said = rf"PostgreSQL at 127.0.0.1:{port} \(database x, user ann\) is away .*, for 1 s: start it"
    with pytest.raises(InfrastructureError, match=said) as told:
        await reach(spec, f"postgresql://ann:{SECRET}@127.0.0.1:{port}/x", seconds=1)
    assert SECRET not in told.value.message


async def test_a_store_without_credentials_is_told(
    spec: ServiceSpec, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InfrastructureError, match="no credentials for http"):
        await reach(spec, postgres.url())


async def test_a_server_that_starts_is_awaited(
    spec: ServiceSpec, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with Postgres(hot_standby="off") as own:
        url = own.create("videos")
        own.kill()
        waiting = asyncio.create_task(reach(spec, url))
        await asyncio.to_thread(heard, caplog, "nothing listens there")
        own.stand_by()
        starting = asyncio.create_task(asyncio.to_thread(own.start))
        await asyncio.to_thread(heard, caplog, "the database system is")
        assert not waiting.done()
        own.promote()
        await asyncio.gather(waiting, starting)
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


async def test_a_pooler_that_drops_settings_is_refused(
    spec: ServiceSpec, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server with the settings that such a one passes on."""
    passed_on = {name: text for name, text in database.SETTINGS.items() if name != "search_path"}
    monkeypatch.setattr(database, "SETTINGS", passed_on)
    url = postgres.create(f"d{uuid4().hex}")
    with pytest.raises(InputError, match="not a pooler such as PgBouncer") as told:
        await reach(spec, url)
    assert "its search_path is" in told.value.message
    assert await sql(url, "select 1 from pg_tables where tablename = 'jobs'") == []


@pytest.mark.parametrize("command", ["gateway", "worker"])
def test_what_is_refused_is_the_last_word(
    command: str, postgres: Postgres, spec: ServiceSpec, tmp_path: Path
) -> None:
    file, words = tmp_path / "service.json", tmp_path / "last-words"
    file.write_text(spec.model_dump_json(by_alias=True))
    ended = subprocess.run(
        [sys.executable, "-m", "wan_runtime", command, "--service", str(file)],
        env={
            **os.environ,
            "WAN_DATABASE_URL": postgres.url("absent"),
            "WAN_TERMINATION_FILE": str(words),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (10, "")
    assert ' refuses: database "absent" does not exist: create the dat' in words.read_text()
