"""The job file of this process, for a step that heeds what may be edited while it runs."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from wan_runtime.contract.job import JobSpec

_path: Path | None = None


def remember(path: Path) -> None:
    """Keep the path of the file. Called by the step's entry point."""
    global _path
    _path = path


def current(job: JobSpec) -> JobSpec:
    """The job as its file states it now; as given where the file cannot be read, or states another
    job, or one with another result."""
    if _path is None:
        return job
    try:
        found = JobSpec.model_validate_json(_path.read_bytes())
    except (OSError, ValidationError):
        return job
    if (found.uid, found.step_id) != (job.uid, job.step_id) or found.identity != job.identity:
        return job
    return found
