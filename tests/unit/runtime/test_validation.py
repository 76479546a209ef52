"""What a run shows while it trains, which weights it keeps, and when it gives up."""

from __future__ import annotations

import io
from pathlib import Path

import av
import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ml_runs import FRAMES, HEIGHT, WIDTH, Run
from wan_runtime.artifacts import manifest
from wan_runtime.contract.job import ExitClass
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert, Step
from wan_runtime.errors import NumericalError
from wan_runtime.training import guard
from wan_runtime.training.best import best_step
from wan_runtime.training.preview import schedule_of

pytest_plugins = ["ml_fixtures"]


def below(run: Run, step: str, place: str) -> list[str]:
    """Keys of what a train step wrote at `<its output>/<place>/`."""
    prefix = f"{run.job(Step.TRAIN).run_prefix}/{step}/{place}/"
    return [entry.key for entry in run.store.list(prefix)]


def read_events(run: Run, folder: Path) -> EventAccumulator:
    for key in below(run, "train", "events"):
        run.store.download(key, folder / key.rsplit("/", 1)[1])
    reader = EventAccumulator(str(folder))
    reader.Reload()
    return reader


def test_event_files_hold_each_step_and_each_probe(encoded21: Run, tmp_path: Path) -> None:
    run = encoded21.fork("events")
    run.go(Step.TRAIN, training={"steps": 4, "probeEvery": 2})
    reader = read_events(run, tmp_path)
    assert [event.step for event in reader.Scalars("train/loss")] == [1, 2, 3, 4]
    assert [event.step for event in reader.Scalars("probe/mean")] == [0, 2, 4]
    assert {"train/gradientNorm", "train/learningRate"} <= set(reader.Tags()["scalars"])


def test_a_preview_is_a_video_and_changes_nothing(encoded21: Run, tmp_path: Path) -> None:
    plain, looked = encoded21.fork("plain"), encoded21.fork("looked")
    weights = []
    for run, every in ((plain, None), (looked, 2)):
        ref = run.go(Step.TRAIN, training={"steps": 4, "previewEvery": every}).manifest
        assert ref is not None
        manifest.fetch(run.store, ref, tmp_path / run.folder.name)
        weights.append(load_file(tmp_path / run.folder.name / "lora.safetensors"))
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])

    assert not below(plain, "train", "previews")
    keys = below(looked, "train", "previews")
    names = [key.rsplit("/", 1)[1] for key in keys]
    assert names == [f"step-{step:08d}.mp4" for step in (0, 2, 4)]
    with av.open(io.BytesIO(looked.store.get_bytes(keys[-1]))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert (len(frames), *frames[0].shape) == (FRAMES, HEIGHT, WIDTH, 3)
    assert len({frame.tobytes() for frame in frames}) > 1
    assert read_events(looked, tmp_path / "events").Tags()["images"] == ["preview"]


@pytest.mark.parametrize("expert", [Expert.HIGH_NOISE, Expert.LOW_NOISE])
def test_each_expert_of_a_pair_is_previewed(encoded22: Run, expert: Expert) -> None:
    run = encoded22.fork(f"preview-{expert.lower()}")
    run.go(Step.TRAIN, expert, training={"steps": 1, "previewEvery": 1})
    step = run.job(Step.TRAIN, expert).step_id
    assert len(below(run, step, "previews")) == 2


def test_an_expert_samples_its_own_levels(encoded22: Run) -> None:
    high, low = (
        [step.sigma for step in schedule_of(encoded22.job(Step.TRAIN, expert))]
        for expert in (Expert.HIGH_NOISE, Expert.LOW_NOISE)
    )
    assert high[0] == 1
    assert min(high) >= 0.9 == low[0] > low[1]


@pytest.mark.parametrize("ema", [None, 0.5])
def test_the_best_weights_are_committed(encoded21: Run, tmp_path: Path, ema: float | None) -> None:
    """At a rate that overshoots after its first step."""
    change = {"warmupSteps": 0, "probeEvery": 1, "checkpointEvery": 2, "keepCheckpoints": 1}
    change |= {"emaDecay": ema}
    lora = {"learningRate": 0.025}
    weights = {}
    for kept in ("Best", "Last"):
        run = encoded21.fork(f"kept-{kept.lower()}-{ema}")
        outcome = run.go(Step.TRAIN, training={**change, "weights": kept}, lora=lora)
        assert outcome.manifest is not None
        manifest.fetch(run.store, outcome.manifest, tmp_path / kept)
        weights[kept] = load_file(tmp_path / kept / "lora.safetensors")
        assert not below(run, "train", "best"), "nothing is left behind"
        if kept == "Best":
            best = outcome.summary["committedStep"]
            assert isinstance(best, int)
    assert 0 < best < 4
    short = encoded21.fork(f"kept-short-{ema}")
    ref = short.go(Step.TRAIN, training={**change, "steps": best}, lora=lora).manifest
    assert ref is not None
    manifest.fetch(short.store, ref, tmp_path / "short")
    wanted = load_file(tmp_path / "short" / "lora.safetensors")
    assert all(weights["Best"][name].equal(wanted[name]) for name in wanted)
    assert not all(weights["Last"][name].equal(wanted[name]) for name in wanted)


def test_best_step_passes_over_the_base_model() -> None:
    probes = [
        {"step": step, "losses": {"mean": mean}} for step, mean in ((0, 0.1), (5, 0.5), (10, 0.4))
    ]
    assert best_step(probes) == 10
    assert best_step(probes, until=5) == 5
    assert best_step(probes[:1]) is None


def test_a_run_that_diverges_stops(encoded21: Run) -> None:
    run = encoded21.fork("loss-rises", "full")
    with pytest.raises(NumericalError, match="lower the learning rate") as caught:
        run.go(Step.TRAIN, training={"steps": 40, "probeEvery": 5}, full={"learningRate": 1})
    assert (caught.value.exit_class, caught.value.reason) == (
        ExitClass.NUMERICAL,
        Reason.DIVERGED,
    )
    assert below(run, "train", "events"), "what led there can be looked at"


@pytest.mark.parametrize("last", [3.1, float("nan")])
def test_divergence_is_against_the_lowest_loss(last: float) -> None:
    def probes(*means: float) -> list[dict[str, object]]:
        return [{"step": step, "losses": {"mean": mean}} for step, mean in enumerate(means)]

    guard.check_divergence(probes(2.0, 1.0, 2.9))
    with pytest.raises(NumericalError):
        guard.check_divergence(probes(2.0, 1.0, last))


def test_weights_that_overflow_before_the_first_step_are_no_divergence() -> None:
    first: list[dict[str, object]] = [{"step": 0, "losses": {"mean": float("nan")}}]
    with pytest.raises(NumericalError, match="nan before the first step: the weights") as caught:
        guard.check_divergence(first)
    assert caught.value.reason == Reason.NON_FINITE_LOSS
