"""One run under test, a WanFineTune by default: what the API and the bucket say of it, and how to
hurt it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from safetensors.torch import load

from stack import BUCKET, CommandError, Manifest, Stack, wait_until


@dataclass(frozen=True)
class Run:
    PLURAL: ClassVar = "wanfinetunes"
    LABEL: ClassVar = "wan-operator.dev/finetune"

    stack: Stack
    namespace: str
    name: str

    def status(self) -> Manifest:
        path = f"/apis/wan-operator.dev/v1alpha1/namespaces/{self.namespace}/{self.PLURAL}"
        found: Manifest = self.stack.api(f"{path}/{self.name}").get("status", {})
        return found

    def conditions(self) -> dict[str, Manifest]:
        return {condition["type"]: condition for condition in self.status().get("conditions", [])}

    def is_true(self, condition: str) -> bool:
        return self.conditions().get(condition, {}).get("status") == "True"

    def step(self, name: str) -> Manifest:
        """Status of a step; Waiting before the operator has written it."""
        for step in self.status().get("steps", []):
            if step["name"] == name:
                found: Manifest = step
                return found
        return {"name": name, "state": "Waiting", "attempts": 0}

    def pods(self, step: str | None = None) -> list[Manifest]:
        selector = f"{self.LABEL}={self.name}" + (f",wan-operator.dev/step={step}" if step else "")
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        found: list[Manifest] = self.stack.api(path, labelSelector=selector)["items"]
        return found

    def jobs(self) -> list[Manifest]:
        selector = f"{self.LABEL}={self.name}"
        path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        found: list[Manifest] = self.stack.api(path, labelSelector=selector)["items"]
        return found

    def gone(self) -> bool:
        """Whether nothing of it is left in the cluster."""
        return not self.pods() and not self.jobs()

    def running_pod(self, step: str) -> str | None:
        """Name of the step's pod once its container runs."""
        for pod in self.pods(step):
            if (
                pod["status"].get("phase") == "Running"
                and "deletionTimestamp" not in pod["metadata"]
            ):
                name: str = pod["metadata"]["name"]
                return name
        return None

    def wait_running(self, step: str) -> str:
        """Name of the step's pod once its container runs; an error as soon as the run has
        failed."""

        def running() -> str | None:
            assert not self.is_true("Failed"), self.story()
            return self.running_pod(step)

        pod: str = wait_until(
            running,
            what=lambda: f"{step} runs; {self.story()}",
            every=0.2,
        )
        return pod

    def training_step(self, step: str = "train") -> int:
        """Optimizer steps done by the running train pod, from its own /progress."""
        pod = self.running_pod(step)
        if pod is None:
            return 0
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}:9400/proxy/progress"
        try:
            progress = self.stack.api(path)
        except CommandError:  # the pod runs, its server does not yet
            return 0
        return int(progress.get("current", 0)) if progress.get("activity") == "training" else 0

    def wait_complete(self) -> Manifest:
        """Status at the end; an error as soon as the run cannot complete."""

        def finished() -> bool:
            assert not self.is_true("Stalled"), self.story()
            return self.is_true("Complete")

        wait_until(finished, what=lambda: f"{self.name} complete; {self.story()}")
        return self.status()

    def wait_stalled(self) -> Manifest:
        """The Stalled condition, as it was when it was true: a check of the input ends it."""

        def stalled() -> Manifest | None:
            found = self.conditions().get("Stalled", {})
            return found if found.get("status") == "True" else None

        found: Manifest = wait_until(stalled, what=lambda: f"stalled; {self.story()}")
        return found

    def story(self) -> str:
        """What a reader of a failed test wants to know."""
        status = self.status()
        steps = {
            step["name"]: (step["state"], step.get("attempts")) for step in status.get("steps", [])
        }
        return json.dumps(
            {
                "conditions": status.get("conditions"),
                "steps": steps,
                "lastFailure": status.get("lastFailure"),
            },
            indent=1,
        )

    def committed(self, step: str) -> dict[str, bytes]:
        """Files that a step committed, each checked against the manifest, the manifest against
        status. The next step starts a moment before the status has what this one committed."""
        artifact: Manifest = wait_until(
            lambda: self.step(step).get("artifact"),
            what=lambda: f"{step} has committed; {self.story()}",
        )
        return self.stack.committed(artifact)

    def objects(self) -> list[str]:
        """Keys below the run's own prefix."""
        prefix = self.status()["effective"]["runPrefix"].removeprefix(f"s3://{BUCKET}/")
        found = self.stack.store().list_objects(bucket_name=BUCKET, prefix=prefix, recursive=True)
        return [object_.object_name or "" for object_ in found]


def assert_same_weights(run: Run, reference: Run) -> None:
    """To the bit, tensor by tensor; of the run's file in DiffSynth's names."""
    reference.wait_complete()
    ours, theirs = (load(r.committed("export")[f"{r.name}.safetensors"]) for r in (run, reference))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)
