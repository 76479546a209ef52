"""Why Kueue holds a Job, in Kueue's words and by the names of its objects."""

from __future__ import annotations

from typing import Any

import pytest

from unit.controller.world import World
from wan_operator.answers import NOT_SERVED
from wan_operator.errors import PermanentError, TransientError
from wan_operator.kube import Kube
from wan_operator.resources.labels import SPEC_HASH, content_hash
from wan_operator.workloads import Workloads

Raw = dict[str, Any]
JOB = "demo-prepare-1"
FLAVORS = "couldn't assign flavors to pod set main: "


def queued(**label: str) -> World:
    """A run in the queue `gpus`, whose first Job Kueue has suspended."""
    world = World()
    world.cr["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "gpus"} | label
    world.settle()
    world.jobs[JOB]["spec"]["suspend"] = True
    world.pods.clear()
    return world


def workload(*conditions: tuple[str, str, str, str], active: bool = True, **status: Any) -> Raw:
    """(type, status, reason, message) of each condition."""
    listed = [
        {"type": type_, "status": status, "reason": reason, "message": message}
        for type_, status, reason, message in conditions
    ]
    return {
        "metadata": {"name": "job-demo-1234", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"queueName": "gpus", "active": active},
        "status": {"conditions": listed} | status,
    }


def pending(message: str, reason: str = "Pending") -> tuple[str, str, str, str]:
    return ("QuotaReserved", "False", reason, message)


RESERVED = ("QuotaReserved", "True", "QuotaReserved", "")
TIMED_OUT = ("Evicted", "True", "PodsReadyTimeout", "Exceeded the PodsReady timeout team/job-demo")
DEACTIVATED = (
    "Evicted",
    "True",
    "DeactivatedDueToAdmissionCheck",
    "The workload is deactivated due to Admission check(s): license, were rejected",
)
CHECKS = [
    {"name": "license", "state": "Ready", "message": ""},
    {"name": "nodes", "state": "Pending", "message": "a node is being made"},
    {"name": "budget", "state": "Retry", "message": ""},
]
PREEMPTED = "Preempted to accommodate a workload (UID: 1) due to prioritization"
EVICTED = ("Evicted", "True", "Preempted", PREEMPTED)
DRAINED = ("Evicted", "True", "ClusterQueueStopped", "The ClusterQueue is stopped")
BYPASSED = "Bypassed scheduling evaluation because an equivalent workload recently failed"
WAITS = f"{FLAVORS}insufficient unused quota for nvidia.com/gpu in flavor a, 1 more needed"
LARGE = (
    f"{FLAVORS}insufficient quota for nvidia.com/gpu in flavor a, request > maximum capacity "
    "(8 > 4)"
)
NEWER = (
    f"{FLAVORS}insufficient quota for nvidia.com/gpu in flavor a, previously considered podsets "
    "requests (0) + current podset request (8) > maximum capacity (4)"
)
HELD = [
    (workload(), "Reconciling", "Queued", "Kueue holds Job demo-prepare-1 in queue gpus"),
    (workload(pending(WAITS)), "Reconciling", "Queued", WAITS),
    (workload(pending(LARGE)), "Stalled", "QueueTooSmall", LARGE),
    (workload(pending(NEWER, "ExceedsMaxQuota")), "Stalled", "QueueTooSmall", NEWER),
    (workload(pending(f"{LARGE}, {WAITS}")), "Reconciling", "Queued", WAITS),
    (workload(pending(BYPASSED, "ExceedsMaxQuota")), "Reconciling", "QueueTooSmall", BYPASSED),
    (workload(pending(BYPASSED, "WaitingForQuota")), "Reconciling", "Queued", BYPASSED),
    (
        workload(pending("LocalQueue gpus doesn't exist", "Inadmissible")),
        "Stalled",
        "QueueNotFound",
        "LocalQueue gpus doesn't exist",
    ),
    (
        workload(pending("ClusterQueue all doesn't exist", "Misconfigured")),
        "Stalled",
        "QueueNotFound",
        "ClusterQueue all doesn't exist",
    ),
    (
        workload(pending("ClusterQueue all is inactive", "Inadmissible")),
        "Stalled",
        "QueueInactive",
        "ClusterQueue all is inactive",
    ),
    (
        workload(pending("ClusterQueue  doesn't exist", "Misconfigured")),
        "Stalled",
        "QueueNotFound",
        "ClusterQueue  doesn't exist",
    ),
    (
        workload(pending("LocalQueue gpus is terminating or missing", "Inadmissible")),
        "Stalled",
        "QueueNotFound",
        "LocalQueue gpus is terminating or missing",
    ),
    (
        workload(pending("LocalQueue gpus is stopped", "Suspended")),
        "Stalled",
        "QueueInactive",
        "LocalQueue gpus is stopped",
    ),
    (
        workload(DRAINED, RESERVED),
        "Stalled",
        "QueueInactive",
        "Kueue evicts Job demo-prepare-1: The ClusterQueue is stopped",
    ),
    *(
        (workload(pending(text, reason)), "Stalled", "QueueRefuses", text)
        for text, reason in (
            ("Workload namespace doesn't match ClusterQueue selector", "Pending"),
            ("workload namespace doesn't match ClusterQueue selector", "Misconfigured"),
            (f"{FLAVORS}resource nvidia.com/gpu unavailable in ClusterQueue", "Pending"),
            (f"{FLAVORS}resource ephemeral-storage unavailable in ClusterQueue", "Pending"),
            (f"{FLAVORS}flavor a doesn't match node affinity", "Pending"),
            (f"{FLAVORS}flavor a not found", "NoMatchingFlavor"),
            ("DynamicResourceAllocation feature does not support it", "Inadmissible"),
        )
    ),
    (
        workload(pending(f"{FLAVORS}flavor b doesn't match node affinity, {WAITS}")),
        "Reconciling",
        "Queued",
        WAITS,
    ),
    (
        workload(("Finished", "True", "FailedToStart", "conflict for nodeSelector"), RESERVED),
        "Stalled",
        "QueueRefuses",
        "Kueue has ended Workload job-demo-1234 of Job demo-prepare-1: conflict for nodeSelector",
    ),
    (
        workload(DEACTIVATED, pending(DEACTIVATED[3]), active=False),
        "Stalled",
        "WorkloadDeactivated",
        f"Workload job-demo-1234 of Job demo-prepare-1 is deactivated: {DEACTIVATED[3]}",
    ),
    (workload(active=False), "Stalled", "WorkloadDeactivated", "is deactivated"),
    (
        workload(EVICTED, pending(WAITS)),
        "Reconciling",
        "WorkloadEvicted",
        f"having evicted it: {PREEMPTED}; {WAITS}",
    ),
    (workload(EVICTED, pending(PREEMPTED)), "Reconciling", "WorkloadEvicted", PREEMPTED),
    (
        workload(EVICTED, RESERVED),
        "Reconciling",
        "WorkloadEvicted",
        f"Kueue evicts Job demo-prepare-1: {PREEMPTED}",
    ),
    (workload(EVICTED, pending(LARGE)), "Stalled", "QueueTooSmall", f"{PREEMPTED}; {LARGE}"),
    (
        workload(
            TIMED_OUT, pending(TIMED_OUT[3]), requeueState={"requeueAt": "2026-01-01T00:09:00Z"}
        ),
        "Reconciling",
        "WorkloadEvicted",
        f"having evicted it: {TIMED_OUT[3]}; it waits in its queue from 2026-01-01T00:09:00Z on",
    ),
    (
        workload(RESERVED, admissionChecks=CHECKS),
        "Reconciling",
        "Queued",
        "queue gpus: admission check nodes is Pending: a node is being made; "
        "admission check budget is Retry",
    ),
    (
        workload(RESERVED, ("Admitted", "True", "Admitted", "")),
        "Reconciling",
        "Queued",
        "queue gpus: it is admitted and about to start",
    ),
]


@pytest.mark.parametrize(("found", "type_", "reason", "telling"), HELD)
def test_kueues_reason_is_the_cause(found: Raw, type_: str, reason: str, telling: str) -> None:
    world = queued()
    world.workloads = {world.jobs[JOB]["metadata"]["uid"]: found}
    decision = world.settle()
    assert world.leading == (type_, reason)
    message = world.status["conditions"][0]["message"]
    assert telling in message
    assert JOB in message
    assert decision.requeue_after is not None
    assert decision.requeue_after <= 15
    assert world.resyncs == []
    del world.jobs[JOB]["spec"]["suspend"]
    world.workloads = {}
    world.settle()
    assert world.leading == ("Reconciling", "StepStarting"), "it is released"


def test_workloads_are_read_of_suspended_jobs_alone() -> None:
    world = queued()
    world.workloads = None
    assert world.decide().asks_workloads == (world.jobs[JOB]["metadata"]["uid"],)
    world.workloads = {}
    assert world.decide().asks_workloads == ()
    world.workloads = None
    del world.jobs[JOB]["spec"]["suspend"]
    assert world.decide().asks_workloads == ()


def test_another_queue_makes_another_job_of_what_has_not_begun() -> None:
    world = queued()
    world.settle()
    assert world.created == [JOB]
    world.cr["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "more-gpus"
    world.settle()
    assert world.created == [JOB, "demo-prepare-2"]
    labels = world.jobs["demo-prepare-2"]["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "more-gpus"
    world.starts()
    world.cr["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpus"
    world.settle()
    assert world.open_job == "demo-prepare-2", "what runs is left alone"


def test_a_queue_that_somebody_else_has_chosen_is_left() -> None:
    """Kueue's default, or a policy of the cluster: anything else would be replaced for ever."""
    for wanted in ({}, {"kueue.x-k8s.io/queue-name": "gpus"}):
        world = World()
        world.cr["metadata"]["labels"] = wanted
        world.settle()
        world.jobs[JOB]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "theirs"
        world.settle()
        assert world.created == [JOB]


def test_a_job_of_a_release_whose_hash_leaves_the_queue_out_is_not_replaced() -> None:
    world = queued()
    metadata = world.jobs[JOB]["metadata"]
    metadata["annotations"][SPEC_HASH] = content_hash(
        {key: each for key, each in world.jobs[JOB]["spec"].items() if key != "suspend"}
    )
    world.settle()
    assert world.created == [JOB]
    world.cr["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "more-gpus"
    world.settle()
    assert world.created == [JOB, "demo-prepare-2"]


class Server(Kube):
    """One that serves some versions of Kueue's API, or answers with an error."""

    def __init__(self, *versions: str, items: tuple[Raw, ...] = ()) -> None:
        self.versions = versions
        self.items = items
        self.calls: list[tuple[str, Any]] = []
        self.error: Exception | None = None

    async def _call(self, method: str, path: str, **more: Any) -> Any:
        self.calls.append((path, more["query"]))
        if self.error is not None:
            raise self.error
        if not any(f"/{version}/" in path for version in self.versions):
            raise PermanentError("the API server does not know this path", NOT_SERVED)
        return {"items": list(self.items)}


def of_job(uid: str, name: str, minute: int, **metadata: Any) -> Raw:
    labels = {"kueue.x-k8s.io/job-uid": uid}
    made = f"2026-01-01T00:{minute:02}:00Z"
    more = {"name": name, "labels": labels, "creationTimestamp": made}
    return workload() | {"metadata": more | metadata}


@pytest.mark.parametrize("versions", [("v1beta2",), ("v1beta1",), ("v1beta1", "v1beta2"), ()])
async def test_any_version_of_kueue_will_do_and_none_too(
    versions: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    mine = of_job("uid-1", "mine", 5)
    others = (
        of_job("uid-1", "older", 4),
        of_job("uid-1", "going", 6, deletionTimestamp="2026-01-01T00:07:00Z"),
        of_job("uid-2", "other", 7),
    )
    server = Server(*versions, items=(mine, *others))
    found = await Workloads(server).of("team", ["uid-1", "uid-3"])
    assert found == ({"uid-1": mine} if versions else {})
    path, query = server.calls[-1]
    assert path.endswith("/namespaces/team/workloads")
    selector = "kueue.x-k8s.io/job-uid in (uid-1,uid-3)"
    assert query == {"labelSelector": selector, "resourceVersion": "0"}
    assert caplog.text == ""


async def test_a_right_that_is_missing_is_tried_again_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server("v1beta2", items=(of_job("uid-1", "mine", 1),))
    workloads = Workloads(server)
    server.error = TransientError("the conversion webhook does not answer")
    assert await workloads.of("team", ["uid-1"]) == {}
    server.error = PermanentError("workloads is forbidden", "Forbidden")
    for _ in range(3):
        assert await workloads.of("team", ["uid-1"]) == {}
    assert len(server.calls) == 2
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    server.error = None
    assert list(await workloads.of("elsewhere", ["uid-1"])) == ["uid-1"]
    assert await workloads.of("team", ["uid-1"]) == {}
    monkeypatch.setattr("wan_operator.workloads.REFUSED_SECONDS", 0.0)
    later = Workloads(server)
    server.error = PermanentError("workloads is forbidden", "Forbidden")
    assert await later.of("team", ["uid-1"]) == {}
    server.error = None
    assert list(await later.of("team", ["uid-1"])) == ["uid-1"]
