"""The encode step: fills the latent cache, or makes one list of what its parts put there."""

from __future__ import annotations

from pathlib import Path

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import JobSpec
from wan_runtime.contract.results import encoded_parts
from wan_runtime.data.gather import gather
from wan_runtime.process.imports import import_large
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Commit the list of the dataset's entries, or of those of one part."""
    if parts := encoded_parts(job):
        return gather(job, store, work, parts)
    # Imported here: diffsynth takes ten seconds and more, and a list needs none of it.
    outcome: Outcome = import_large("wan_runtime.data.encode").run(job, store, work, report)
    return outcome
