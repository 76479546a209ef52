"""Why Kueue holds a Job, by the schema that Kueue publishes. Its controller's part is played: it
suspends a Job, and writes the status of the Workload that it makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from integration.cluster import Cluster, now
from integration.foreign_crds import KUEUE, installed, path_of
from integration.operator_process import Operator, eventually
from integration.runs import ROOT, Runs, load
from integration.test_controller_rights import FULL_NAME, account_of_the_chart
from mistakes import CAUSE_SECONDS

Raw = dict[str, Any]
WORKLOADS = "kueue.x-k8s.io_workloads"
QUEUE = "kueue.x-k8s.io/queue-name"
MERGE = "application/merge-patch+json"
FLAVORS = "couldn't assign flavors to pod set main: insufficient"
FULL = f"{FLAVORS} unused quota for nvidia.com/gpu in flavor a, 1 more needed"
LARGE = f"{FLAVORS} quota for nvidia.com/gpu in flavor a, request > maximum capacity (8 > 4)"

STORAGE = FLAVORS.replace("insufficient", "resource ephemeral-storage unavailable in ClusterQueue")


def condition(type_: str, status: str, reason: str, message: str) -> Raw:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": now(),
    }


def waits(reason: str, message: str, *others: Raw) -> Raw:
    return {"conditions": [*others, condition("QuotaReserved", "False", reason, message)]}


CHECK = {
    "name": "nodes",
    "state": "Pending",
    "message": "a node comes",
    "lastTransitionTime": now(),
}
NOT_FOUND = "LocalQueue gpus doesn't exist"
INACTIVE = "ClusterQueue all is inactive"
EVICTED = condition("Evicted", "True", "Preempted", "to accommodate a workload")
RESERVED = condition("QuotaReserved", "True", "QuotaReserved", "reserved")
FINISHED = condition("Finished", "True", "FailedToStart", "conflict for nodeSelector")
HELD: dict[str, tuple[Any, ...]] = {
    "queue": (waits("Inadmissible", NOT_FOUND), "QueueNotFound", NOT_FOUND),
    "stopped": (waits("Suspended", INACTIVE), "QueueInactive", INACTIVE),
    "large": (waits("Pending", LARGE), "QueueTooSmall", LARGE),
    "disk": (waits("Pending", STORAGE), "QueueRefuses", STORAGE),
    "waits": (waits("WaitingForQuota", FULL), "Queued", FULL),
    "evicted": (waits("Pending", FULL, EVICTED), "WorkloadEvicted", EVICTED["message"], FULL),
    "checked": (
        {"conditions": [RESERVED], "admissionChecks": [CHECK]},
        "Queued",
        "admission check nodes is Pending: a node comes",
    ),
    "ended": ({"conditions": [FINISHED]}, "QueueRefuses", FINISHED["message"]),
    "off": (waits("Deactivated", "is off"), "WorkloadDeactivated", "job-off-prepare-1"),
}
"""Run -> status of its Workload, the reason that it stands for, and words of the message."""


class Kueue:
    """Kueue's part, in one namespace."""

    def __init__(self, cluster: Cluster, path: str) -> None:
        self.cluster, self.path = cluster, path

    def holds(self, job: str, status: Raw, active: bool = True) -> None:
        """Has the Job wait. The Workload comes first: the Job's change is what is seen."""
        found = eventually(lambda: self._job(job), f"Job {job}")
        version = self.path.split("/namespaces/")[0].removeprefix("/apis/")
        template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
        owner = {"apiVersion": "batch/v1", "kind": "Job", "controller": True}
        owner |= {key: found["metadata"][key] for key in ("name", "uid")}
        body = {
            "apiVersion": version,
            "kind": "Workload",
            "metadata": {
                "name": f"job-{job}",
                "labels": {"kueue.x-k8s.io/job-uid": found["metadata"]["uid"]},
                "ownerReferences": [owner],
            },
            "spec": {
                "active": active,
                "queueName": found["metadata"]["labels"][QUEUE],
                "podSets": [{"name": "main", "count": 1, "template": template}],
            },
        }
        server = self.cluster.server
        server.request("POST", self.path, body)
        one = f"{self.path}/job-{job}/status"
        server.request("PATCH", one, {"status": status}, content_type=MERGE)
        self.suspends(job)

    def suspends(self, job: str, wanted: bool = True) -> None:
        path, body = self.cluster.path("jobs", job), {"spec": {"suspend": wanted}}
        self.cluster.server.request("PATCH", path, body, content_type=MERGE)

    def resumes(self, job: str) -> None:
        """Once the Job controller has taken its pod away."""

        def has_pod() -> bool:
            names = (each["metadata"]["name"] for each in self.cluster.items("pods"))
            return any(name.startswith(f"{job}-") for name in names)

        eventually(lambda: not has_pod(), f"the pod of {job} to go")
        self.suspends(job, False)

    def _job(self, name: str) -> Raw | None:
        jobs = self.cluster.items("jobs")
        return next((each for each in jobs if each["metadata"]["name"] == name), None)


def queued(cluster: Cluster, *names: str) -> None:
    for name in names:
        cluster.create(name, suspend=True)
        names_queue(cluster, name, "gpus")
        cluster.edit(name, suspend=False)


def names_queue(cluster: Cluster, name: str, queue: str) -> None:
    body = {"metadata": {"labels": {QUEUE: queue}}}
    path = cluster.path("wanfinetunes", name)
    cluster.server.request("PATCH", path, body, content_type=MERGE)


def reads(cluster: Cluster, wanted: Mapping[str, Sequence[str]]) -> None:
    """Waits for words in lines of `kubectl get wan -o wide`, by name, as long as the table of
    mistakes allows."""
    cache = cluster.server.folder / f"discovery-{cluster.namespace}"  # others' may lack the CRDs
    where = (f"--cache-dir={cache}", f"--namespace={cluster.namespace}")

    def missing() -> dict[str, str]:
        shown = cluster.server.kubectl(*where, "get", "wan", "-o", "wide", "--no-headers").stdout
        lines = {line.split()[0].partition("/")[2]: line for line in shown.splitlines()}
        return {
            name: lines.get(name, "")
            for name, words in wanted.items()
            if not all(word in lines.get(name, "") for word in words)
        }

    try:
        eventually(lambda: not missing(), "the causes", CAUSE_SECONDS)
    except AssertionError as error:
        raise AssertionError(f"{error}: {missing()}") from None


@contextmanager
def kueue(cluster: Cluster, version: str) -> Iterator[Kueue]:
    """With the CRD as published, or as releases have it that serve one version alone."""
    crd = KUEUE.crd(WORKLOADS)
    if version == "v1beta1":
        [old] = [each for each in crd["spec"]["versions"] if each["name"] == version]
        crd["spec"]["versions"] = [old | {"storage": True}]
    with installed(cluster.server, crd):
        path = path_of(crd, cluster.namespace)
        assert f"/{version}/" in path
        yield Kueue(cluster, path)


@pytest.fixture
def operator_of_the_chart(operator: Operator, namespace: str) -> Operator:
    """With no more rights than the chart gives it."""
    setting = f"watchNamespaces={{{namespace}}}"
    operator.kubeconfig = account_of_the_chart(operator.server, namespace, setting)
    operator.settings |= {"WAN_LEASE_NAME": FULL_NAME, "WAN_DATABASE_SECRET": "wan-database"}
    return operator.start()


def quiet(operator: Operator) -> bool:
    """Nothing was refused. A CRD that comes or goes has moments in which the API server asks to try
    again, of which the log tells as news."""
    lines = operator.log.read_text().lower().splitlines()
    refused = [each for each in lines if "workloads not read" in each and "warning" in each]
    return not refused and not any("forbidden" in each for each in lines)


def test_the_cause_is_in_the_table_by_name(
    cluster: Cluster, operator_of_the_chart: Operator
) -> None:
    services = Runs(cluster.server, cluster.namespace, "waninferenceservices")
    service = load(ROOT / "examples" / "inference-minimal.yaml")
    service["metadata"]["labels"] = {QUEUE: "gpus"}
    name = service["metadata"]["name"]
    with kueue(cluster, "v1beta2") as played:
        queued(cluster, *HELD)
        services.create(service)
        for run, (status, *_) in HELD.items():
            played.holds(f"{run}-prepare-1", status, active=run != "off")
        played.holds(f"{name}-model-1", HELD["large"][0])
        wanted = {run: (reason, *words) for run, (_, reason, *words) in HELD.items()}
        reads(cluster, wanted | {name: ("QueueTooSmall", LARGE)})

        names_queue(cluster, "queue", "more-gpus")
        cluster.pod_of("queue-prepare-2")
        played.resumes("stopped-prepare-1")
        cluster.starts("stopped-prepare-1")
        cluster.wait_condition("stopped", "Running")
    assert quiet(operator_of_the_chart)


def test_the_older_version_of_kueues_api_will_do_and_so_will_none(
    cluster: Cluster, operator_of_the_chart: Operator
) -> None:
    queued(cluster, "none", "old")
    cluster.pod_of("none-prepare-1")
    Kueue(cluster, "").suspends("none-prepare-1")
    reads(cluster, {"none": ("Queued", "Job none-prepare-1 is suspended by its queue")})
    with kueue(cluster, "v1beta1") as played:
        played.holds("old-prepare-1", HELD["queue"][0])
        reads(cluster, {"old": HELD["queue"][1:]})
    assert quiet(operator_of_the_chart)
