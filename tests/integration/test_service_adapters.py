"""What a service's pods say, of adapters and of what keeps them from beginning, from their pages to
the conditions, through a real API server, operator process and Deployment controller."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from integration.apiserver import ApiServer
from integration.cluster import now
from integration.operator_process import Operator, eventually
from integration.test_service_controller import Team
from integration.wire import own_address
from wan_runtime.contract.job import PROGRESS_PORT
from wan_runtime.contract.reasons import GatewayReason, Reason
from wan_runtime.contract.report import (
    AdapterNote,
    Fault,
    GatewayState,
    QueueReport,
    ServiceReport,
    WorkerReport,
)
from wan_runtime.contract.rollout import Rollout

Raw = dict[str, Any]
GOOD = {"name": "good", "files": {"uri": "s3://wan/good.safetensors"}}
STYLE = {"name": "style", "files": {"uri": "s3://wan/style.safetensors"}}
CAUSE = "s3://wan/style.safetensors does not exist"
COMPONENT = "app.kubernetes.io/component"
REVISION = "wan-operator.dev/revision"


class Gateway:
    """The page of a gateway."""

    def __init__(self) -> None:
        self.address = own_address()
        self.workers: tuple[WorkerReport, ...] = ()
        self.fault: Fault | None = None
        """Why it has no report."""
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = page.state().model_dump_json(by_alias=True).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer((self.address, PROGRESS_PORT), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def state(self) -> GatewayState:
        if self.fault is not None:
            return GatewayState(faults=(self.fault,))
        return GatewayState(service=self.report())

    def report(self) -> ServiceReport:
        idle = QueueReport(
            queued=0, running=0, predicted_seconds=0, remaining_seconds=0, oldest_seconds=0,
            last_activity_seconds=None,
        )  # fmt: skip
        return ServiceReport(
            time=datetime.now(UTC), age_seconds=0, queue=idle, workers=self.workers,
            rollout=Rollout(), tracks={},
        ).summary()  # fmt: skip

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    yield made
    made.close()


@pytest.fixture
def team(kubernetes: ApiServer, namespace: str) -> Team:
    return Team(kubernetes, namespace)


def pods(team: Team, part: str) -> list[Raw]:
    path = f"/api/v1/namespaces/{team.namespace}/pods?labelSelector={COMPONENT}={part}"
    found: list[Raw] = team.server.request("GET", path)["items"]
    return found


def runs(
    team: Team, part: str, address: str = "", revision: str = "", *, ready: bool = True
) -> None:
    """A pod of a part, of a revision if one is named, runs, as its kubelet would say."""

    def there() -> Raw | None:
        labels = {} if not revision else {REVISION: revision}
        found = (
            each
            for each in pods(team, part)
            if labels.items() <= each["metadata"]["labels"].items()
        )
        return next(found, None)

    pod = eventually(there, f"a pod of {part}")
    state = {"running": {"startedAt": now()}}
    container = {"name": part, "image": "x", "imageID": "", "ready": ready, "restartCount": 0}
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": now()}
    status: Raw = {
        "phase": "Running",
        "conditions": [condition],
        "containerStatuses": [container | {"state": state}],
    }
    if address:
        status |= {"podIP": address, "podIPs": [{"ip": address}]}
    path = f"/api/v1/namespaces/{team.namespace}/pods/{pod['metadata']['name']}/status"
    team.edit(path, {"status": status})


def worker(revision: str, *notes: AdapterNote, usable: tuple[str, ...]) -> WorkerReport:
    return WorkerReport(
        name=f"w-{revision}", revision=revision, ready=True, ranks=1, adapters=usable,
        adapter_notes=notes, seen_seconds=1,
    )  # fmt: skip


def said(team: Team, type_: str) -> str:
    conditions = team.get()["status"]["conditions"]
    return next(each["message"] for each in conditions if each["type"] == type_)


def test_one_bad_adapter_from_the_worker_to_the_condition(
    team: Team, operator: Operator, gateway: Gateway
) -> None:
    operator.settings |= {"WAN_PROGRESS_SECONDS": "1"}
    operator.start()
    rollout = {"strategy": "Surge", "capacity": "Assume"}
    team.create(adapters=[GOOD, STYLE], effects=[], rollout=rollout)
    team.child("deployments", "demo-worker")
    first = team.revision()
    note = AdapterNote(name="style", ready=False, reason=Reason.MODEL_NOT_FOUND, message=CAUSE)
    gateway.workers = (worker(first, note, usable=("good",)),)
    runs(team, "gateway", gateway.address)
    runs(team, "worker")
    team.reaches("Ready", "True", "Serving")
    team.reaches("AdaptersReady", "False", "AdapterNotFound")
    assert said(team, "AdaptersReady") == f"style: {CAUSE}"
    adapters = {each["name"]: each for each in team.get()["status"]["adapters"]}
    assert adapters["style"]["message"] == CAUSE
    assert adapters["good"]["readyWorkers"] == 1
    assert team.condition("Ready") == ("True", "Serving")

    gateway.workers = (worker(first, usable=("good", "style")),)
    team.reaches("AdaptersReady", "True", "AdaptersLoaded")

    moved = [GOOD, {"name": "style", "files": {"uri": "s3://wan/other.safetensors"}}]
    team.edit(f"{team.services.path}/demo", {"spec": {"adapters": moved}})
    team.reaches("Reconciling", "True", "RollingOut")
    deployment = team.child("deployments", "demo-worker")
    assert deployment["spec"]["minReadySeconds"] == 15
    second = deployment["spec"]["template"]["metadata"]["labels"][REVISION]
    assert second != first
    runs(team, "worker", revision=second)
    # Not before, or the pod might be gone by then.
    gateway.workers = (*gateway.workers, worker(second, note, usable=("good",)))
    team.reaches("Stalled", "True", "RolledBack")
    assert f"adapter style: {CAUSE}" in said(team, "Stalled")
    assert team.get()["status"]["revision"] == first
    assert team.condition("AdaptersReady") == ("False", "AdapterNotFound")
    team.reaches("Ready", "True", "Serving")


def test_what_keeps_a_worker_from_beginning_is_said_until_it_does(
    team: Team, operator: Operator, gateway: Gateway
) -> None:
    operator.settings |= {"WAN_PROGRESS_SECONDS": "1"}
    operator.start()
    team.create(adapters=[], effects=[])
    cause = "PostgreSQL at db:5432 refuses: password authentication failed"
    gateway.fault = Fault.of(GatewayReason.DATABASE_REFUSED, cause)
    runs(team, "gateway")
    runs(team, "worker", gateway.address, ready=False)
    team.reaches("Ready", "False", "DatabaseRefused")
    assert said(team, "Ready").endswith(f": {cause}")
    gateway.fault = None
    runs(team, "worker")
    team.reaches("Ready", "True", "Serving")
