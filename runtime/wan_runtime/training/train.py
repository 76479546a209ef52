"""The train step: one expert, or both of a pair in one run."""

from __future__ import annotations

from pathlib import Path

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import JobSpec
from wan_runtime.process import stopping
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter
from wan_runtime.training.experts import trains_both
from wan_runtime.training.joint import Joint
from wan_runtime.training.meet import meet
from wan_runtime.training.trainer import Trainer


def run(job: JobSpec, store: Store, work: Path, report: Reporter) -> Outcome:
    """Train, or go on training from the newest checkpoint, and commit weights, record and curve.
    Each of the ranks calls it; the first reports, saves and commits for all."""
    ranks = meet(finetune_of(job).training.parallelism)
    if trains_both(job):
        return Joint.build(job, store, work, report, ranks).run()
    trainer = Trainer.build(job, store, work, report, ranks)
    with stopping.deferred():
        trainer.start()
        trainer.validate()
        while trainer.state.step < trainer.total:
            if ranks.any(stopping.requested()):
                trainer.save()
                text = f"stopped on request with a checkpoint at step {trainer.saved}"
                raise stopping.stopped(text)
            trainer.step()
            trainer.validate()
            if trainer.state.step % finetune_of(job).training.checkpoint_every == 0:
                trainer.save()
        return trainer.finish()
