"""What the image of PostgreSQL starts with, on this machine's own programs of that package."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from ports import free_port
from postgres import programs

USER = "postgres" if os.geteuid() == 0 else None
START = Path(__file__).parents[3] / "images" / "postgres" / "start.sh"


@pytest.fixture
def folder() -> Iterator[Path]:
    """That the server's user may enter: it refuses to be root."""
    with tempfile.TemporaryDirectory(prefix="wan-postgres-") as made:
        shutil.copy(START, made)
        # Of a start that was killed half-way.
        half = Path(made) / "pgdata.new"
        half.mkdir()
        (half / "PG_VERSION").write_text("15\n")
        if USER:
            for path in (Path(made), half):
                shutil.chown(path, USER, USER)
        yield Path(made)


@contextmanager
def running(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """As the container starts it, until it is told to stop."""
    server = subprocess.Popen(
        ["sh", "start.sh", "-p", str(port), "-k", str(folder), "-c", "fsync=off"],
        env={
            "PATH": f"{programs()}:{os.environ['PATH']}",
            "PGDATA": str(folder / "pgdata"),
            "POSTGRES_USER": "wan",
            "POSTGRES_PASSWORD": "first",
            "POSTGRES_DB": "videos",
        },
        cwd=folder,
        user=USER,
        group=USER,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield server
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(300) == 0


async def ask(
    server: subprocess.Popen[bytes], port: int, query: str, password: str = "first"
) -> list[asyncpg.Record]:
    """Over the network's rules, once it listens."""
    while True:
        try:
            connection = await asyncpg.connect(
                host="127.0.0.1", port=port, user="wan", password=password, database="videos"
            )
        except (OSError, asyncpg.CannotConnectNowError):
            assert server.poll() is None, "it ended"
            await asyncio.sleep(0.05)
            continue
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()


async def test_a_database_is_made_once_and_kept(folder: Path) -> None:
    port = free_port()
    with running(folder, port) as server:
        await ask(server, port, "CREATE TABLE kept AS SELECT 42 AS number")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await ask(server, port, "SELECT 1", password="wrong")
    assert not (folder / "pgdata.new").exists()
    with running(folder, port) as server:
        [row] = await ask(server, port, "SELECT number FROM kept")
    assert row["number"] == 42
