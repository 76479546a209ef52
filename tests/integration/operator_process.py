"""The operator as a process, and the controllers of Kubernetes that its tests need."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from forked_modules import Forked
from integration.apiserver import ApiServer, stop
from ports import free_port

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 180.0
GET_SECONDS = 30.0
END_SECONDS = 40.0


def eventually(probe: Callable[[], T | None], what: str, seconds: float = WAIT_SECONDS) -> T:
    """The first true answer of `probe`; fails with the last answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}; last: {answer!r}"
        time.sleep(0.05)  # between two looks at the condition


def wait_served(server: ApiServer, names: str) -> None:
    """Until kubectl knows these kinds: a moment after their CRDs are established."""
    eventually(
        lambda: server.kubectl("get", names, check=False).returncode == 0, "the CRDs to be served"
    )


@contextmanager
def controllers(server: ApiServer, *others: str) -> Iterator[None]:
    """The controllers of Jobs and Deployments, HorizontalPodAutoscalers and the garbage collector
    of Kubernetes, and others by their names."""
    port = free_port()
    names = (
        *("job-controller", "deployment-controller", "replicaset-controller"),
        *("horizontal-pod-autoscaler-controller", "garbage-collector-controller", *others),
    )
    command = [
        str(server.binaries / "kube-controller-manager"),
        f"--kubeconfig={server.kubeconfig}",
        f"--controllers={','.join(names)}",
        "--horizontal-pod-autoscaler-sync-period=1s",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={server.folder}/kcm",
    ]
    with open(server.folder / "kube-controller-manager.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        stop(process)


@dataclass
class Operator:
    """`python -m wan_operator run`."""

    server: ApiServer
    namespace: str
    settings: dict[str, str] = field(default_factory=dict)
    kubeconfig: Path | None = None
    process: Forked | subprocess.Popen[bytes] | None = None
    port: int = 0
    starts: int = 0
    is_fork: bool = True
    """Of this process, whose imports it shares, and whose memory counts as its own."""

    def start(self) -> Operator:
        self.port = free_port()
        self.starts += 1
        defaults = {
            "WAN_OPERATOR_IMAGE": "registry.example/wan-operator@sha256:0",
            "WAN_RUNTIME_IMAGE": "registry.example/wan-runtime@sha256:0",
            "WAN_NAMESPACE": self.namespace,
            "WAN_WATCH_NAMESPACES": self.namespace,
            "WAN_POD_NAME": f"operator-of-{self.namespace}",
            "WAN_STORE_ENDPOINT": "http://minio:9000",
            "WAN_STORE_BUCKET": "wan",
            "WAN_STORE_SECRET": "minio",
            "WAN_HEALTH_PORT": str(self.port),
            "WAN_RETRY_BASE_SECONDS": "0.5",
            "WAN_PROGRESS_SECONDS": "1",
            "WAN_LOG_FORMAT": "text",
            # A machine that is busy for some seconds ends no operator.
            "WAN_LEASE_SECONDS": "60",
        }
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}/operator:{ROOT}/runtime",
            "KUBECONFIG": str(self.kubeconfig or self.server.kubeconfig),
            "HOME": str(self.server.folder),
            **defaults,
            **self.settings,
        }
        with open(self.log, "ab") as log:
            if self.is_fork:
                self.process = Forked(
                    "wan_operator", "run", shares="wan_operator.process", env=environment,
                    log=log.fileno(),
                )  # fmt: skip
            else:
                command = [sys.executable, "-m", "wan_operator", "run"]
                self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        eventually(self.is_ready, "the operator to be ready")
        return self

    @property
    def log(self) -> Path:
        return self.server.folder / f"operator-{self.namespace}.log"

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"operator ended: {self.log.read_text()[-3000:]}"
        return self.get("/readyz")[0] == 200

    def get(self, path: str) -> tuple[int, str]:
        try:
            url = f"http://127.0.0.1:{self.port}{path}"
            with urllib.request.urlopen(url, timeout=GET_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def kill(self) -> None:
        """As the kernel would: nothing is finished, nothing is given back."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> int:
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(END_SECONDS)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            self.kill()  # or it would go on beside the next tests
            said = self.log.read_text()[-3000:]
            raise AssertionError(f"no end within {END_SECONDS:.0f} s: {said}") from error

    def rss_mib(self) -> float:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024
