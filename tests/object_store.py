"""A real MinIO server on loopback. Named so because `minio` is the client's package."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

from minio import Minio

from wan_runtime.contract.job import StoreSpec

ACCESS_KEY = "test-access"
SECRET_KEY = "test-secret-7f3a"
BUCKET = "wan"


def binary() -> str:
    """Path of the MinIO server. Fails rather than skips: a skipped store test proves nothing."""
    found = os.environ.get("WAN_MINIO") or shutil.which("minio")
    assert found, "no MinIO server: set WAN_MINIO to its binary, or put `minio` on PATH"
    return found


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ObjectStore:
    """Can be killed and started again on the same port with the same data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._log = (folder.parent / f"{folder.name}.log").open("ab")
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> ObjectStore:
        self.start()
        self.client().make_bucket(BUCKET)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._log.close()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            [
                binary(),
                "server",
                "--quiet",
                "--address",
                f"127.0.0.1:{self.port}",
                str(self._folder),
            ],
            env={
                **os.environ,
                "MINIO_ROOT_USER": ACCESS_KEY,
                "MINIO_ROOT_PASSWORD": SECRET_KEY,
                "MINIO_BROWSER": "off",
                "GOMAXPROCS": "2",
            },
            stdout=self._log,
            stderr=self._log,
        )
        deadline = time.monotonic() + 60
        while not self._ready():
            assert self._process.poll() is None, f"MinIO ended; see {self._log.name}"
            assert time.monotonic() < deadline, f"MinIO is not ready; see {self._log.name}"
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it outright, as a lost node does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def spec(self, bucket: str = BUCKET, prefix: str = "") -> StoreSpec:
        """For Store.connect."""
        return StoreSpec(endpoint=self.endpoint, bucket=bucket, prefix=prefix)

    def client(self) -> Minio:
        """The plain client, for what a Store cannot do."""
        return Minio(
            f"127.0.0.1:{self.port}", access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=False
        )

    def _ready(self) -> bool:
        # Not health/ready: that comes earlier, and a bucket made in between may take 60 s.
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/minio/health/cluster")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()
