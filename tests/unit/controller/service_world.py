"""A cluster in memory for a WanInferenceService: what decisions ask for is there, and Deployments
do what their controller would do when a test says so."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from wan_operator.reconcile.decision import Decision
from wan_operator.reconcile.observed import Key, Observed, Refusal, WarningEvent
from wan_operator.reconcile.room import Node, Room
from wan_operator.reconcile.service.reconcile import reconcile
from wan_operator.resources.labels import RETRIED
from wan_operator.resources.service.names import REVISION
from wan_operator.settings import Settings
from wan_runtime.contract.report import (
    Fault,
    GatewayState,
    QueueReport,
    ServiceReport,
    Startup,
    TrackReport,
    WorkerReport,
)
from wan_runtime.contract.rollout import Rollout, Track

Raw = dict[str, Any]
EXAMPLES = Path(__file__).parents[3] / "examples"
UID = "0a1b2c3d-0000-0000-0000-000000000000"
KINDS = (
    "ConfigMap", "Service", "NetworkPolicy", "PodDisruptionBudget", "Deployment", "Ingress",
    "HTTPRoute", "ReplicaSet", "Job", "Pod",
)  # fmt: skip
IDLE = QueueReport(
    queued=0, running=0, predicted_seconds=0, remaining_seconds=0, oldest_seconds=0,
    last_activity_seconds=None,
)  # fmt: skip


def settings(**values: Any) -> Settings:
    return Settings.from_env(
        {
            "WAN_RUNTIME_IMAGE": "wan-runtime:1",
            "WAN_OPERATOR_IMAGE": "wan-operator:1",
            "WAN_NAMESPACE": "wan-system",
            "WAN_STORE_ENDPOINT": "http://minio:9000",
            "WAN_STORE_BUCKET": "wan",
            "WAN_STORE_SECRET": "wan-store",
            "WAN_DATABASE_SECRET": "wan-database",
        }
        | values
    )


def example(name: str, **spec: Any) -> Raw:
    cr: Raw = yaml.safe_load((EXAMPLES / f"inference-{name}.yaml").read_text())
    cr["metadata"] |= {"namespace": "team", "uid": UID, "generation": 1}
    cr["spec"] |= spec
    return cr


def tiny(**spec: Any) -> Raw:
    """One that waits for nothing."""
    cr = example("tiny")
    cr["spec"] |= {"adapters": [], "effects": []} | spec
    return cr


def node(name: str, *, gpus: int, **more: Any) -> Node:
    """Ready, and empty."""
    allocatable = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": str(gpus)}
    allocatable["ephemeral-storage"] = "4Ti"
    labels, taints = more.pop("labels", {}), more.pop("taints", [])
    raw = {
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints},
        "status": {"allocatable": allocatable | more},
    }
    return Node.read(raw, [])


class World:
    def __init__(self, cr: Raw, **values: Any) -> None:
        self.cr = cr
        self.settings = settings(**values)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.objects: dict[tuple[str, str], Raw] = {}
        self.finetunes: dict[str, Raw] = {}
        self.evaluations: dict[str, Raw] = {}
        self.report: ServiceReport | None = None
        self.faults: tuple[Fault, ...] = ()
        self.refused: dict[str, Refusal] = {}
        self.room = Room((node("large", gpus=100),))
        self.looks_at_nodes = 0
        self.events: list[str] = []
        self.warnings: dict[str, WarningEvent] = {}
        """What Events say of children, by the child's uid."""
        self.workloads: dict[str, Raw] | None = {}
        """Kueue's Workloads, by the uid of their Job; None: not read yet."""
        self.resyncs: list[str] = []
        """Names of children whose controller was made to try again."""
        self._numbers = 0

    # What the operator does

    def look(self) -> Decision:
        observed = self._observed()
        decision = self._decide(observed)
        if decision.asks_room:
            decision = self._decide(replace(observed, room=self.room))
            assert not decision.asks_room
            self.looks_at_nodes += 1
        return decision

    def asks_warnings(self) -> bool:
        """Whether a decision without Events asks for them."""
        return self._decide(replace(self._observed(), warnings=None)).asks_warnings

    def _decide(self, observed: Observed) -> Decision:
        return reconcile(copy.deepcopy(self.cr), observed, self.settings, self.now)

    def _observed(self) -> Observed:
        return Observed(
            children={kind: self.listed(kind) for kind in KINDS},
            pages=self.pages(),
            followed={
                Key(kind, "team", name): each
                for kind, found in (
                    ("WanFineTune", self.finetunes),
                    ("WanEvaluation", self.evaluations),
                )
                for name, each in found.items()
            },
            refused=self.refused,
            warnings=self.warnings,
            workloads=self.workloads,
        )

    def pages(self) -> dict[str, BaseModel]:
        """What gateways say, by pod."""
        return {"gateway": GatewayState(faults=self.faults, service=self.report)}

    def turn(self, seconds: float = 0.0) -> Decision:
        """One reconcile, carried out; asked again, it must want nothing else."""
        self.now += timedelta(seconds=seconds)
        decision = self.look()
        for manifest in decision.children:
            self.apply(manifest)
        for each in decision.deletes:
            assert self.objects.pop((each.kind, each.name))["metadata"]["uid"] == each.uid
        for each in decision.resyncs:
            metadata = self.objects[each.kind, each.name]["metadata"]
            assert metadata["uid"] == each.uid
            metadata.setdefault("annotations", {})[RETRIED] = each.time.isoformat()
            self.resyncs.append(each.name)
        if decision.status is not None:
            # As the API server keeps it.
            self.cr["status"] = json.loads(json.dumps(decision.status))
            for condition in self.cr["status"]["conditions"]:
                assert condition["observedGeneration"] == self.cr["metadata"]["generation"]
        self.events += [each.message for each in decision.events]
        return decision

    def settle(self, turns: int = 6) -> None:
        """Turns and the Deployments' controller, until nothing changes."""
        for _ in range(turns):
            before = copy.deepcopy((self.objects, self.cr.get("status")))
            self.turn()
            self.roll()
            if (self.objects, self.cr.get("status")) == before:
                return
        raise AssertionError("it never came to rest")

    # What the cluster does

    def apply(self, manifest: Raw) -> None:
        key = (manifest["kind"], manifest["metadata"]["name"])
        old = self.objects.get(key)
        made = copy.deepcopy(manifest)
        self._numbers += 1
        made["metadata"]["uid"] = old["metadata"]["uid"] if old else f"uid-{self._numbers}"
        generation = old["metadata"]["generation"] if old else 0
        changed = old is None or old.get("spec") != made.get("spec")
        made["metadata"]["generation"] = generation + changed
        made["metadata"]["creationTimestamp"] = self.now.isoformat()
        resync = (old or {}).get("metadata", {}).get("annotations", {}).get(RETRIED)
        if resync:  # written, and not applied
            made["metadata"]["annotations"][RETRIED] = resync
        if old and "status" in old:
            made["status"] = old["status"]
        self.objects[key] = made

    def listed(self, kind: str) -> list[Raw]:
        return [copy.deepcopy(each) for (k, _), each in self.objects.items() if k == kind]

    def roll(self, *, ready: bool = True) -> None:
        """All Deployments have their pods, ready or not."""
        for (kind, _), item in self.objects.items():
            if kind == "Deployment":
                wanted = item["spec"]["replicas"]
                item["status"] = {
                    "observedGeneration": item["metadata"]["generation"],
                    "replicas": wanted,
                    "updatedReplicas": wanted,
                    "readyReplicas": wanted if ready else 0,
                }

    def pod(self, part: str, **status: Any) -> Raw:
        """One more pod of a part, of its Deployment's revision."""
        deployment = self.deployment(part)
        assert deployment is not None
        template = deployment["spec"]["template"]
        name = f"{deployment['metadata']['name']}-{len(self.listed('Pod'))}"
        self.objects["Pod", name] = {
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": "team",
                "uid": name,
                "labels": template["metadata"]["labels"],
                "creationTimestamp": self.now.isoformat(),
            },
            "spec": template["spec"],
            "status": status,
        }
        return self.objects["Pod", name]

    def replica_set(
        self, part: str, number: int = 1, *, replicas: int = 1, refused: str = ""
    ) -> Raw:
        """The one that a part's Deployment made of its template; `refused`: its pods are."""
        deployment = self.deployment(part)
        assert deployment is not None
        name = f"{deployment['metadata']['name']}-{number}"
        failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
        failure |= {"message": refused, "lastTransitionTime": self.now.isoformat()}
        owner = {"uid": deployment["metadata"]["uid"], "controller": True}
        self.objects["ReplicaSet", name] = {
            "metadata": {
                "name": name,
                "namespace": "team",
                "uid": name,
                "annotations": {"deployment.kubernetes.io/revision": str(number)},
                "ownerReferences": [owner],
                "creationTimestamp": self.now.isoformat(),
            },
            "spec": {"replicas": replicas, "template": deployment["spec"]["template"]},
            "status": {"conditions": [failure] if refused else []},
        }
        return self.objects["ReplicaSet", name]

    # What is there

    def deployment(self, part: str) -> Raw | None:
        return self.objects.get(("Deployment", f"{self.cr['metadata']['name']}-{part}"))

    def running(self, part: str) -> str:
        """The revision of a part's pods; empty without it."""
        found = self.deployment(part)
        return "" if found is None else found["spec"]["template"]["metadata"]["labels"][REVISION]

    def replicas(self, part: str = "worker") -> int:
        found = self.deployment(part)
        assert found is not None
        count: int = found["spec"]["replicas"]
        return count

    def served(self, part: str = "gateway") -> Raw:
        """What the pods of a part read as their service."""
        name = self.cr["metadata"]["name"]
        end = "gateway" if part == "gateway" else self.running(part)
        service: Raw = json.loads(
            self.objects["ConfigMap", f"{name}-{end}"]["data"]["service.json"]
        )
        return service

    def rollout(self) -> Raw:
        """Without its number and its time."""
        return {key: self.share()[key] for key in ("canary", "weight") if key in self.share()}

    def share(self) -> Raw:
        """What the gateways' mount says of the canary."""
        name = self.cr["metadata"]["name"]
        found: Raw = json.loads(
            self.objects["ConfigMap", f"{name}-rollout"]["data"]["rollout.json"]
        )
        return found

    @property
    def status(self) -> Raw:
        found: Raw = self.cr["status"]
        return found

    def condition(self, type_: str) -> tuple[str, str, str]:
        """(status, reason, message); empty words if there is none."""
        for each in self.status["conditions"]:
            if each["type"] == type_:
                return each["status"], each["reason"], each.get("message", "")
        return "", "", ""

    def edit(self, **spec: Any) -> None:
        self.cr["spec"] |= spec
        self.cr["metadata"]["generation"] += 1


def report(
    queue: QueueReport = IDLE,
    workers: tuple[WorkerReport, ...] = (),
    **tracks: TrackReport,
) -> ServiceReport:
    return ServiceReport(
        time=datetime(2026, 1, 1, tzinfo=UTC),
        age_seconds=0.5,
        queue=queue,
        workers=workers,
        rollout=Rollout(),
        tracks={Track(name): each for name, each in tracks.items()},
    ).summary()


def queue(
    queued: int = 0, running: int = 0, seconds: float = 0.0, left: float = 0.0
) -> QueueReport:
    return IDLE.model_copy(
        update={
            "queued": queued,
            "running": running,
            "predicted_seconds": seconds,
            "remaining_seconds": left,
        }
    )


def track(completed: int = 0, failed: int = 0, median: float | None = None) -> TrackReport:
    return TrackReport(
        completed=completed, failed=failed, median_seconds=median, p95_seconds=median
    )


def finetune(name: str, done: bool = True, **changes: Any) -> Raw:
    digest = changes.pop("sha256", "a" * 64)
    status: Raw = {"progress": {
        "step": "train", "display": "train 40/60", "time": "2026-01-01T00:00:00Z",
    }}  # fmt: skip
    if done:
        uri = f"s3://wan/runs/{name}/export/manifest.json"
        status = {"artifact": {"uri": uri, "sha256": digest}}
    return {
        "metadata": {"name": name, "namespace": "team", "uid": f"ft-{name}"},
        "spec": {"model": {"preset": "Wan2.1-I2V-Tiny"}, "method": {"lora": {}}} | changes,
        "status": status,
    }


def warm(world: World, size: str) -> None:
    """Have had a worker that was ready."""
    pod = world.pod("worker", containerStatuses=[], phase="Running")
    startup = Startup(load_seconds=1, compile_seconds=1, warm_up_seconds=1)
    worker = WorkerReport(
        name="w", pod=pod["metadata"]["name"], ready=True, ranks=1, seen_seconds=1,
        seconds_per_clip={size: 2.0}, startup=startup,
    )  # fmt: skip
    world.report = report(workers=(worker,))
    world.turn(60)
    assert world.status["sizes"]
    del world.objects["Pod", pod["metadata"]["name"]]
