"""An evaluation in the cluster in memory of `world`, beside fine-tunes that it names."""

from __future__ import annotations

import copy
from typing import Any

from unit.controller.world import REASON_OF, SETTINGS, START, Raw, World
from wan_operator.api.v1alpha1.evaluation import WanEvaluationStatus
from wan_operator.conditions.evaluation import EVALUATIONS
from wan_operator.reconcile.evaluation.reconcile import reconcile
from wan_operator.reconcile.observed import Key
from wan_operator.settings import Settings
from wan_runtime.contract.evaluation import EvaluationWork, evaluation_of
from wan_runtime.contract.job import ExitClass, JobSpec, ManifestRef, Result
from wan_runtime.contract.verdict import GateVerdict, Standing, Verdict

BASE = {"name": "base", "model": {"preset": "Wan2.1-I2V-Tiny"}}
OTHER = {"name": "other", "model": {"preset": "Wan2.2-I2V-Tiny"}}
TUNED = {"name": "tuned", "fineTuneRef": {"name": "tune"}}
BUCKET = {"s3": "s3://models/Wan2.1-I2V-14B-480P"}
RATINGS = {"raters": ["ann", "bob"]}
DATASET = {"dataset": {"source": "s3://data/clips"}}
GATE = {"thresholds": [{"metric": "psnr", "value": 20}]}
VERDICT = Verdict(
    decision="Winner",
    metric="total",
    winner="base",
    cheapest_good="base",
    message="base leads other by 0.1 of 1 (0.05 to 0.15)",
    standings=(
        Standing(name="base", clips=12, quality=0.6, low=0.5, high=0.7, total=0.6, seconds=3.5),
        Standing(name="other", clips=10, failed=2, quality=0.5, low=0.4, high=0.55),
    ),
)


class EvaluationWorld(World):
    reconcile = staticmethod(reconcile)
    model = WanEvaluationStatus
    vocabulary = EVALUATIONS

    def __init__(self, settings: Settings = SETTINGS, name: str = "compare", **spec: Any) -> None:
        super().__init__(settings, name, **spec)
        self.cr["kind"] = "WanEvaluation"
        self.at_once = 64
        self.others: dict[str, dict[str, Raw]] = {"Service": {}, "NetworkPolicy": {}}
        """Further children by kind and name."""

    def spec(self, **spec: Any) -> Raw:
        return {"candidates": [BASE, OTHER], "clips": DATASET, **spec}

    @property
    def children(self) -> dict[str, list[Raw]]:
        others = {kind: list(objects.values()) for kind, objects in self.others.items()}
        return super().children | others

    def _create(self, manifest: Raw) -> None:
        if (kind := manifest["kind"]) not in self.others:
            super()._create(manifest)
            return
        made = copy.deepcopy(manifest)
        made["metadata"]["uid"] = f"{kind}-{next(self._uids)}"
        self.others[kind][made["metadata"]["name"]] = made

    def _delete(self, kind: str, name: str, uid: str, propagation: str) -> None:
        if kind not in self.others:
            super()._delete(kind, name, uid, propagation)
            return
        assert self.others[kind].pop(name)["metadata"]["uid"] == uid

    def finetune(self, name: str = "tune", **status: Any) -> Raw:
        """A WanFineTune of this name, that the evaluation reads."""
        cr: Raw = {
            "metadata": {"name": name, "namespace": "team", "generation": 1},
            "spec": {
                "model": {"preset": "Wan2.1-I2V-Tiny"},
                "dataset": {"source": "s3://data/clips"},
            },
            "status": status,
        }
        self.followed[Key("WanFineTune", "team", name)] = cr
        return cr

    @property
    def running(self) -> list[str]:
        """Steps with an open Job."""
        names = self.running_jobs()
        return sorted(
            self.jobs[name]["metadata"]["labels"]["wan-operator.dev/step"] for name in names
        )

    def finish(self, *steps: str, verdict: Verdict | None = None) -> None:
        """Steps that run are done."""
        for step in steps:
            self.end(step, ExitClass.DONE, verdict=verdict)
        self.settle()

    def end(
        self, step: str, exit_class: ExitClass, message: str = "", verdict: Verdict | None = None
    ) -> None:
        (name,) = [each for each in self.running_jobs() if f"-{step}-" in each]
        self.starts(name)
        done = exit_class is ExitClass.DONE
        uri = f"s3://wan/{step}/manifest.json"
        result = Result(
            step_id=step,
            exit_class=exit_class,
            reason=REASON_OF[exit_class],
            message=message,
            manifest=ManifestRef(uri=uri, sha256="a" * 64) if done else None,
            verdict=verdict,
        )
        self.exits(int(exit_class), result.dump(), name=name)

    def job_file(self, step: str) -> JobSpec:
        """What the pods of a step read."""
        return JobSpec.model_validate_json(self.config_maps[f"compare-{step}"]["data"]["job.json"])

    def work_of(self, step: str) -> EvaluationWork:
        return evaluation_of(self.job_file(step))

    def open_page(self) -> None:
        """Runs until raters can see the page."""
        self.settle()
        while self.running != ["rate"]:
            self.finish(*self.running)
        self.starts()
        self.settle()

    def compare(self, verdict: Verdict | None = VERDICT) -> None:
        """Every step until the end."""
        self.settle()
        for _ in range(10):
            if self.is_final:
                return
            self.finish(*self.running, verdict=None if "compare" not in self.running else verdict)
        raise AssertionError("never ended")


def exported(**changes: Any) -> Raw:
    """Status of a fine-tune that is done."""
    artifact = {"uri": "s3://wan/runs/team/tune/export/manifest.json", "sha256": "b" * 64}
    prepared = {"uri": "s3://wan/runs/team/tune/prepare/manifest.json", "sha256": "c" * 64}
    at = START.isoformat()
    later = START.replace(hour=13).isoformat()
    return {
        "artifact": artifact,
        "steps": [
            {"name": "prepare", "state": "Complete", "artifact": prepared},
            {"name": "train", "state": "Complete", "startTime": at, "completionTime": later},
        ],
        "effective": {
            "store": {
                "endpoint": "http://minio:9000",
                "bucket": "wan",
                "prefix": "",
                "region": "us-east-1",
                "secretName": "minio",
            },
            "fps": 8,
            "buckets": [{"width": 128, "height": 96, "frames": 9}],
            "experts": ["Only"],
            "gpus": 1,
            "image": "x",
            "runPrefix": "s3://wan/runs",
        },
        **changes,
    }


def gated(passed: bool | None) -> Verdict:
    """The verdict, with one on the gate."""
    gate = GateVerdict(candidate="base", passed=passed, message="psnr 21.3 (20.1 to 22.5)")
    return VERDICT.model_copy(update={"gate": gate})
