"""Training runs on several ranks, which share a disk, and what two runs differ by."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import matplotlib.backends.backend_agg  # once, before ranks are forked, as the next two
import matplotlib.figure  # noqa: F401
import peft  # noqa: F401
from safetensors.torch import load_file
from torch import Tensor

from forked_ranks import in_places
from ml_runs import Run
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import ManifestRef
from wan_runtime.contract.steps import Step
from wan_runtime.process import stopping
from wan_runtime.process.progress import Reporter
from wan_runtime.training import train, trainer

TRAINING = {
    "steps": 4, "batchSize": 2, "gradientAccumulation": 2, "captionDropout": 0.5, "probeEvery": 10,
    "schedule": "Cosine",
}  # fmt: skip
Ranks = tuple[int, int]
"""Number of all, and of those that split the tokens of a clip."""


class Watch(Reporter):
    """Sends this process a signal while it reports step `at`."""

    def __init__(self, at: int | None, sent: signal.Signals) -> None:
        super().__init__("train")
        self._at, self._sent = at, sent

    def update(self, **change: Any) -> None:
        super().update(**change)
        if change.get("activity") == "training" and change["current"] == self._at:
            os.kill(os.getpid(), self._sent)


def go(
    run: Run, ranks: Ranks, *, stop: int | None = None, kill: int | None = None,
    zero: dict[str, Any] | None = None, start: str | None = None, **training: Any,
) -> list[Any]:  # fmt: skip
    """Train on ranks that share a disk. What each ends with: the manifest; an error's text; or None
    where it was killed.

    Args:
        stop: step at which the last rank, and no other, is to stop.
        kill: step at which that rank dies.
        zero: fields of `parallelism` for DeepSpeed.
        start: address of the weights that the run begins with.
    """
    world, sequence = ranks
    parallelism = {"gpusPerNode": world, "sequence": sequence, **(zero or {})}
    fields: dict[str, Any] = {
        "training": {**TRAINING, "parallelism": parallelism, **training},
        run.method: {"initFrom": start},
    }
    job = run.job(Step.TRAIN, **fields)
    run.attempts += 1
    work = run.folder / f"{run.attempts}-train"
    work.mkdir(parents=True)

    def attempt(rank: int) -> ManifestRef | None:
        stopping.install()
        at, sent = (stop, signal.SIGTERM) if kill is None else (kill, signal.SIGKILL)
        report = Watch(at if rank == world - 1 else None, sent)
        return train.run(job, Store.connect(run.spec), work, report).manifest

    ends = in_places(world, attempt)
    if isinstance(ends[0], ManifestRef):
        run.inputs["train"] = ends[0]
    return ends


Result = tuple[dict[str, Tensor], dict[str, Any]]
"""Weights and record of a train step."""


def result(run: Run, name: str = "train") -> Result:
    folder = run.fetch(name)
    weights = {k: v for path in folder.glob("*.safetensors") for k, v in load_file(path).items()}
    record: dict[str, Any] = json.loads((folder / trainer.RECORD).read_text())
    return weights, record


def differences(one: Result, two: Result) -> dict[str, float]:
    """Largest relative differences of two runs."""
    (weights, record), (others, its) = one, two
    assert weights.keys() == others.keys()
    numbers = [step["step"] for step in record["steps"]]
    assert numbers == [step["step"] for step in its["steps"]]

    def far(one: list[float], two: list[float]) -> float:
        return max(abs(a - b) / abs(b) for a, b in zip(one, two, strict=True))

    return {
        **{
            name: far(*([step[name] for step in each["steps"]] for each in (record, its)))
            for name in ("loss", "gradientNorm")
        },
        "probes": far(*([e["losses"]["mean"] for e in each["probes"]] for each in (record, its))),
        "weights": max(
            float((weights[name] - one).norm() / one.norm()) for name, one in others.items()
        ),
    }


class Alone:
    """Runs on one rank that nothing interrupts, one for each method."""

    def __init__(self, encoded: Run, name: str, **training: dict[str, Any]) -> None:
        """
        Args:
            name: of the runs, beside their method.
            training: fields of a method's training.
        """
        self._encoded, self._name, self._training = encoded, name, training
        self._runs = dict[str, Run]()

    def __getitem__(self, method: str) -> Run:
        if method not in self._runs:
            self._runs[method] = self._encoded.fork(f"{self._name}-{method}", method)
            go(self._runs[method], (1, 1), **self._training[method])
        return self._runs[method]


def check_same(run: Run, other: Run) -> None:
    """Of whole runs."""
    check_alike(result(run), result(other))
    assert len(result(run)[1]["steps"]) == TRAINING["steps"]


def check_alike(one: Result, two: Result) -> None:
    """But for rounding."""
    found = differences(one, two)
    assert found["loss"] < 1e-5, found
    assert found["gradientNorm"] < 1e-5, found
    assert found["probes"] < 1e-5, found
    # AdamW moves a weight whose gradient is all rounding as far as any other.
    assert found["weights"] < 5e-4, found
