"""Several ranks train as one does: the same losses and weights, but for rounding."""

from __future__ import annotations

import io
from collections.abc import Iterable

import av
import numpy as np
import pytest
from torch import nn

from ml_runs import Run
from rank_runs import Alone, Ranks, check_same, go
from wan_runtime.contract.steps import Step
from wan_runtime.models.dit.parallel import World
from wan_runtime.rendering.media import Frames
from wan_runtime.training import gradients

pytest_plugins = ["ml_fixtures"]

PREVIEWS: dict[str, dict[str, int]] = {"lora": {"previewEvery": 4}, "full": {}}


def preview(run: Run) -> Frames:
    """The last one."""
    prefix = f"{run.job(Step.TRAIN).output_prefix}/previews/"
    last = max(entry.key for entry in run.store.list(prefix))
    with av.open(io.BytesIO(run.store.get_bytes(last))) as video:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])


@pytest.fixture(scope="module")
def alone(mixed21: Run) -> Alone:
    return Alone(mixed21, "alone", **PREVIEWS)


@pytest.mark.parametrize(
    ("method", "ranks", "policy"),
    [("lora", (4, 2), "KeepAttention"), ("full", (2, 1), "Offload")],
)
def test_a_run_is_that_of_one_rank(
    method: str, ranks: Ranks, policy: str, mixed21: Run, alone: Alone
) -> None:
    run = mixed21.fork(f"ranks-{method}", method)
    ends = go(run, ranks, gradientCheckpointing=policy, deterministic=True, **PREVIEWS[method])
    assert ends == [run.inputs["train"]] * ranks[0], "the first commits for all"
    check_same(run, alone[method])
    if PREVIEWS[method]:
        mine, its = (preview(each) for each in (run, alone[method]))
        assert mine.shape == its.shape
        assert np.abs(mine.astype(int) - its).mean() < 0.5, "ranks share the sampling"


def test_a_run_goes_on_on_another_number_of_ranks(mixed21: Run, alone: Alone) -> None:
    """Each time, a stop that reaches one rank alone is one of all. What blocks keep changes too."""
    run = mixed21.fork("regrouped")
    attempts: list[tuple[Ranks, str]] = [((2, 2), "None"), ((1, 1), "Offload")]
    for stop, (ranks, policy) in enumerate(attempts, 1):
        ends = go(run, ranks, stop=stop, gradientCheckpointing=policy)
        assert all(f"a checkpoint at step {stop}" in str(end) for end in ends), ends
    go(run, (2, 1), gradientCheckpointing="Full")
    check_same(run, alone["lora"])


def test_a_mean_above_weights_in_8_bits_goes_on_on_other_ranks(mixed21: Run) -> None:
    training = {"basePrecision": "FP8", "emaDecay": 0.5}
    one, run = mixed21.fork("float8-alone"), mixed21.fork("float8-ranks")
    go(one, (1, 1), **training)
    ends = go(run, (2, 1), stop=2, gradientCheckpointing="KeepAttention", **training)
    assert all("a checkpoint at step 2" in str(end) for end in ends), ends
    go(run, (2, 2), gradientCheckpointing="Offload", **training)
    check_same(run, one)


def test_weights_that_differ_are_not_saved(mixed21: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = gradients.add_up

    def faulty(parameters: Iterable[nn.Parameter], ranks: World) -> None:
        chosen = list(parameters)
        real(chosen, ranks)
        assert chosen[-1].grad is not None
        chosen[-1].grad.view(-1)[0] *= 1 + ranks.rank

    monkeypatch.setattr(gradients, "add_up", faulty)
    run = mixed21.fork("faulty")
    for end in go(run, (2, 1), stop=1):
        assert "after step 1, rank 1 holds other weights than rank 0: a GPU, or" in end, end
    assert not list(run.store.list(f"{run.job(Step.TRAIN).output_prefix}/checkpoints/"))
