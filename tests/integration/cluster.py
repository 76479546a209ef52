"""The objects of one namespace, and hands that play the kubelet.

The API server, the Job controller and the garbage collector are real. There is no node: a test sets
the status that a kubelet would set. The real kubelet has its turn in e2e/.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from integration.apiserver import ApiError, ApiServer
from integration.operator_process import eventually

Raw = dict[str, Any]
GROUP = "/apis/wan-operator.dev/v1alpha1"
RESULT_SHA = "a" * 64


@dataclass
class Cluster:
    """The objects of one namespace, and the kubelet's part in their life."""

    server: ApiServer
    namespace: str
    plural: str = "wanfinetunes"
    """Resources whose states are read."""

    def path(self, kind: str, name: str = "") -> str:
        apis = {"jobs": "/apis/batch/v1", "networkpolicies": "/apis/networking.k8s.io/v1"}
        prefix = apis.get(kind, GROUP if kind.startswith("wan") else "/api/v1")
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
        found: Raw = self.server.request("GET", self.path(self.plural, name))
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

    def wait_event(self, reason: str, action: str) -> Raw:
        """The operator's Event, which stays; a condition that announces a retry goes with it."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"

        def probe() -> Raw | None:
            found = self.server.request("GET", path)["items"]
            ours = (each for each in found if each.get("action") == action)
            return next((each for each in ours if each["reason"] == reason), None)

        return eventually(probe, f"the Event {action} {reason}")

    def wait_refused(self, job: str, words: str) -> None:
        """Until a Job of this name would be refused with these words: the API server acts on a
        quota or a policy some time after it has taken it."""
        container = {"name": "x", "image": "x"}
        body = {
            "metadata": {"name": job},
            "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
        }

        def is_refused() -> bool:
            try:
                self.server.request("POST", self.path("jobs") + "?dryRun=All", body)
            except ApiError as error:
                return words in str(error)
            return False

        eventually(is_refused, f"the refusal of {job}")

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
    from wan_runtime.contract.job import ExitClass, ManifestRef, Result
    from wan_runtime.contract.reasons import Reason

    return Result(
        step_id=step,
        exit_class=ExitClass(exit_class),
        reason=Reason(reason),  # type: ignore[call-arg]
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
