"""A cluster in memory: it carries out decisions as the API server would, and a test decides what
pods do.

Creating a child twice, deleting what is not there and writing a condition with a reason that is
not documented are failures here, wherever they happen.
"""

from __future__ import annotations

import copy
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from wan_operator.api.v1alpha1.finetune import WanFineTuneStatus
from wan_operator.conditions.runs import RUNS
from wan_operator.kube import merge_patch
from wan_operator.reconcile.decision import Decision, Event
from wan_operator.reconcile.finetune.reconcile import reconcile
from wan_operator.reconcile.observed import (
    Key,
    Observed,
    Refusal,
    WarningEvent,
    finished,
    is_deleting,
    step_of,
)
from wan_operator.resources.labels import RETRIED
from wan_operator.settings import Settings
from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.job import Certificate, ExitClass, JobSpec, ManifestRef, Progress, Result
from wan_runtime.contract.reasons import Reason

Raw = dict[str, Any]

UID = "5c1a7e00-0000-4000-8000-000000000000"
START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SETTINGS = Settings(
    operator_image="wan-operator:1",
    runtime_image="registry.example/wan-runtime@sha256:0",
    namespace="wan-system",
    store_endpoint="http://minio:9000",
    store_bucket="wan",
    store_secret="minio",
    identity="test",
)
STEPS = ("prepare", "encode", "train", "export")
CERTIFICATES = (
    Certificate(format=Dialect.DIFFSYNTH, consumer="diffsynth 2.1.12", worst_difference=2.13e-8),
)
REASON_OF = {
    ExitClass.DONE: Reason.COMPLETED,
    ExitClass.INPUT: Reason.CLIP_INVALID,
    ExitClass.OUT_OF_MEMORY: Reason.GPU_OUT_OF_MEMORY,
    ExitClass.INFRASTRUCTURE: Reason.STORE_UNREACHABLE,
    ExitClass.STOPPED: Reason.TERMINATED,
    ExitClass.NUMERICAL: Reason.NON_FINITE_LOSS,
}


class Crash(Exception):
    """The operator's process dies here."""


class World:
    reconcile = staticmethod(reconcile)
    model: type[BaseModel] = WanFineTuneStatus
    vocabulary = RUNS

    def __init__(self, settings: Settings = SETTINGS, name: str = "demo", **spec: Any) -> None:
        self.settings = settings
        self.now = START
        self.jobs: dict[str, Raw] = {}
        self.pods: dict[str, Raw] = {}
        self.config_maps: dict[str, Raw] = {}
        self.services: dict[str, Raw] = {}
        self.followed: dict[Key, Raw] = {}
        """Other resources that the decision reads."""
        self.events: list[Event] = []
        self.answers: dict[str, Progress] = {}
        """What pods say of their progress, by step id."""
        self.warnings: dict[str, WarningEvent] | None = {}
        """What Events say of Jobs and pods, by their uid; None: not read yet."""
        self.workloads: dict[str, Raw] | None = {}
        """Kueue's Workloads, by the uid of their Job; None: not read yet."""
        self.resyncs: list[str] = []
        """Names of Jobs whose controller was made to try again."""
        self.refuses: dict[str, str] = {}
        """Name of a Job -> what the API server says to it."""
        self.created: list[str] = []
        self.writes = 0
        self.at_once = 2 if "source" in spec.get("model", {}) else 1
        """Jobs that may run side by side: the import of a model does, beside `prepare`."""
        self._uids = itertools.count(1)
        self.cr: Raw = {
            "apiVersion": "wan-operator.dev/v1alpha1",
            "kind": "WanFineTune",
            "metadata": {"name": name, "namespace": "team", "uid": UID, "generation": 1},
            "spec": self.spec(**spec),
        }

    def spec(self, **spec: Any) -> Raw:
        """A small spec, with changes."""
        return {
            "model": {"preset": "Wan2.1-I2V-Tiny"},
            "dataset": {"source": "s3://data/clips"},
            "validation": {"samples": 0},
            **spec,
        }

    @property
    def children(self) -> dict[str, list[Raw]]:
        kinds = {"Job": self.jobs, "Pod": self.pods, "ConfigMap": self.config_maps}
        return {kind: list(objects.values()) for kind, objects in kinds.items()}

    # The operator's part

    def decide(self, refused: dict[str, Refusal] | None = None) -> Decision:
        observed = Observed(
            children=copy.deepcopy(self.children),
            pages=dict(self.answers),
            refused=refused or {},
            warnings=self.warnings,
            workloads=self.workloads,
            followed=copy.deepcopy(self.followed),
        )
        return self.reconcile(copy.deepcopy(self.cr), observed, self.settings, self.now)

    def look(self, die_after: int | None = None) -> Decision:
        """One reconcile, carried out as the controller does; dies after so many calls."""
        decision = self.decide()
        calls = itertools.count()

        def call() -> None:
            if next(calls) == die_after:
                raise Crash
            self.writes += 1

        refused = {
            step_of(manifest): Refusal("RequestRefused", self.refuses[manifest["metadata"]["name"]])
            for manifest in decision.children
            if manifest["metadata"]["name"] in self.refuses
        }
        for manifest in decision.children:
            if step_of(manifest) not in refused:
                call()
                self._create(manifest)
        if refused:
            decision = self.decide(refused)
        for target in decision.deletes:
            call()
            self._delete(target.kind, target.name, target.uid, target.propagation)
        for resync in decision.resyncs:
            call()
            assert self.jobs[resync.name]["metadata"]["uid"] == resync.uid
            self.jobs[resync.name]["metadata"].setdefault("annotations", {})[RETRIED] = (
                resync.time.isoformat()
            )
            self.resyncs.append(resync.name)
        if decision.status is not None and merge_patch(self.cr.get("status", {}), decision.status):
            call()
            self.model.model_validate(decision.status)  # as the API server would
            self.cr["status"] = copy.deepcopy(decision.status)
            self.events += decision.events
            for condition in decision.status["conditions"]:
                assert condition["reason"] in self.vocabulary.reasons
                assert condition["type"] in self.vocabulary.types
                assert condition["observedGeneration"] == self.cr["metadata"]["generation"]
        return decision

    def settle(self) -> Decision:
        """Looks until nothing is to be done at once; returns the last decision."""
        for _ in range(20):
            before = self.writes
            decision = self.look()
            if self.writes == before and decision.requeue_after != 0:
                return decision
        raise AssertionError(f"does not come to rest: {self.status}")

    def _create(self, manifest: Raw) -> None:
        made = copy.deepcopy(manifest)
        metadata = made["metadata"]
        name = metadata["name"]
        if made["kind"] != "Job":
            metadata.setdefault("uid", f"made-{next(self._uids)}")
            (self.services if made["kind"] == "Service" else self.config_maps)[name] = made
            return
        assert name not in self.jobs, f"{name} created twice"
        beside = [
            each
            for each in self.running_jobs()
            if each.rpartition("-")[0] == name.rpartition("-")[0]
        ]
        assert not beside, f"{name} beside {beside}"
        assert len(self.running_jobs()) < self.at_once, f"{name} beside {self.running_jobs()}"
        self.created.append(name)
        metadata |= {"uid": f"job-{next(self._uids)}", "creationTimestamp": self.now.isoformat()}
        self.jobs[name] = made
        owner = {"uid": metadata["uid"], "controller": True}
        self.pods[name] = {
            "metadata": {
                "name": f"{name}-abcde",
                "uid": f"pod-of-{metadata['uid']}",
                "labels": dict(made["spec"]["template"]["metadata"]["labels"]),
                "ownerReferences": [owner],
                "creationTimestamp": self.now.isoformat(),
            },
            "spec": {"nodeName": "node-1", "containers": [{"image": "registry.example/x"}]},
            "status": {"phase": "Pending"},
        }

    def _delete(self, kind: str, name: str, uid: str, propagation: str) -> None:
        if kind == "ConfigMap":
            assert self.config_maps.pop(name)["metadata"]["uid"] == uid
            return
        assert self.jobs[name]["metadata"]["uid"] == uid
        if propagation == "Background" or name not in self.pods:
            self.jobs.pop(name)
            self.pods.pop(name, None)
            return
        self.jobs[name]["metadata"]["deletionTimestamp"] = self.now.isoformat()
        due = self.now + timedelta(seconds=120)
        self.pods[name]["metadata"]["deletionTimestamp"] = due.isoformat()

    # The cluster's part

    def says(self, progress: Progress) -> None:
        self.answers[progress.step_id] = progress

    def running_jobs(self) -> list[str]:
        return [
            name
            for name, job in self.jobs.items()
            if not finished(job) and not is_deleting(job) and not self._has_ended(name)
        ]

    def _has_ended(self, name: str) -> bool:
        pod = self.pods.get(name)
        return pod is None or pod["status"]["phase"] in ("Succeeded", "Failed")

    @property
    def open_job(self) -> str:
        """The one that runs; of two, not the import."""
        running = self.running_jobs()
        (name,) = [each for each in running if "-import-" not in each] or running
        return name

    def starts(self, name: str = "") -> None:
        state = {"running": {"startedAt": self.now.isoformat()}}
        self._state(name or self.open_job, "Running", state)

    def waits(self, reason: str, message: str, name: str = "") -> None:
        self._state(
            name or self.open_job, "Pending", {"waiting": {"reason": reason, "message": message}}
        )

    def warns(self, item: Raw, reason: str, message: str) -> None:
        """An Event about a Job or a pod."""
        name, uid = item["metadata"]["name"], item["metadata"]["uid"]
        kind = "Pod" if uid.startswith("pod") else "Job"
        event = WarningEvent(kind=kind, name=name, reason=reason, message=message, time=self.now)
        assert self.warnings is not None
        self.warnings[uid] = event

    def ends(
        self,
        exit_class: ExitClass,
        message: str = "said so",
        name: str = "",
        summary: dict[str, int | float | str] | None = None,
    ) -> None:
        """With a Result, as the runtime leaves it."""
        name = name or self.open_job
        step = self.jobs[name]["metadata"]["labels"]["wan-operator.dev/step"]
        manifest = None
        if exit_class is ExitClass.DONE:
            manifest = ManifestRef(uri=f"s3://wan/{step}/manifest.json", sha256="a" * 64)
        result = Result(
            step_id=step,
            exit_class=exit_class,
            reason=REASON_OF[exit_class],
            message=message,
            manifest=manifest,
            summary={"clips": 12} if summary is None else summary,
            certificates=CERTIFICATES if step == "export" else (),
        )
        self.exits(int(exit_class), result.dump(), name=name)

    def exits(self, code: int, message: str = "", reason: str = "Error", name: str = "") -> None:
        name = name or self.open_job
        ended = {
            "exitCode": code,
            "message": message,
            "reason": reason,
            "startedAt": (self.now - timedelta(seconds=60)).isoformat(),
            "finishedAt": self.now.isoformat(),
        }
        self._state(name, "Failed" if code else "Succeeded", {"terminated": ended})
        self._finish_job(name, "Failed" if code else "Complete")

    def loses_pod(self, name: str = "") -> None:
        """Deleted with its node; the Job's controller gives up, having no retries."""
        name = name or self.open_job
        del self.pods[name]
        self._finish_job(name, "Failed")

    def evicts(
        self, message: str = "The node was low on resource: memory.", name: str = ""
    ) -> None:
        name = name or self.open_job
        self.pods[name]["status"] = {"phase": "Failed", "reason": "Evicted", "message": message}
        self._finish_job(name, "Failed")

    def loses_job(self, name: str = "") -> None:
        name = name or self.open_job
        del self.jobs[name], self.pods[name]

    def removes_deleted(self) -> None:
        """The garbage collector has followed."""
        for name in [name for name, job in self.jobs.items() if is_deleting(job)]:
            del self.jobs[name]
            self.pods.pop(name, None)

    def _finish_job(self, name: str, type_: str) -> None:
        ended = {"type": type_, "status": "True", "reason": "BackoffLimitExceeded", "message": ""}
        self.jobs[name]["status"] = {"conditions": [ended]}

    def _state(self, name: str, phase: str, state: Raw) -> None:
        container = {"name": "step", "state": state}
        self.pods[name]["status"] = {
            "phase": phase,
            "podIP": "10.0.0.9",
            "containerStatuses": [container],
        }

    def edit(self, **spec: Any) -> None:
        self.cr["spec"] = {**self.cr["spec"], **spec}
        self.cr["metadata"]["generation"] += 1

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def reach(self, step: str) -> None:
        """Runs until the attempt of `step` is open."""
        for _ in range(10):
            self.settle()
            if self.open_job.startswith(f"demo-{step}-"):
                return
            for name in self.running_jobs():
                self.starts(name)
                self.ends(ExitClass.DONE, name=name)
        raise AssertionError(f"never reached {step}")

    # What a user sees

    @property
    def status(self) -> Raw:
        status: Raw = self.cr.get("status", {})
        return status

    def condition(self, type_: str) -> Raw | None:
        listed = self.status.get("conditions", [])
        return next((each for each in listed if each["type"] == type_), None)

    def is_true(self, type_: str) -> bool:
        found = self.condition(type_)
        return found is not None and found["status"] == "True"

    @property
    def leading(self) -> tuple[str, str]:
        """(type, reason) of the first condition, which the printer column shows."""
        first = self.status["conditions"][0]
        assert first["status"] == "True", self.status["conditions"]
        return first["type"], first["reason"]

    def step(self, name: str) -> Raw:
        found: Raw = next(step for step in self.status["steps"] if step["name"] == name)
        return found

    @property
    def is_final(self) -> bool:
        return self.is_true("Complete") or self.is_true("Failed")


def job_file(world: World, step: str) -> JobSpec:
    return JobSpec.model_validate_json(world.config_maps[f"demo-{step}"]["data"]["job.json"])


def finished_world(**spec: Any) -> World:
    world = World(**spec)
    world.reach("export")
    world.ends(ExitClass.DONE)
    world.settle()
    assert world.is_true("Complete")
    return world
