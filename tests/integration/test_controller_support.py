"""What the controller's tests need: the operator as a process, and hands that play the kubelet.

The API server, the Job controller and the garbage collector are real. There is no node: a test sets
the status that a kubelet would set. The real kubelet has its turn in e2e/.
"""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
    kubeconfig: Path | None = None
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
            "KUBECONFIG": str(self.kubeconfig or self.server.kubeconfig),
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

    def binds(self, job: str, node: str = "node-1") -> str:
        """The scheduler's part: from now on the pod is removed only by its kubelet."""
        name: str = self.pod_of(job)["metadata"]["name"]
        body = {"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}
        self.server.request("POST", self.path("pods", name) + "/binding", body)
        return name

    def removes(self, pod: str) -> None:
        """The kubelet has seen the container end and lets go of the pod."""
        self.server.request(
            "DELETE", self.path("pods", pod), {"gracePeriodSeconds": 0, "kind": "DeleteOptions"}
        )

    def loses_node(self, job: str) -> None:
        """The part of the pod garbage collector: the pod's node is gone, and so is what it would
        have said."""
        name = self.pod_of(job)["metadata"]["name"]
        why = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
        }
        self.server.request(
            "PATCH",
            self.path("pods", name) + "/status",
            {"status": {"phase": "Failed", "conditions": [why]}},
            content_type="application/merge-patch+json",
        )
        self.removes(name)

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
        if error.code != 404:
            raise
        return False
    return True


@dataclass
class Wire:
    """The network between the operator and the API server: bytes pass through until a test cuts
    it."""

    server: ApiServer
    port: int = 0
    cut: bool = False
    _loop: asyncio.AbstractEventLoop | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @contextmanager
    def laid(self) -> Iterator[Wire]:
        ready = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        thread.start()
        assert ready.wait(10)
        yield self
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        thread.join(10)

    def kubeconfig(self) -> Path:
        config = json.loads(self.server.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self.port}"
        path = self.server.folder / f"kubeconfig-{self.port}"
        path.write_text(json.dumps(config))
        return path

    def breaks(self) -> None:
        """Every connection is reset and none is taken."""
        self.cut = True
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._reset)

    def heals(self) -> None:
        self.cut = False

    def _reset(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        listener = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        self.cut = True
        self._reset()
        listener.close()

    async def _connect(self, near: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        if self.cut:
            answer.transport.abort()
            return
        far, ask = await asyncio.open_connection("127.0.0.1", self.server.port)
        self._open |= {answer, ask}
        await asyncio.gather(pump(near, ask), pump(far, answer))
        self._open -= {answer, ask}


async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()


@contextmanager
def progress_of_a_pod(answer: Callable[[], str]) -> Iterator[str]:
    """The address of something that answers as a pod's :9400/progress does."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answer().encode()
            self.send_response(200 if self.path == "/progress" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    address = f"127.77.{os.getpid() % 250}.9"
    with http.server.ThreadingHTTPServer((address, 9400), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield address
        server.shutdown()


def writes_of(server: ApiServer) -> dict[str, float]:
    """Changing requests that the API server has counted, by resource; Leases and the tests' own
    are the caller's to leave out."""
    text = server.kubectl("get", "--raw", "/metrics").stdout
    counted: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("apiserver_request_total{"):
            continue
        labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
        if labels["verb"] in ("POST", "PUT", "PATCH", "APPLY", "DELETE"):
            resource = labels["resource"] + ("/" + labels["subresource"]).rstrip("/")
            counted[resource] = counted.get(resource, 0) + float(line.rsplit(" ", 1)[1])
    return counted
