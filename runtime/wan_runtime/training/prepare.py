"""Step `prepare`: checks all that a training needs and that no GPU is needed for."""

from __future__ import annotations

from pathlib import Path

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import JobSpec
from wan_runtime.data import prepare
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Check the weights to start from, if there are any, then the dataset. Raises InputError."""
    if finetune_of(job).starts:
        report.update(activity="checking the weights to start from")
        # torch takes seconds and memory that a run without them does not need here.
        from wan_runtime.training import start

        start.verify(job, store, work)
    return prepare.run(job, store, work, report)
