"""The child process of `wan-runtime`: does one step and leaves its Result in a file.

`python -m wan_runtime.process.step <step> <job file> <work folder> <run folder>`, as the supervisor
does.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import signal
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from wan_runtime.artifacts import manifest, probe
from wan_runtime.artifacts.patience import Patience
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import Certificate, ExitClass, JobSpec, Result
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import FACTS, Step
from wan_runtime.errors import InputError, classify
from wan_runtime.faults import described
from wan_runtime.process import child, job_file, launch, logs, stacks, stopping, stuck
from wan_runtime.process.imports import import_large
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter

log = logging.getLogger(__name__)

RESULT_FILE = "result.json"

Run = Callable[[JobSpec, Store, Path, Reporter], Outcome | None]
"""None: this process is one of several, and another commits."""


def load_job(path: Path, step: Step) -> JobSpec:
    """Read a job file. Raises InputError(JOB_INVALID) with the fields that are wrong."""
    try:
        job = JobSpec.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(
            Reason.JOB_INVALID, f"job file {path} cannot be read: {error.strerror}"
        ) from error
    except ValidationError as error:
        raise InputError(
            Reason.JOB_INVALID,
            f"job file {path} does not fit this runtime: {described(error)}. "
            "Do the operator and the runtime image come from one release?",
        ) from error
    if job.step is not step:
        raise InputError(Reason.JOB_INVALID, f"{path} is a job for {job.step}, not for {step}")
    return job


def perform(job: JobSpec, work: Path, report: Reporter) -> Result:
    """Do the job, or recognise it as done. Raises StepError and whatever else goes wrong."""
    store = Store.connect(job.store, patience=Patience(heard=report.waits_for))
    result = _committed(job, store)
    if result is None:
        _check(job, store)
        result = _run(job, store, work, report)
    cleanup = FACTS[job.step].cleanup if launch.place().leads else None
    if cleanup is not None and result.manifest is not None:
        importlib.import_module(cleanup).remove(job, store, result.manifest)
    return result


def _check(job: JobSpec, store: Store) -> None:
    """Finds in a step without a GPU what the store would refuse to those with one. Raises
    InfrastructureError."""
    facts = FACTS[job.step]
    if facts.gpu:
        return
    probe.probe(store, f"{job.output_prefix}/{probe.NAME}")
    if facts.checks_cache:
        probe.probe(store, f"{job.cache_prefix}/{probe.NAME}-{job.uid[:8]}")


def _run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Result:
    run: Run = import_large(FACTS[job.step].module).run
    outcome = run(job, store, work, report)
    if outcome is None:
        return Result(step_id=job.step_id, exit_class=ExitClass.DONE, reason=Reason.COMPLETED)
    return Result(
        step_id=job.step_id,
        exit_class=ExitClass.DONE,
        reason=Reason.COMPLETED,
        message=outcome.message,
        manifest=outcome.manifest,
        summary=dict(outcome.summary),
        certificates=_brief(outcome.certificates),
        verdict=outcome.verdict,
    )


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the child. Returns its exit code, the class of the Result that it wrote."""
    parser = argparse.ArgumentParser(prog="python -m wan_runtime.process.step")
    parser.add_argument("step", type=Step)
    for name in ("job", "work", "run"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args(arguments)
    place = launch.place()
    logs.configure(options.step, rank=place.rank if place.world > 1 else None)
    folder: Path = launch.run_folder(options.run, place.local)
    folder.mkdir(exist_ok=True)
    stacks.write_on_signal(folder)
    stuck.publish_heartbeats(folder)
    step_id = str(options.step)
    report: Reporter | None = None
    try:
        stopping.install()
        job = load_job(options.job, options.step)
        job_file.remember(options.job)
        step_id = job.step_id
        launch.check(job.parallelism)
        report = Reporter(step_id, folder, quiet=not place.leads)
        result = perform(job, options.work, report)
        report.close()
    except Exception as error:  # the outermost: whatever it is, it becomes a Result
        found = classify(error)
        if found.reason is Reason.UNEXPECTED and stopping.requested():
            # What Stopped, raised in the midst of a library, was turned into.
            found = stopping.stopped(f"stopped on request, which ended in {found.message}")
        log.error("%s: %s", found.reason, found.message, exc_info=found is not error)
        result = Result(
            step_id=step_id,
            exit_class=found.exit_class,
            reason=found.reason,
            message=found.message,
            checkpoint=report.progress.checkpoint if report is not None else None,
        )
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end is decided
    write_result(folder, result)
    return int(result.exit_class)


def write_result(folder: Path, result: Result) -> None:
    """Leave the Result for the supervisor, whole or not at all."""
    partial = folder / f".{RESULT_FILE}"
    partial.write_text(result.dump())
    partial.replace(folder / RESULT_FILE)


def _committed(job: JobSpec, store: Store) -> Result | None:
    """The Result of an earlier attempt that committed and was lost, for instance with its node."""
    found = manifest.committed(store, job)
    if found is None:
        return None
    ref, content = found
    log.info("already committed: %s", ref.uri)
    return Result(
        step_id=job.step_id,
        exit_class=ExitClass.DONE,
        reason=Reason.COMPLETED,
        message="already committed",
        manifest=ref,
        summary=content.summary,
        certificates=_brief(content.certificates),
        verdict=content.verdict,
    )


def _brief(certificates: tuple[Certificate, ...]) -> tuple[Certificate, ...]:
    """Without the files: a Result is small, and a full model has many."""
    return tuple(each.model_copy(update={"files": ()}) for each in certificates)


if __name__ == "__main__":
    child.enter(main)
