"""Several ranks train as one does: the same losses and weights, but for rounding."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterable
from functools import partial
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from safetensors.torch import load_file
from torch import Tensor, nn

from forked_ranks import in_places
from ml_runs import Run
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import ManifestRef
from wan_runtime.contract.steps import Step
from wan_runtime.errors import InputError
from wan_runtime.models.dit.parallel import World
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.process import stopping
from wan_runtime.process.progress import Reporter
from wan_runtime.rendering.media import Frames
from wan_runtime.training import gradients, train
from wan_runtime.training.meet import check

pytest_plugins = ["ml_fixtures"]

TRAINING = {
    "steps": 4, "batchSize": 2, "gradientAccumulation": 2, "captionDropout": 0.5, "probeEvery": 2,
    "schedule": "Cosine",
}  # fmt: skip
PREVIEWS: dict[str, dict[str, int]] = {"lora": {"previewEvery": 4}, "full": {}}
Ranks = tuple[int, int]
"""Number of all, and of those that split the tokens of a clip."""


class Watch(Reporter):
    """Sends this process SIGTERM while it reports step `at`."""

    def __init__(self, at: int | None) -> None:
        super().__init__("train")
        self._at = at

    def update(self, **change: Any) -> None:
        super().update(**change)
        if change.get("activity") == "training" and change["current"] == self._at:
            os.kill(os.getpid(), signal.SIGTERM)


def go(run: Run, ranks: Ranks, *, stop: int | None = None, **training: Any) -> list[Any]:
    """Train on ranks that share a disk. What each ends with: the manifest, or an error's text.

    Args:
        stop: step at which the last rank, and no other, is to stop.
    """
    world, sequence = ranks
    parallelism = {"gpusPerNode": world, "sequence": sequence}
    job = run.job(Step.TRAIN, training={**TRAINING, "parallelism": parallelism, **training})
    run.attempts += 1
    work = run.folder / f"{run.attempts}-train"
    work.mkdir(parents=True)

    def attempt(rank: int) -> ManifestRef | None:
        stopping.install()
        report = Watch(stop if rank == world - 1 else None)
        return train.run(job, Store.connect(run.spec), work, report).manifest

    ends = in_places(world, attempt)
    if isinstance(ends[0], ManifestRef):
        run.inputs["train"] = ends[0]
    return ends


def result(run: Run) -> tuple[dict[str, Tensor], dict[str, Any]]:
    folder = run.fetch("train")
    weights = {k: v for path in folder.glob("*.safetensors") for k, v in load_file(path).items()}
    record: dict[str, Any] = json.loads((folder / train.RECORD).read_text())
    return weights, record


def differences(run: Run, other: Run) -> dict[str, float]:
    """Largest relative differences of two runs."""
    (weights, record), (others, its) = result(run), result(other)
    assert weights.keys() == others.keys()
    assert [step["step"] for step in record["steps"]] == [1, 2, 3, 4]

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


def preview(run: Run) -> Frames:
    """The last one."""
    prefix = f"{run.job(Step.TRAIN).output_prefix}/previews/"
    last = max(entry.key for entry in run.store.list(prefix))
    with av.open(io.BytesIO(run.store.get_bytes(last))) as video:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])


class Alone:
    """Runs on one rank that nothing interrupts, one for each method."""

    def __init__(self, encoded: Run) -> None:
        self._encoded, self._runs = encoded, dict[str, Run]()

    def __getitem__(self, method: str) -> Run:
        if method not in self._runs:
            self._runs[method] = self._encoded.fork(f"alone-{method}", method)
            go(self._runs[method], (1, 1), **PREVIEWS[method])
        return self._runs[method]


@pytest.fixture(scope="module")
def alone(mixed21: Run) -> Alone:
    return Alone(mixed21)


def check_same(run: Run, other: Run) -> None:
    found = differences(run, other)
    assert found["loss"] < 1e-5, found
    assert found["gradientNorm"] < 1e-5, found
    assert found["probes"] < 1e-5, found
    # AdamW moves a weight whose gradient is all rounding as far as any other.
    assert found["weights"] < 5e-4, found


@pytest.mark.parametrize(
    ("method", "ranks", "policy"),
    [("lora", (4, 2), "KeepAttention"), ("full", (2, 1), "Offload")],
)
def test_a_run_is_that_of_one_rank(
    method: str, ranks: Ranks, policy: str, mixed21: Run, alone: Alone
) -> None:
    run = mixed21.fork(f"ranks-{method}", method)
    ends = go(run, ranks, gradientCheckpointing=policy, **PREVIEWS[method])
    assert ends == [run.inputs["train"]] * ranks[0], "the first commits for all"
    check_same(run, alone[method])
    if PREVIEWS[method]:
        mine, its = (preview(each) for each in (run, alone[method]))
        assert mine.shape == its.shape
        assert np.abs(mine.astype(int) - its).mean() < 0.1, "ranks share the sampling"


def test_a_run_goes_on_on_another_number_of_ranks(mixed21: Run, alone: Alone) -> None:
    """Each time, a stop that reaches one rank alone is one of all."""
    run = mixed21.fork("regrouped")
    attempts: list[tuple[Ranks, int]] = [((2, 1), 1), ((1, 1), 2), ((2, 2), 3)]
    for ranks, stop in attempts:
        ends = go(run, ranks, stop=stop)
        assert all(f"a checkpoint at step {stop}" in str(end) for end in ends), ends
    go(run, (2, 1))
    check_same(run, alone["lora"])


def test_weights_that_differ_are_not_saved(mixed21: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = gradients.add_up

    def faulty(parameters: Iterable[nn.Parameter], ranks: World) -> None:
        chosen = list(parameters)
        real(chosen, ranks)
        assert chosen[-1].grad is not None
        chosen[-1].grad.view(-1)[0] *= 1 + ranks.rank

    monkeypatch.setattr(gradients, "add_up", faulty)
    run = mixed21.fork("faulty")
    for end in go(run, (2, 1), stop=2):
        assert "after step 2, rank 1 holds other weights than rank 0: a GPU, or" in end, end
    assert not list(run.store.list(f"{run.job(Step.TRAIN).output_prefix}/checkpoints/"))


@pytest.mark.parametrize(
    ("sequence", "dropout", "said"),
    [
        (3, 0.0, "sequence: 4 attention heads do not divide by 3 ranks"),
        (1, 0.5, "lora.dropout is 0.5, but what 3 GPUs drop would depend on their number"),
    ],
)
def test_what_ranks_cannot_do_is_refused(
    sequence: int, dropout: float, said: str, mixed21: Run
) -> None:
    parallelism = {"gpusPerNode": 3, "sequence": sequence}
    training = {"batchSize": 3, "parallelism": parallelism}
    job = mixed21.job(Step.TRAIN, training=training, lora={"dropout": dropout})
    transformer: Any = SimpleNamespace(_attention=SimpleNamespace(heads=4))
    transformer.check_heads = partial(Transformer.check_heads, transformer)
    with pytest.raises(InputError, match=said):
        check(finetune_of(job), transformer)
