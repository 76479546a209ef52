"""A namespace with services and runs of every kind and option, in the states in which they rest."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from integration.apiserver import ApiError, ApiServer
from integration.cluster import STEPS, Cluster, now, result, writes_of
from integration.operator_process import WAIT_SECONDS, Operator, eventually
from integration.runs import ROOT, Runs, load
from integration.wire import own_address
from pod_templates import FULL
from wan_runtime.contract.job import Progress
from wan_runtime.contract.report import QueueReport, ServiceReport
from wan_runtime.contract.rollout import Rollout

Raw = dict[str, Any]
SETTINGS = {"WAN_SWEEP_SECONDS": "1", "WAN_PROGRESS_SECONDS": "1"}
"""What is looked at every five minutes is looked at every second."""
ADDRESS = own_address()
IDLE = QueueReport(
    queued=0, running=0, predicted_seconds=0, remaining_seconds=0, oldest_seconds=0,
    last_activity_seconds=None,
)  # fmt: skip
TEMPLATES: tuple[Raw, ...] = ({}, {"annotations": {}, "labels": {}, "nodeSelector": {}}, FULL)
LORA = {"lora": {"rank": 8, "alpha": 4, "initFrom": {"uri": "s3://wan/before"}}}
RUNS: tuple[Raw, ...] = (
    {},
    {"dataset": {"source": "s3://wan/data", "encodeParallelism": 2, "window": "Spread"}},
    {"method": LORA, "training": {"ema": {"decay": 0.99}, "weights": "Best"}},
    {"model": {"preset": "Wan2.2-I2V-Tiny"}, "parallelism": {"experts": "Parallel"}},
    {"model": {"preset": "Wan2.1-I2V-14B-480P", "source": {"s3": "s3://wan/models/480p"}}},
)
"""Spec beside the template; four runs of each."""
STYLE = {"name": "style", "files": {"uri": "s3://wan/style.safetensors"}}
SERVICES: tuple[Raw, ...] = (
    {"adapters": [], "effects": []},
    {
        "adapters": [STYLE, {"name": "trained", "fineTuneRef": {"name": "run-0"}}],
        "effects": [{"name": "dream", "adapters": [{"name": "style", "strength": 0.5}]}],
        "autoscaling": {"minReplicas": 0, "maxReplicas": 3},
        "moderation": {"url": "http://moderation"},
        "rollout": {"strategy": "Recreate"},
    },
    {
        "model": {"preset": "Wan2.1-I2V-Tiny", "source": {"s3": "s3://wan/models/tiny"}},
        "adapters": [],
        "effects": [],
        "replicas": 2,
        "rollout": {"strategy": "Canary"},
    },
)
INGRESS = {"host": "videos.example.com", "annotations": {"example.com/a": "b"}}


@dataclass
class Rest:
    """What is there once everything has come to rest."""

    cluster: Cluster
    operator: Operator

    def sweeps(self) -> float:
        text = self.operator.get("/metrics")[1]
        lines = [line for line in text.splitlines() if line.startswith("wan_operator_sweeps_total")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def writes(self) -> dict[str, float]:
        """Writes that the API server has counted, but those of Leases."""
        counted = writes_of(self.cluster.server)
        return {name: count for name, count in counted.items() if name != "leases"}

    def settle(self, sweeps: int) -> None:
        """Waits until nothing is written while everything is looked at so often."""
        settled(self.writes, self.sweeps, sweeps)


def settled(writes: Callable[[], dict[str, float]], done: Callable[[], float], sweeps: int) -> None:
    """Waits until so many sweeps in a row write nothing. Controllers, the garbage collector above
    all, finish at their own pace what a start or an earlier test has left to them; what is written
    again and again never settles. `done`: number of sweeps so far."""
    deadline = time.monotonic() + WAIT_SECONDS
    before, quiet = writes(), 0
    while quiet < sweeps:
        last = done()
        eventually(lambda last=last: done() > last, "a sweep")  # type: ignore[misc]
        after = writes()
        found = grown(before, after)
        assert not found or time.monotonic() < deadline, f"never at rest: {found}"
        before, quiet = after, 0 if found else quiet + 1


def grown(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {
        name: count - before.get(name, 0)
        for name, count in after.items()
        if count != before.get(name)
    }


@contextmanager
def resting(cluster: Cluster, operator: Operator) -> Iterator[Rest]:
    """Three services and twenty runs: complete, failed, suspended, running and pending."""
    ensure_runtime_class(cluster.server)
    operator.settings |= SETTINGS
    with answering():
        operator.start()
        services = Runs(cluster.server, cluster.namespace, "waninferenceservices")
        names = [f"run-{number}" for number in range(4 * len(RUNS))]
        for name, spec, template in zip(
            names, itertools.cycle(RUNS), itertools.cycle(TEMPLATES), strict=False
        ):
            cluster.create(name, **spec, podTemplate=template)
        cluster.walk("run-0", *STEPS)
        cluster.wait_condition("run-0", "Complete")
        cluster.ends("run-5-prepare-1", 50, result("prepare", 50, "NonFiniteLoss", "none"))
        cluster.wait_condition("run-5", "Failed")
        for name in ("run-10", "run-11"):
            cluster.edit(name, suspend=True)
            cluster.wait_condition(name, "Suspended")
        for name in ("run-15", "run-16"):
            cluster.starts(f"{name}-prepare-1", ADDRESS)
            cluster.wait_condition(name, "Running")
        cluster.waits("run-1-prepare-1", "CreateContainerConfigError", 'secret "minio" not found')
        cluster.wait_condition("run-1", "Reconciling", "SecretNotFound")
        for number, (spec, template) in enumerate(zip(SERVICES, TEMPLATES, strict=True)):
            services.create(service(f"videos-{number}", template, spec))
        deployments = ("videos-0-gateway", "videos-0-worker", "videos-1-gateway")
        for name in deployments:
            serves(cluster, name)
        wait_ready(services, "videos-0")
        wait_ready(services, "videos-1")
        rest = Rest(cluster, operator)
        rest.settle(2)
        yield rest


def service(name: str, template: Raw, spec: Raw) -> Raw:
    manifest = load(ROOT / "examples" / "inference-tiny.yaml")
    manifest["metadata"]["name"] = name
    gateway = manifest["spec"]["gateway"] | {"podTemplate": template, "ingress": INGRESS}
    manifest["spec"] |= spec | {"gateway": gateway, "workers": {"podTemplate": template}}
    return manifest


def serves(cluster: Cluster, deployment: str) -> None:
    """The kubelet's part for all pods of a Deployment: they run and are ready."""

    def pods() -> list[Raw]:
        part = deployment.rsplit("-", 1)[1]
        owner = deployment.removesuffix(f"-{part}")
        selector = f"wan-operator.dev/service={owner},app.kubernetes.io/component={part}"
        found: list[Raw] = cluster.server.request(
            "GET", cluster.path("pods") + f"?labelSelector={selector}"
        )["items"]
        return found

    for pod in eventually(pods, f"pods of {deployment}"):
        [container] = pod["spec"]["containers"]
        status = {
            "phase": "Running",
            "podIP": ADDRESS,
            "podIPs": [{"ip": ADDRESS}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now()}],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": "x",
                    "imageID": "",
                    "ready": True,
                    "started": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": now()}},
                }
            ],
        }
        cluster.server.request(
            "PATCH",
            cluster.path("pods", pod["metadata"]["name"]) + "/status",
            {"status": status},
            content_type="application/merge-patch+json",
        )


def wait_ready(services: Runs, name: str) -> None:
    def ready() -> bool:
        status = services.server.request("GET", f"{services.path}/{name}").get("status", {})
        return any(
            each["type"] == "Ready" and each["status"] == "True"
            for each in status.get("conditions", ())
        )

    eventually(ready, f"{name} to be ready")


def ensure_runtime_class(server: ApiServer) -> None:
    name = FULL["runtimeClassName"]
    try:
        body = {"metadata": {"name": name}, "handler": name}
        server.request("POST", "/apis/node.k8s.io/v1/runtimeclasses", body)
    except ApiError as error:
        if error.code != 409:
            raise


@contextmanager
def answering() -> Iterator[None]:
    """Pages of pods at ADDRESS: an idle service, a step that makes no progress."""
    report = ServiceReport(
        time=datetime.now(UTC), age_seconds=0, queue=IDLE, workers=(), rollout=Rollout(), tracks={}
    ).model_dump_json(by_alias=True)
    done = Progress(step_id="prepare", activity="checks clips", current=3, total=9)
    progress = done.model_dump_json(by_alias=True)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = (report if self.path == "/state" else progress).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer((ADDRESS, 9400), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
