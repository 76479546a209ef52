"""The layout of job files: an envelope with the work of one kind, and the earlier one without."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import written_before
from job_files import make_job
from wan_runtime.artifacts.manifest import job_hash
from wan_runtime.contract.earlier import FINE_TUNE
from wan_runtime.contract.finetune import FineTuneWork, finetune_of
from wan_runtime.contract.job import JobSpec, Result
from wan_runtime.contract.model_import import ImportWork
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Step
from wan_runtime.errors import InputError
from wan_runtime.process.step import load_job
from words import library_words


def content(step: Step = Step.TRAIN, **change: Any) -> dict[str, Any]:
    """A job file of today."""
    made: dict[str, Any] = json.loads(make_job(step=step).model_dump_json(by_alias=True))
    return {**made, **change}


def refusal(file: Path, content: dict[str, Any]) -> str:
    """What is said of a job file that is not read."""
    file.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        load_job(file, Step(content["step"]))
    assert caught.value.reason is Reason.JOB_INVALID
    return caught.value.message


@pytest.mark.parametrize("row", written_before.read("jobs"), ids=lambda row: row["stepId"])
def test_a_file_of_the_earlier_layout_is_the_same_job(row: dict[str, Any]) -> None:
    """What its step committed has the address and the hash that the job has now."""
    old = json.loads(row["job"])
    job = JobSpec.model_validate_json(row["job"])
    assert f"{job.output_prefix}/manifest.json" == row["key"]
    assert job_hash(job) == json.loads(row["manifest"])["lineage"]["configHash"]
    assert isinstance(job.work, ImportWork if old["step"] == "import" else FineTuneWork)
    new = json.loads(job.model_dump_json(by_alias=True, exclude_none=True))
    assert not new.keys() & set(FINE_TUNE)
    assert JobSpec.model_validate(new) == job


def test_the_layout_goes_by_the_version(tmp_path: Path) -> None:
    """A file of today that has a field of the earlier layout is none of that layout."""
    odd = content(training={"steps": 3})
    assert "training: there is no such field" in refusal(tmp_path / "job.json", odd)
    old = {name: value for name, value in content().items() if name not in ("version", "work")}
    for version in ({}, {"version": 1}):
        assert "dataset: is missing" in refusal(tmp_path / "job.json", {**old, **version})
    assert "work: is missing" in refusal(tmp_path / "job.json", {**old, "version": 2})
    message = refusal(tmp_path / "job.json", content(version=1))
    assert "version: must be 2, not 1" in message


def test_a_step_does_work_of_its_kind(tmp_path: Path) -> None:
    message = refusal(tmp_path / "job.json", content(work={"kind": "Import"}))
    assert "train is no step of Import: it has import" in message
    message = refusal(tmp_path / "job.json", content(work={"kind": "Guess"}))
    assert "work: must be FineTune, Import, Evaluation, not" in message


def test_an_import_has_no_dataset() -> None:
    job = make_job(step=Step.IMPORT)
    assert job.work == ImportWork()
    with pytest.raises(TypeError, match="the job of import is no fine-tune's but of Import"):
        finetune_of(job)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("{", "runtime: is JSON without its end: was it cut off?"),
        ("", "runtime: is empty. Do the operator and the runtime image come from one release?"),
        ("step: train", "runtime: is no JSON at line 1, column 1"),
        ("[" * 100_000, "runtime: is JSON that is nested too deeply"),
        ("null", "runtime: must be an object, not null"),
        ('["train"]', 'runtime: must be an object, not ["train"]'),
        ("{}", "step: is missing"),
        ('{"step": "fly"}', "step: must be "),
        (f'{{"stepId": "{"x" * 9999}"}}', "is missing"),
        ('{"dataset": {"fps": "many"}}', 'dataset.fps: must be a number, not "many"'),
        ("ok", "is a job for prepare, not for train"),
    ],
)
def test_a_bad_job_file_names_the_field(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "job.json"
    if text is not None:
        path.write_text(make_job().model_dump_json(by_alias=True) if text == "ok" else text)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        load_job(path, Step.TRAIN)
    assert caught.value.reason is Reason.JOB_INVALID
    assert str(path) in caught.value.message
    assert not library_words(caught.value.message)
    assert len(caught.value.message) < len(str(path)) + 700


def test_a_bad_job_file_ends_the_pod_with_the_users_class(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"version": 1, "steps": 3}')
    ended = subprocess.run(
        [sys.executable, "-m", "wan_runtime.cli", "train", "--job", str(tmp_path / "job.json")],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "WAN_TERMINATION_FILE": str(tmp_path / "end"),
            "WAN_PROGRESS_PORT": "0",
        },
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 10
    result = Result.model_validate_json((tmp_path / "end").read_text())
    assert result.reason is Reason.JOB_INVALID
    assert "steps: there is no such field" in result.message


@pytest.mark.parametrize(
    ("spread", "words"),
    [
        ({"gpusPerNode": 4, "sequence": 3}, "sequence is 3, which does not divide the 4 ranks"),
        ({"nodes": 2}, "a step has 1 clips, which cannot be spread evenly over 2 ranks"),
        ({"nodes": 0}, "nodes: must be more than 0, not 0"),
    ],
)
def test_ranks_share_the_clips_evenly(tmp_path: Path, spread: dict[str, int], words: str) -> None:
    work = make_job(step=Step.TRAIN).work.model_dump(mode="json", by_alias=True)
    work["training"]["parallelism"] = spread
    assert words in refusal(tmp_path / "job.json", content(work=work))
