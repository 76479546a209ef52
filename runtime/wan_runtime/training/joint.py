"""Both experts of a pair trained in one run: the noise level of a step is drawn first, and trains
the expert that it falls to.

Each expert is trained as a run of its own trains it, for the number of steps that fall to it:
draws, optimizer, learning rate, probes and checkpoints are its own. So what becomes of it depends
neither on the other nor on the order of the steps, and where an attempt ended between two
checkpoints, each goes on from its own.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import Lineage
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import Checkpoint, JobSpec, ManifestRef
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.results import encoded, training_id
from wan_runtime.contract.steps import Expert
from wan_runtime.contract.summary import TRAINED_STEPS
from wan_runtime.data.latents import load_latents
from wan_runtime.errors import InputError
from wan_runtime.models.dit.parallel import Mesh
from wan_runtime.planner.steps import joint_order
from wan_runtime.presets import preset_of
from wan_runtime.process import stopping
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter
from wan_runtime.training.experts import PREFIXES, job_of
from wan_runtime.training.sampler import steps_of
from wan_runtime.training.trainer import Trainer


@dataclass
class Joint:
    """The run, on each of its ranks."""

    job: JobSpec
    store: Store
    work: Path
    report: Reporter
    ranks: Mesh
    order: list[Expert]
    """The expert that each step trains."""
    trainers: dict[Expert, Trainer]
    """Those that are not done."""
    done: dict[Expert, ManifestRef]
    """Weights that are committed."""

    @classmethod
    def build(cls, job: JobSpec, store: Store, work: Path, report: Reporter, ranks: Mesh) -> Joint:
        """Load both transformers, or the one that no earlier attempt has finished. Collective."""
        spec, lora = finetune_of(job).training, finetune_of(job).lora
        if lora is not None and lora.dropout:
            text = (
                f"lora.dropout is {lora.dropout}, but what is dropped of one expert would depend "
                "on the steps of the other: train without it, or one expert after the other"
            )
            raise InputError(Reason.JOB_INVALID, text)
        latents = ranks.first_on_node(lambda: load_latents(store, encoded(job), work))
        total = steps_of(spec, len(latents.train))
        if total < 2:
            text = f"training has {total} step: a run of both experts has one for each at least"
            raise InputError(Reason.JOB_INVALID, text)
        order = joint_order(preset_of(job), total, spec.seed)
        jobs = {each: job_of(job, each, order.count(each)) for each in preset_of(job).experts}
        made = cls(job, store, work, report, ranks, order, {}, {})
        made.done = ranks.decided(
            lambda: {
                expert: found[0]
                for expert, own in jobs.items()
                if (found := manifest.committed(store, own)) is not None
            }
        )
        for expert, own in jobs.items():
            if expert not in made.done:
                part = _Part(made)
                folder = work / own.step_id
                folder.mkdir(exist_ok=True)
                made.trainers[expert] = Trainer.build(own, store, work, part, ranks, folder)
        for one, other in pairwise(made.trainers.values()):
            other.transformer.share_host_memory(one.transformer)
        return made

    @property
    def steps(self) -> int:
        """Optimizer steps done, of both experts."""
        own = (trainer.state.step for trainer in self.trainers.values())
        return sum(own) + sum(self.order.count(expert) for expert in self.done)

    def run(self) -> Outcome:
        """Train and commit. Collective."""
        every = finetune_of(self.job).training.checkpoint_every
        taken = dict.fromkeys(self.order, 0)
        with stopping.deferred():
            self._start()
            for number, expert in enumerate(self.order, 1):
                taken[expert] += 1
                if expert in self.trainers:
                    self._step(expert, taken[expert])
                if number % every == 0:
                    self._save()
            return self.ranks.decided(self._commit)

    def _start(self) -> None:
        """Go on from the newest checkpoint of each expert, or begin. Collective."""
        for trainer in self.trainers.values():
            trainer.start()
            trainer.validate()
        self._report_checkpoint()

    def _step(self, expert: Expert, number: int) -> None:
        """Step `number` of an expert, unless an earlier attempt did it. Collective."""
        trainer = self.trainers[expert]
        if trainer.state.step < number:
            if self.ranks.any(stopping.requested()):
                self._save()
                text = f"stopped on request with a checkpoint at step {self.steps} of both experts"
                raise stopping.stopped(text)
            trainer.step()
            trainer.validate()
        if trainer.state.step == trainer.total:
            del trainer
            self._finish(expert)

    def _finish(self, expert: Expert) -> None:
        """Commit the weights of an expert that has all its steps, and let go of it. Collective."""
        committed = self.trainers[expert].finish().manifest
        assert committed is not None
        self.done[expert] = committed
        del self.trainers[expert]
        gc.collect()  # a module and its hooks refer to each other

    def _save(self) -> None:
        """Write a checkpoint of each expert. Collective."""
        for trainer in self.trainers.values():
            trainer.save()
        self._report_checkpoint()

    def _report_checkpoint(self) -> None:
        """Report the newest of the experts', at the number of all steps."""
        found = [trainer.checkpoints.newest for trainer in self.trainers.values()]
        saved = [each for each in found if each is not None]
        if saved:
            newest = max(saved, key=lambda each: each.saved)
            self.report.saved(newest.model_copy(update={"step": self.steps}))

    def _commit(self) -> Outcome:
        """Commit a manifest that names the weights of both."""
        parts = {each: manifest.load(self.store, ref) for each, ref in self.done.items()}
        numbers = {
            f"{PREFIXES[expert]}{name}": value
            for expert in sorted(parts)
            for name, value in parts[expert].summary.items()
        }
        summary = {TRAINED_STEPS: len(self.order), **numbers}
        lineage = Lineage.of(
            self.job,
            dataset=encoded(self.job).sha256,
            seed=finetune_of(self.job).training.seed,
        )
        ids = {training_id(expert): ref for expert, ref in sorted(self.done.items())}
        ref = manifest.commit(
            self.store,
            self.job.output_prefix,
            {},
            kind="training",
            lineage=lineage.model_copy(update={"inputs": {**lineage.inputs, **ids}}),
            summary=summary,
        )
        losses = "; ".join(
            f"{expert}: {part.summary[TRAINED_STEPS]} steps, loss of the held-out probes "
            f"{part.summary['firstProbeLoss']:.4f} -> {part.summary['lastProbeLoss']:.4f}"
            for expert, part in sorted(parts.items())
        )
        return Outcome(manifest=ref, message=losses, summary=summary)


class _Part(Reporter):
    """Reports the steps of one expert as those of the run."""

    def __init__(self, run: Joint) -> None:
        super().__init__(run.job.step_id, quiet=True)
        self._run = run

    def update(self, **change: Any) -> None:
        """As of Reporter."""
        if change.get("unit") == "steps":
            change |= {"current": self._run.steps, "total": len(self._run.order)}
        self._run.report.update(**change)

    def saved(self, checkpoint: Checkpoint) -> None:
        """Nothing: the run reports the checkpoints of both together."""

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """As of Reporter."""
        with self._run.report.uncounted():
            yield
