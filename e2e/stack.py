"""The whole product on a cluster: images, MinIO, PostgreSQL, the Helm release, a namespace for runs
and services.

`Stack.ensure()` is idempotent and is shared by the demo and the tests. It uses the embedded cluster
unless `WAN_KUBECONFIG` names another one; that needs the images, a store and a database by name,
since nothing can be loaded into it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml
from kubernetes import config
from minio import Minio

from cluster import ClusterError, ensure_minio, ensure_postgres, ensure_up, layout_of, toolchain

ROOT = Path(__file__).resolve().parent.parent
SYSTEM_NAMESPACE = "wan-system"
RELEASE = "wan-operator"
BUCKET = "wan"
STORE_SECRET = "wan-store"
DATABASE_SECRET = "wan-database"
KEYS_SECRET = "wan-keys"
KEY_NAME = "demo"

PATIENCE = 1200.0
"""Seconds after which what has not come is given up. No measure of how long anything takes: a
machine of CI may be several times slower than the one at hand."""
TIMEOUT = f"--timeout={PATIENCE:.0f}s"
"""Of kubectl and helm."""

Manifest = dict[str, Any]
Say = Callable[[str], None]


class CommandError(Exception):
    """A command that had to work did not; carries its stderr."""


def status_of(main: Callable[[], int]) -> int:
    """Exit status of a program; what a person must know is a message, and no traceback."""
    try:
        return main()
    except (ClusterError, CommandError, TimeoutError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "stopped: what is built stays, and so does the cluster. The same command goes on from "
            "there; `make cluster-down` removes the cluster",
            file=sys.stderr,
        )
        return 130


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
    check: Callable[[], Any],
    *,
    what: str | Callable[[], str],
    seconds: float = PATIENCE,
    every: float = 0.5,
) -> Any:
    """First truthy answer of `check`; TimeoutError that says what did not happen."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := check():
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"not within {seconds:.0f} s: {what if isinstance(what, str) else what()}"
            )
        time.sleep(every)


@dataclass(frozen=True)
class Stack:
    kubeconfig: Path
    bin: Path
    """Folder with kubectl and helm."""
    runtime_image: str
    operator_image: str
    endpoint: str
    """Of the store, as pods reach it."""
    host_endpoint: str
    """Of the store, as this process reaches it."""
    access_key: str
    secret_key: str
    database_url: str
    """Of PostgreSQL, as pods reach it."""
    api_key: str
    """Of services in the namespaces of `make_namespace`."""

    @classmethod
    def ensure(cls, say: Say = lambda text: None, **values: str) -> Stack:
        """Brings up whatever is missing; seconds when all is there. `values`: the chart's."""
        say("cluster: checking, starting what is missing")
        kubeconfig = ensure_up()
        if os.environ.get("WAN_KUBECONFIG"):
            operator_image, runtime_image = named("OPERATOR_IMAGE"), named("RUNTIME_IMAGE")
            store = {key: named(f"STORE_{key.upper()}") for key in ("endpoint", "access", "secret")}
            store["host"] = os.environ.get("WAN_STORE_HOST_ENDPOINT", store["endpoint"])
            database_url = named("DATABASE_URL")
        else:
            say("images: checking, building what changed")
            operator_image, runtime_image = build_images()
            say("MinIO and PostgreSQL: checking")
            with ThreadPoolExecutor() as pool:
                database = pool.submit(ensure_postgres)
                keys = ensure_minio()
            database_url = database.result()["url"]
            store = {
                "endpoint": keys["endpoint"],
                "access": keys["accessKey"],
                "secret": keys["secretKey"],
                "host": keys["hostEndpoint"],
            }
        stack = cls(
            kubeconfig=kubeconfig,
            bin=toolchain.folder(),
            runtime_image=runtime_image,
            operator_image=operator_image,
            endpoint=store["endpoint"],
            host_endpoint=store["host"],
            access_key=store["access"],
            secret_key=store["secret"],
            database_url=database_url,
            # The same each time: a gateway that runs heeds another key only after a minute.
            api_key=hashlib.sha256(f"api {store['secret']}".encode()).hexdigest()[:32],
        )
        say(f"operator: installing the chart into {SYSTEM_NAMESPACE}")
        stack.install(**values)
        if not stack.store().bucket_exists(bucket_name=BUCKET):
            stack.store().make_bucket(bucket_name=BUCKET)
        return stack

    def install(self, **values: str) -> None:
        """`helm upgrade --install` of our chart, waiting until the operator is ready."""
        repository, _, tag = self.operator_image.rpartition(":")
        settings = {
            "image.repository": repository,
            "image.tag": tag,
            "image.pullPolicy": "IfNotPresent",
            "runtime.image": self.runtime_image,
            "store.endpoint": self.endpoint,
            "store.bucket": BUCKET,
            "store.secretName": STORE_SECRET,
            "database.secretName": DATABASE_SECRET,
            **values,
        }
        self.helm(
            "upgrade", "--install", RELEASE, ROOT / "charts" / "wan-operator",
            "--namespace", SYSTEM_NAMESPACE, "--create-namespace", "--wait", TIMEOUT,
            *(word for key, value in settings.items() for word in ("--set-string",
            f"{key}={value}")),
        )  # fmt: skip

    def operator_pod(self) -> str:
        """Name of the pod that runs, once there is one: what was just killed is replaced. One that
        was evicted may still be listed."""

        def running() -> list[str]:
            pods = self.get(
                "-n", SYSTEM_NAMESPACE, "pods", "-l", "app.kubernetes.io/name=wan-operator",
                "--field-selector=status.phase=Running",
            )["items"]  # fmt: skip
            metadata = [pod["metadata"] for pod in pods]
            return [each["name"] for each in metadata if "deletionTimestamp" not in each]

        [name] = wait_until(running, what="a pod of the operator runs")
        return str(name)

    def helm(self, *arguments: str | Path) -> str:
        return run(self.bin / "helm", *arguments, env={"KUBECONFIG": str(self.kubeconfig)})

    def kubectl(self, *arguments: str | Path, text: str | None = None) -> str:
        return run(self.bin / "kubectl", "--kubeconfig", self.kubeconfig, *arguments, text=text)

    def get(self, *arguments: str) -> Manifest:
        """One object or list as it is in the API."""
        found: Manifest = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def api(self, path: str, **query: str) -> Manifest:
        """What the API server answers to a GET. For what is asked several times a second: each
        process of kubectl takes a tenth of a second from the runs that are looked at.
        """
        client = api_client(self.kubeconfig)
        url = f"{client.configuration.host}{path}?{urlencode(query)}"
        answer = client.call_api("GET", url)
        content = answer.read()
        if answer.status >= 400:
            raise CommandError(f"GET {path}: {answer.status} {content.decode()[:500]}")
        found: Manifest = json.loads(content)
        return found

    def apply(self, *manifests: Manifest) -> None:
        self.kubectl("apply", "-f", "-", text=yaml.safe_dump_all(manifests))

    def make_namespace(self, name: str) -> None:
        """A namespace under the restricted Pod Security level, with what runs and services need in
        it: credentials of the store, the database's URL, an API key."""
        held = {
            STORE_SECRET: {"accessKey": self.access_key, "secretKey": self.secret_key},
            DATABASE_SECRET: {"url": self.database_url},
            KEYS_SECRET: {KEY_NAME: self.api_key},
        }
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {
                    "name": name,
                    "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
                },
            },
            *(
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": secret, "namespace": name},
                    "stringData": content,
                }
                for secret, content in held.items()
            ),
        )
        # Controllers make them, a moment later; without the account no pod is made.
        made = ("serviceaccount/default", "configmap/kube-root-ca.crt")
        words = ("-n", name, "get", *made, "--ignore-not-found", "-o", "name")
        wait_until(
            lambda: len(self.kubectl(*words).splitlines()) == len(made),
            what=f"{' and '.join(made)} in {name}",
        )

    def kill(self, namespace: str, pod: str) -> None:
        """SIGKILL to the container, as when the node loses power.

        A pod deleted by force still gets SIGTERM and two seconds, in which training saves a
        checkpoint: that costs no retry and is no fault.
        """
        [container] = self.get("-n", namespace, "pod", pod)["status"]["containerStatuses"]
        identity = container["containerID"].removeprefix("containerd://")
        run("ctr", "--address", layout_of().containerd_socket, "-n", "k8s.io",
            "tasks", "kill", "--signal", "SIGKILL", identity)  # fmt: skip

    def store(self) -> Minio:
        """The bucket's server, from this side of the cluster's network."""
        scheme, _, host = self.host_endpoint.partition("://")
        return Minio(
            endpoint=host,
            access_key=self.access_key,
            secret_key=self.secret_key,
            secure=scheme == "https",
        )

    def upload(self, folder: Path, prefix: str) -> None:
        """Puts a folder's files below a key prefix of the bucket."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(folder)}"
                self.store().fput_object(bucket_name=BUCKET, object_name=key, file_path=str(path))

    def committed(self, artifact: Manifest) -> dict[str, bytes]:
        """Files of an artifact, each checked against its manifest, the manifest against
        `artifact`; CommandError names what does not match."""
        key = artifact["uri"].removeprefix(f"s3://{BUCKET}/")
        folder = key.rpartition("/")[0]
        listed = json.loads(self.read(key, artifact["sha256"]))["files"]
        files = {f["path"]: self.read(f"{folder}/{f['path']}", f["sha256"]) for f in listed}
        for file in listed:
            if len(files[file["path"]]) != file["bytes"]:
                raise CommandError(f"{file['path']} is not of the size in its manifest")
        return files

    def read(self, key: str, sha256: str) -> bytes:
        """An object of the bucket, of the checksum promised."""
        answer = self.store().get_object(bucket_name=BUCKET, object_name=key)
        try:
            content: bytes = answer.read()
        finally:
            answer.close()
            answer.release_conn()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise CommandError(f"s3://{BUCKET}/{key} does not match the checksum in its manifest")
        return content


@functools.cache
def api_client(kubeconfig: Path) -> Any:
    return config.new_client_from_config(str(kubeconfig))


def build_images() -> tuple[str, str]:
    """References of the operator and the runtime image of this tree, in the embedded cluster."""
    done = subprocess.run(
        [sys.executable, ROOT / "images" / "build.py", "operator", "runtime"],
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise CommandError("images/build.py failed; its log is above")
    operator_image, runtime_image = done.stdout.split()
    return operator_image, runtime_image


def named(variable: str) -> str:
    """A WAN_ variable that a cluster of the user's own needs."""
    try:
        return os.environ[f"WAN_{variable}"]
    except KeyError:
        raise CommandError(
            f"WAN_KUBECONFIG is set, so WAN_{variable} must be too: the demo loads no images and "
            "deploys no store and no database into a cluster of yours (docs/quickstart.md)"
        ) from None
