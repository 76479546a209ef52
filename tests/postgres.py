"""A real PostgreSQL server on loopback, of Debian's package unless WAN_POSTGRES names another."""

from __future__ import annotations

import os
import pwd
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from ports import free_port
from starting import until_ready

USER = "wan"
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    # A killed process loses nothing that it gave to the kernel; only a machine's end would.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
}


def programs() -> Path:
    """Folder of the server's programs: WAN_POSTGRES, or the newest of Debian's. Fails rather than
    skips."""
    if named := os.environ.get("WAN_POSTGRES"):
        return Path(named)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_version)
    assert found, "no PostgreSQL server: apt-get install postgresql"
    return found[-1].parent


def _version(program: Path) -> int:
    return int(program.parts[-3])


def _owner() -> tuple[int, int]:
    """User and group of the server: those of Debian's package, or nobody's."""
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    found = names.get("postgres") or names["nobody"]
    return found.pw_uid, found.pw_gid


class Postgres:
    """Can be killed and started again on the same port with the same data."""

    def __init__(self, **options: str) -> None:
        self._options = OPTIONS | options
        self._bin = programs()
        # The server refuses to run as root, and its user can't enter pytest's folders.
        owner = _owner() if os.geteuid() == 0 else (None, None)
        self._user: int | None = owner[0]
        self._group: int | None = owner[1]
        self._folder = Path(tempfile.mkdtemp(prefix="wan-postgres-"))
        self._log = (self._folder / "log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        if self._user is not None and self._group is not None:
            os.chown(self._folder, self._user, self._group)

    def __enter__(self) -> Postgres:
        self._run("initdb", "--no-sync", "-A", "trust", "-U", USER, "-E", "UTF8", "--locale=C")
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._log.close()
        shutil.rmtree(self._folder)

    def url(self, database: str = "postgres") -> str:
        """As WAN_DATABASE_URL has it."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """URL of a new, empty database."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, database)
        return self.url(database)

    def ask_password_of(self, user: str, password: str) -> None:
        """A role without rights, that is admitted with its password only."""
        self._run(*self._psql(USER), "-c", f"create role {user} login password '{password}'")
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"host all {user} all scram-sha-256\n{rules.read_text()}")
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)
        admitted = [str(self._bin / "psql"), *self._psql(user)[1:], "-w", "-c", ""]
        while subprocess.run(admitted, check=False, capture_output=True).returncode == 0:
            time.sleep(0.02)  # it reads its rules when it gets to it

    def _psql(self, user: str) -> tuple[str, ...]:
        return ("psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", user, "-d", "postgres")

    def stand_by(self) -> None:
        """From its next start on it refuses everybody as if it were still starting; needs the
        option hot_standby=off."""
        (self._data / "standby.signal").touch()

    def promote(self) -> None:
        """It is a server like others again."""
        (self._data / "promote").touch()
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = [part for item in self._options.items() for part in ("-c", "=".join(item))]
        process = self._process = subprocess.Popen(
            [
                *(str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self.port)),
                *("-k", str(self._folder), *options),
            ],
            stdout=self._log,
            stderr=self._log,
            user=self._user,
            group=self._group,
            cwd=self._folder,
        )
        until_ready("PostgreSQL", self._ready, lambda: process.poll() is None, self._folder / "log")

    def kill(self) -> None:
        """Kill all of its processes outright, as a lost node does."""
        if self._process is None:
            return
        postmaster = self._process.pid
        # Stopped first, so that it starts no process between the listing and the killing.
        os.kill(postmaster, signal.SIGSTOP)
        os.waitid(os.P_PID, postmaster, os.WSTOPPED)
        listed = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        alive = [os.pidfd_open(pid) for pid in (*map(int, listed), postmaster)]
        for process in alive:
            signal.pidfd_send_signal(process, signal.SIGKILL)
        # A new server refuses to start while any of the old one still holds its memory.
        for process in alive:
            select.select([process], [], [])
            os.close(process)
        self._process.wait()
        self._process = None

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _ready(self) -> bool:
        asked = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._bin / program), *arguments],
            env={**os.environ, "PGDATA": str(self._data)},
            user=self._user,
            group=self._group,
            cwd=self._folder,
            check=True,
            stdout=self._log,
            stderr=self._log,
        )
