"""The whole product on a cluster: images, MinIO, the Helm release, a namespace for runs.

`Stack.ensure()` is idempotent and is shared by the demo and the tests. It uses the embedded cluster unless
`WAN_KUBECONFIG` names another one; that needs the images by reference, since nothing can be loaded into it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from minio import Minio

ROOT = Path(__file__).resolve().parent.parent
SYSTEM_NAMESPACE = "wan-system"
RELEASE = "wan-operator"
BUCKET = "wan"
ENDPOINT = "http://minio.minio.svc.cluster.local:9000"
STORE_SECRET = "wan-store"

Manifest = dict[str, Any]
Say = Callable[[str], None]


class CommandError(Exception):
    """A command that had to work did not; carries its stderr."""


def run(*command: str | Path, text: str | None = None, env: dict[str, str] | None = None) -> str:
    """Standard output of a command; CommandError with its last words if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        input=text,
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
    )
    if done.returncode:
        words = " ".join(str(word) for word in command[:6])
        raise CommandError(f"{words}: exit code {done.returncode}\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def wait_until(
    check: Callable[[], Any], *, seconds: float, what: str | Callable[[], str], every: float = 0.5
) -> Any:
    """First truthy answer of `check`; TimeoutError that says what did not happen."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := check():
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what if isinstance(what, str) else what()}")
        time.sleep(every)


@dataclass(frozen=True)
class Stack:
    kubeconfig: Path
    bin: Path
    """Folder with kubectl and helm."""
    runtime_image: str
    operator_image: str
    access_key: str
    secret_key: str

    @classmethod
    def ensure(cls, say: Say = lambda text: None) -> Stack:
        """Brings up whatever is missing; seconds when all is there."""
        foreign = os.environ.get("WAN_KUBECONFIG")
        say("cluster: checking, starting what is missing")
        embedded("up")
        if foreign:
            kubeconfig = Path(foreign)
            operator_image, runtime_image = (named_image(kind) for kind in ("OPERATOR", "RUNTIME"))
        else:
            kubeconfig = Path(embedded("kubeconfig").strip())
            say("images: checking, building what changed")
            operator_image, runtime_image = build_images()
        say("MinIO: checking")
        embedded("minio")
        credentials = json.loads(embedded("minio-credentials"))
        stack = cls(
            kubeconfig=kubeconfig,
            bin=Path(embedded("bin").strip()),
            runtime_image=runtime_image,
            operator_image=operator_image,
            access_key=credentials["accessKey"],
            secret_key=credentials["secretKey"],
        )
        say(f"operator: installing the chart into {SYSTEM_NAMESPACE}")
        stack.install()
        with stack.store() as store:
            if not store.bucket_exists(BUCKET):
                store.make_bucket(BUCKET)
        return stack

    def install(self, **values: str) -> None:
        """`helm upgrade --install` of our chart, waiting until the operator is ready."""
        repository, _, tag = self.operator_image.rpartition(":")
        settings = {
            "image.repository": repository,
            "image.tag": tag,
            "image.pullPolicy": "IfNotPresent",
            "runtime.image": self.runtime_image,
            "store.endpoint": ENDPOINT,
            "store.bucket": BUCKET,
            "store.secretName": STORE_SECRET,
            **values,
        }
        self.helm(
            "upgrade", "--install", RELEASE, ROOT / "charts" / "wan-operator",
            "--namespace", SYSTEM_NAMESPACE, "--create-namespace", "--wait", "--timeout", "180s",
            *(word for key, value in settings.items() for word in ("--set-string", f"{key}={value}")),
        )  # fmt: skip

    def helm(self, *arguments: str | Path) -> str:
        return run(self.bin / "helm", *arguments, env={"KUBECONFIG": str(self.kubeconfig)})

    def kubectl(self, *arguments: str | Path, text: str | None = None) -> str:
        return run(self.bin / "kubectl", "--kubeconfig", self.kubeconfig, *arguments, text=text)

    def get(self, *arguments: str) -> Manifest:
        """One object or list as it is in the API."""
        found: Manifest = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def apply(self, *manifests: Manifest) -> None:
        self.kubectl("apply", "-f", "-", text=yaml.safe_dump_all(manifests))

    def make_namespace(self, name: str) -> None:
        """A namespace under the restricted Pod Security level, with the store's credentials in it."""
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {
                    "name": name,
                    "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
                },
            },
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": STORE_SECRET, "namespace": name},
                "stringData": {"accessKey": self.access_key, "secretKey": self.secret_key},
            },
        )

    @contextlib.contextmanager
    def store(self) -> Iterator[Minio]:
        """The cluster's MinIO, through a port-forward that ends with the block."""
        command = [
            str(self.bin / "kubectl"), "--kubeconfig", str(self.kubeconfig),
            "-n", "minio", "port-forward", "svc/minio", ":9000",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                if "Forwarding from 127.0.0.1:" not in line:
                    process.kill()
                    _, complaint = process.communicate()
                    raise CommandError(f"port-forward to MinIO: {line}{complaint}")
                port = line.split("127.0.0.1:")[1].split(" ")[0]
                yield Minio(
                    endpoint=f"127.0.0.1:{port}",
                    access_key=self.access_key,
                    secret_key=self.secret_key,
                    secure=False,
                )
            finally:
                process.terminate()

    def upload(self, folder: Path, prefix: str) -> None:
        """Puts a folder's files below a key prefix of the bucket."""
        with self.store() as store:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    store.fput_object(BUCKET, f"{prefix}/{path.relative_to(folder)}", str(path))

    def conditions(self, namespace: str, name: str) -> dict[str, Manifest]:
        """Conditions of a WanFineTune by type."""
        status = self.get("-n", namespace, "wft", name).get("status", {})
        return {condition["type"]: condition for condition in status.get("conditions", [])}


def embedded(*arguments: str) -> str:
    """A command of the embedded cluster; its progress goes through to the terminal."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "e2e" / "cluster"), *arguments], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise CommandError(f"e2e/cluster {' '.join(arguments)}: exit code {done.returncode}")
    return done.stdout


def build_images() -> tuple[str, str]:
    """References of the operator and the runtime image of this tree, loaded into the cluster."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "images" / "build.py"), "operator", "runtime"],
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise CommandError("images/build.py failed; its log is above")
    operator_image, runtime_image = done.stdout.split()
    return operator_image, runtime_image


def named_image(kind: str) -> str:
    try:
        return os.environ[f"WAN_{kind}_IMAGE"]
    except KeyError:
        raise CommandError(
            f"WAN_KUBECONFIG is set: WAN_{kind}_IMAGE must name an image that this cluster can pull"
        ) from None
