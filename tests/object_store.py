"""A real MinIO server on loopback. Named so because `minio` is the client's package."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from uuid import uuid4

from minio import Minio
from minio.credentials import StaticProvider
from minio.minioadmin import MinioAdmin

from ports import free_port
from starting import until_ready
from wan_runtime.contract.job import StoreSpec

ACCESS_KEY = "test-access"
SECRET_KEY = "test-secret-7f3a"
BUCKET = "wan"


def binary() -> str:
    """Path of the MinIO server. Fails rather than skips: a skipped store test proves nothing."""
    found = os.environ.get("WAN_MINIO") or shutil.which("minio")
    assert found, "no MinIO server: set WAN_MINIO to its binary, or put `minio` on PATH"
    return found


EVERYTHING = "arn:aws:s3:::*"


def policy(*actions: str, where: str = EVERYTHING) -> dict[str, object]:
    """A policy of MinIO that allows the actions there."""
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": [where]}
    return {"Version": "2012-10-17", "Statement": [statement]}


class ObjectStore:
    """Can be killed and started again on the same port with the same data."""

    def __init__(self, folder: Path, *, region: str = "") -> None:
        """`region`: the only one that it answers to; empty: it answers to all."""
        self._folder, self._region = folder, region
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
        process = self._process = subprocess.Popen(
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
                "MINIO_REGION": self._region,
                "GOMAXPROCS": "2",
            },
            stdout=self._log,
            stderr=self._log,
        )
        until_ready("MinIO", self._ready, lambda: process.poll() is None, Path(self._log.name))

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
            f"127.0.0.1:{self.port}",
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            secure=False,
            region=self._region or None,
        )

    def admin(self) -> MinioAdmin:
        """A client for users and policies."""
        return MinioAdmin(
            endpoint=f"127.0.0.1:{self.port}",
            credentials=StaticProvider(ACCESS_KEY, SECRET_KEY),
            secure=False,
        )

    def user_who_may(self, folder: Path, *actions: str, where: str = EVERYTHING) -> tuple[str, str]:
        """Access key and secret key of a new user with a policy. `folder`: for the policy's
        file; `actions`: such as s3:GetObject."""
        name, secret = f"user-{uuid4().hex[:8]}", uuid4().hex
        admin, file = self.admin(), folder / f"{name}.json"
        file.write_text(json.dumps(policy(*actions, where=where)))
        admin.user_add(access_key=name, secret_key=secret)
        admin.policy_add(policy_name=name, policy_file=str(file))
        admin.attach_policy(policies=[name], user=name)
        return name, secret

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
