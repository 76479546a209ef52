"""Checkpoints stay until the result is safe, and not longer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ml_runs import Run
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import JobSpec, Result
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Step
from wan_runtime.errors import InfrastructureError
from wan_runtime.process import step
from wan_runtime.process.progress import Reporter
from wan_runtime.training import leftovers, lora

pytest_plugins = ["ml_fixtures"]

TRAINING = {"steps": 6, "checkpointEvery": 2, "probeEvery": 2, "weights": "Best"}


class Killed(BaseException):
    """Stands for SIGKILL."""


def job_of(run: Run) -> JobSpec:
    return run.job(Step.TRAIN, training=TRAINING)


def attempt(run: Run, work: Path) -> Result:
    """As a pod makes one, from its job file on."""
    job = job_of(run)
    work.mkdir()
    return step.perform(job, work, Reporter(job.step_id))


def folders(run: Run) -> set[str]:
    prefix = f"{job_of(run).output_prefix}/"
    keys = (entry.key.removeprefix(prefix) for entry in run.store.list(prefix))
    return {key.split("/")[0] for key in keys if "/" in key}


def kill_before_removal(run: Run, work: Path) -> None:
    def die(*_: Any) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leftovers, "remove", die)
        with pytest.raises(Killed):
            attempt(run, work)
    assert "checkpoints" in folders(run)


def test_checkpoints_go_once_the_result_is_committed(encoded21: Run, tmp_path: Path) -> None:
    run = encoded21.fork("no-leftovers")
    result = attempt(run, tmp_path / "a")
    assert result.manifest is not None
    assert folders(run) == {"events"}
    assert attempt(run, tmp_path / "b").manifest == result.manifest


def test_a_kill_after_the_commit_leaves_the_rest_to_the_next_attempt(
    encoded21: Run, tmp_path: Path
) -> None:
    run = encoded21.fork("killed-between")
    kill_before_removal(run, tmp_path / "a")
    key = f"{job_of(run).output_prefix}/best/step-00000002/weights.safetensors"
    run.store.put_bytes(key, b"left by a kill before it was removed")
    assert attempt(run, tmp_path / "b").message == "already committed"
    assert folders(run) == {"events"}


def test_a_damaged_result_is_made_again_from_the_checkpoints(
    encoded21: Run, tmp_path: Path
) -> None:
    run = encoded21.fork("damaged-result")
    kill_before_removal(run, tmp_path / "a")
    run.store.put_bytes(f"{job_of(run).output_prefix}/{lora.WEIGHTS}", b"x")
    result = attempt(run, tmp_path / "b")
    assert result.summary["resumedFromStep"] == 4
    assert folders(run) == {"events"}


def test_nothing_is_removed_while_the_result_is_not_whole(encoded21: Run, tmp_path: Path) -> None:
    run = encoded21.fork("not-whole")
    kill_before_removal(run, tmp_path / "a")
    done = attempt(encoded21.fork("whole"), tmp_path / "b")
    assert done.manifest is not None
    place = run.store.parse(done.manifest.uri)[1].removesuffix("manifest.json")
    run.store.delete([f"{place}training.json"])
    with pytest.raises(InfrastructureError, match="is missing"):
        leftovers.remove(job_of(run), run.store, done.manifest)
    assert "checkpoints" in folders(run)


def test_a_store_that_lets_nobody_delete_fails_no_finished_training(
    encoded21: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def denied(self: Store, keys: list[str]) -> None:
        raise InfrastructureError(Reason.STORE_ACCESS_DENIED, "AccessDenied")

    run = encoded21.fork("no-deletes")
    kill_before_removal(run, tmp_path / "a")
    monkeypatch.setattr(Store, "delete", denied)
    assert attempt(run, tmp_path / "b").manifest is not None
    assert "/train/checkpoints/ and " in caplog.text
