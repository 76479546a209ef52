"""The child of a supervisor under test: the real entry point, with a step that does as told.

WAN_TEST_DOES names one of the functions below, or one for each rank with commas between.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import Checkpoint, JobSpec, ManifestRef
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import FACTS, Step
from wan_runtime.errors import InfrastructureError, InputError, NumericalError
from wan_runtime.process import child, launch, progress, step, stopping
from wan_runtime.process.imports import import_large
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter


def finish(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    (work / "answer").write_text("42")
    assert job.model is not None
    lineage = manifest.Lineage(config_hash=manifest.job_hash(job), preset=job.model.preset)
    ref = manifest.commit(
        store, job.output_prefix, {"answer": work / "answer"}, kind="dataset", lineage=lineage,
        summary={"clips": 3},
    )  # fmt: skip
    return Outcome(manifest=ref, message="3 clips train", summary={"clips": 3})


def die(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def crash(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    print("driver says: bad things", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def vanish(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    print("first\nlast words", file=sys.stderr, flush=True)
    os._exit(0)


def wrong_input(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    raise InputError(Reason.CLIP_INVALID, "clip a.mp4: too short")


def diverge(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    raise NumericalError(Reason.NON_FINITE_LOSS, "the loss is NaN at step 3")


def eat_memory(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    raise MemoryError


def fill_disk(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    raise OSError(errno.ENOSPC, "No space left on device", "/work/latents")


def bug(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    raise KeyError("nobody foresaw this")


def wait(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    report.update(activity="waiting", current=2, total=8, unit="steps", loss=0.5, updates_lost=0.25)
    while True:
        time.sleep(0.05)


sleep: Callable[[], Outcome]
"""What a large library does while it is imported."""


def large(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Imports a library that takes any Exception for the lack of an option."""
    (work / "large_module.py").write_text(
        "import step_double\ntry:\n    step_double.sleep()\nexcept Exception:\n    pass\n"
    )
    sys.path.insert(0, str(work))
    global sleep
    sleep = partial(wait, job, store, work, report)
    import_large("large_module")
    raise AssertionError("the stop was lost")


def confuse(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Calls a library that makes another error of what is raised within it."""
    try:
        return wait(job, store, work, report)
    except Exception:
        raise SystemError("initialization of _C raised unreported exception") from None


def save(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    with stopping.deferred():
        report.update(activity="training")
        while not stopping.requested():
            time.sleep(0.01)
        (work / "checkpoint").write_text("saved")
        ref = ManifestRef(uri="s3://wan/checkpoints/step-7/manifest.json", sha256="c" * 64)
        report.saved(Checkpoint(step=7, manifest=ref, saved=datetime.now(UTC)))
    raise AssertionError


def lead(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Commits once the other rank has done its part."""
    while not (work / "environment-1").exists():
        time.sleep(0.01)
    return finish(job, store, work, report)


def follow(job: JobSpec, store: Store, work: Path, report: Reporter) -> None:
    """A rank that has nothing to commit."""
    said = "\n".join(f"{name}={os.environ[name]}" for name in launch.NAMES)
    (work / f"partial-{os.getpid()}").write_text(said)
    (work / f"partial-{os.getpid()}").replace(work / f"environment-{os.environ['RANK']}")


def lose(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Waits for another rank until that is gone."""
    while not (work / "gone").exists():
        time.sleep(0.01)
    raise InfrastructureError(Reason.RANK_LOST, "another rank is lost: Connection reset by peer")


def go(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Fails, and is slower to end than those that find out."""
    (work / "gone").touch()
    while not (Path(os.environ["WAN_RUN_DIR"]) / step.RESULT_FILE).exists():
        time.sleep(0.01)
    raise MemoryError


def train_and_hang(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    progress.PUBLISH_SECONDS = 0.0
    for number in range(1, 41):  # many, for a supervisor that is late to look at them
        report.update(activity="training", current=number, total=99, unit="steps")
        time.sleep(0.05)
    with report.uncounted():
        time.sleep(4.5)  # longer than a step may take
    (work / "hangs").touch()
    return wait_here()


def load_and_hang(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    report.update(activity="loading the model")
    return wait_here()


def wait_here() -> Outcome:
    while True:
        time.sleep(0.05)


def leave_orphans(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """One orphan that ends, which must be reaped, and one that would stay, which must be killed."""
    script = "sleep 0.2 >&2 & echo $!; sleep 300 >&2 & echo $!"
    shown = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, check=True).stdout.split()
    (work / "stays").write_text(shown[1].decode())
    parent = Path(f"/proc/{int(shown[1])}/stat").read_text().rpartition(")")[2].split()[1]
    if int(parent) != os.getppid():
        raise RuntimeError(f"the orphan went to process {parent}, not to the supervisor")
    deadline = time.monotonic() + 120
    while Path(f"/proc/{int(shown[0])}").exists():
        if time.monotonic() > deadline:
            raise RuntimeError("the orphan is still a zombie")
        time.sleep(0.02)
    return finish(job, store, work, report)


if __name__ == "__main__":
    names = os.environ["WAN_TEST_DOES"].split(",")
    run = globals()[names[min(launch.place().rank, len(names) - 1)]]  # what step.perform calls
    for each in (Step.PREPARE, Step.TRAIN):
        FACTS[each] = replace(FACTS[each], module="step_double", cleanup=None)
    sys.modules["step_double"] = sys.modules["__main__"]
    child.enter(step.main)
