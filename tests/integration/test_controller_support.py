"""What the controller's tests need: the operator as a process, and hands that play the kubelet.

The API server, the Job controller and the garbage collector are real. There is no node: a test sets
the status that a kubelet would set. The real kubelet has its turn in e2e/.
"""

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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from integration.apiserver import ApiError, ApiServer, free_ports, stop

T = TypeVar("T")
Raw = dict[str, Any]

ROOT = Path(__file__).parents[2]
GROUP = "/apis/wan-operator.dev/v1alpha1"
RESULT_SHA = "a" * 64
WAIT_SECONDS = 30.0


def eventually(probe: Callable[[], T], what: str, seconds: float = WAIT_SECONDS) -> T:
    """The first true answer of `probe`; fails with the last answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}; last: {answer!r}"
        time.sleep(0.05)  # between two looks at the condition


@contextmanager
def controllers(server: ApiServer) -> Iterator[None]:
    """The Job controller and the garbage collector of Kubernetes."""
    (port,) = free_ports(1)
    command = [
        server.binaries / "kube-controller-manager",
        f"--kubeconfig={server.kubeconfig}",
        "--controllers=job-controller,garbage-collector-controller",
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
    """`python -m wan_operator run` in a process of its own."""

    server: ApiServer
    namespace: str
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    port: int = 0
    starts: int = 0

    def start(self) -> Operator:
        (self.port,) = free_ports(1)
        self.starts += 1
        defaults = {
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
        }
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}/operator:{ROOT}/runtime",
            "KUBECONFIG": str(self.server.kubeconfig),
            "HOME": str(self.server.folder),
            **defaults,
            **self.settings,
        }
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "wan_operator", "run"],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
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
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
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
        return self.process.wait(40)

    def rss_mib(self) -> float:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


@dataclass
class Cluster:
    """The objects of one namespace, and the kubelet's part in their life."""

    server: ApiServer
    namespace: str

    def path(self, kind: str, name: str = "") -> str:
        prefix = {"jobs": "/apis/batch/v1", "wanfinetunes": GROUP}.get(kind, "/api/v1")
        return f"{prefix}/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    def create(self, name: str, **spec: Any) -> Raw:
        body = {
            "apiVersion": "wan-operator.dev/v1alpha1",
            "kind": "WanFineTune",
            "metadata": {"name": name},
            "spec": {
                "model": {"preset": "Wan2.1-I2V-Tiny"},
                "dataset": {"source": "s3://data/clips"},
                "validation": {"samples": 0},
                **spec,
            },
        }
        made: Raw = self.server.request("POST", self.path("wanfinetunes"), body)
        return made

    def get(self, name: str) -> Raw:
        found: Raw = self.server.request("GET", self.path("wanfinetunes", name))
        return found

    def edit(self, name: str, **spec: Any) -> None:
        self.server.request(
            "PATCH",
            self.path("wanfinetunes", name),
            {"spec": spec},
            content_type="application/merge-patch+json",
        )

    def items(self, kind: str, finetune: str = "") -> list[Raw]:
        selector = f"?labelSelector=wan-operator.dev/finetune={finetune}" if finetune else ""
        found: list[Raw] = self.server.request("GET", self.path(kind) + selector)["items"]
        return found

    def job_names(self, finetune: str) -> list[str]:
        return sorted(job["metadata"]["name"] for job in self.items("jobs", finetune))

    def condition(self, name: str, type_: str) -> Raw | None:
        conditions = self.get(name).get("status", {}).get("conditions", [])
        return next((each for each in conditions if each["type"] == type_), None)

    def wait_condition(self, name: str, type_: str, reason: str = "") -> Raw:
        def probe() -> Raw | None:
            found = self.condition(name, type_)
            wanted = found and found["status"] == "True" and reason in ("", found["reason"])
            return found if wanted else None

        try:
            return eventually(probe, f"{name} to be {type_} {reason}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.get(name).get('status')}") from None

    def pod_of(self, job: str) -> Raw:
        def probe() -> Raw | None:
            pods = self.server.request(
                "GET", self.path("pods") + f"?labelSelector=batch.kubernetes.io/job-name={job}"
            )["items"]
            return pods[0] if pods else None

        return eventually(probe, f"a pod of {job}")

    # The kubelet's part

    def starts(self, job: str, address: str = "") -> Raw:
        pod = self.pod_of(job)
        state = {"running": {"startedAt": now()}}
        return self._set_pod(pod, "Running", state, address)

    def waits(self, job: str, reason: str, message: str) -> Raw:
        state = {"waiting": {"reason": reason, "message": message}}
        return self._set_pod(self.pod_of(job), "Pending", state)

    def ends(self, job: str, exit_code: int, message: str = "", reason: str = "") -> Raw:
        pod = self.pod_of(job)
        ended = {
            "exitCode": exit_code,
            "message": message,
            "reason": reason or ("Completed" if exit_code == 0 else "Error"),
            "startedAt": now(-60),
            "finishedAt": now(),
        }
        phase = "Failed" if exit_code else "Succeeded"
        return self._set_pod(pod, phase, {"terminated": ended})

    def succeeds(self, job: str, step: str) -> Raw:
        return self.ends(job, 0, result(step))

    def _set_pod(self, pod: Raw, phase: str, state: Raw, address: str = "") -> Raw:
        container = {
            "name": "step",
            "image": "x",
            "imageID": "",
            "ready": phase == "Running",
            "restartCount": 0,
            "state": state,
        }
        status: Raw = {"phase": phase, "containerStatuses": [container]}
        if address:
            status |= {"podIP": address, "podIPs": [{"ip": address}]}
        patched: Raw = self.server.request(
            "PATCH",
            self.path("pods", pod["metadata"]["name"]) + "/status",
            {"status": status},
            content_type="application/merge-patch+json",
        )
        return patched

    def walk(self, name: str, *steps: str) -> None:
        """Lets each step's first attempt run and succeed."""
        for step in steps:
            job = f"{name}-{step}-1"
            self.starts(job)
            self.succeeds(job, step)


STEPS = ("prepare", "encode", "train", "export")


def now(offset: float = 0.0) -> str:
    return datetime.fromtimestamp(time.time() + offset, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def result(step: str, exit_class: int = 0, reason: str = "Completed", message: str = "") -> str:
    """A termination message, written by the runtime's own model."""
    from wan_runtime.job import ExitClass, ManifestRef, Reason, Result

    return Result(
        step_id=step,
        exit_class=ExitClass(exit_class),
        reason=Reason(reason),
        message=message,
        manifest=None
        if exit_class
        else ManifestRef(uri=f"s3://wan/x/{step}/manifest.json", sha256=RESULT_SHA),
        summary={"clips": 12},
    ).dump()


def exists(server: ApiServer, path: str) -> bool:
    try:
        server.request("GET", path)
    except ApiError as error:
        assert error.code == 404, error
        return False
    return True
