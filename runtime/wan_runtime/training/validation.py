"""What is evaluated while a run trains: probes, event files, previews, the best weights.

Nothing here changes what is trained: it draws from generators of its own and leaves the training
mode as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import JobSpec
from wan_runtime.models.dit.parallel import Mesh
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.training import guard
from wan_runtime.training.best import BestWeights, best_step
from wan_runtime.training.checkpoint import TrainState
from wan_runtime.training.events import EventFiles
from wan_runtime.training.preview import Previews
from wan_runtime.training.probes import Probes


@dataclass
class Validation:
    """Call `run_due` on all ranks, once before the first step and after every one. Probes and
    previews are shared; all else is done by the first rank."""

    job: JobSpec
    store: Store
    work: Path
    transformer: Transformer
    state: TrainState
    total: int
    ranks: Mesh
    probes: Probes
    previews: Previews
    best: BestWeights

    def run_due(self) -> None:
        """Do what is due at this step. Raises NumericalError(DIVERGED) on all ranks. Collective."""
        step, spec = self.state.step, finetune_of(self.job).training
        fresh = step > self._resumed_from
        probed = self._probe() if self._due(spec.probe_every) else False
        previewed = spec.preview_every and (fresh or step == 0) and self._due(spec.preview_every)
        picture = self.previews.make(self.transformer, step) if previewed else None
        if probed and spec.weights == "Best":
            self._keep_best()
        if self.ranks.rank == 0:
            if fresh:
                self._record(self.state.history["steps"][-1])
            if probed:
                self._note(self.state.history["probes"][-1])
            if picture is not None:
                self.events.picture(step, "preview", picture)
            if probed or previewed:
                self.events.upload()
        if probed or previewed:
            guard.check_divergence(self.state.history["probes"])

    def checkpointed(self, steps: Iterable[int]) -> None:
        """Told which checkpoints there are: weights that no run resumed from one could still call
        its best are removed.
        """
        self.events.upload()
        if finetune_of(self.job).training.weights == "Best":
            probes = self.state.history["probes"]
            best = {best_step(probes, until=step) for step in (*steps, self.state.step)}
            self.best.keep({step for step in best if step is not None})

    def choose(self) -> int:
        """Set the weights to those that are committed at the end of training; return the step they
        are from."""
        best = best_step(self.state.history["probes"])
        if finetune_of(self.job).training.weights == "Last" or best in (None, self.state.step):
            return self.state.step
        assert best is not None
        self.best.restore(best, partial(self.state.update.write, "weights"))
        return best

    def close(self) -> None:
        """Send the last events and remove the best weights, which by now are the result."""
        self.events.upload()
        self.events.close()
        self.best.keep(set())

    @cached_property
    def events(self) -> EventFiles:
        """Opened after resuming: it has readers drop what an earlier attempt did beyond."""
        place = f"{self.job.output_prefix}/events"
        return EventFiles(self.store, place, self.work / "events", resumed_from=self._resumed_from)

    @cached_property
    def _resumed_from(self) -> int:
        return self.state.step

    def _due(self, every: int) -> bool:
        return self.state.step in (0, self.total) or self.state.step % every == 0

    def _record(self, entry: dict[str, Any]) -> None:
        names = ("loss", "gradientNorm", "learningRate", "updatesLost", "seconds")
        self.events.scalars(entry["step"], {f"train/{name}": entry[name] for name in names})

    def _probe(self) -> bool:
        """Evaluate, unless an earlier attempt of the run did it at this step."""
        step, evaluated = self.state.step, self.state.history["probes"]
        if evaluated and evaluated[-1]["step"] == step:
            return False
        evaluated.append({"step": step, "losses": self.probes.evaluate(self.transformer)})
        return True

    def _note(self, evaluated: dict[str, Any]) -> None:
        """Record the losses of the probes."""
        step, losses = evaluated["step"], evaluated["losses"]
        self.events.scalars(step, {f"probe/{name}": loss for name, loss in losses.items()})

    def _keep_best(self) -> None:
        """Keep the weights, if they are the best so far. Collective."""
        step = self.state.step
        if best_step(self.state.history["probes"]) == step:
            weight = partial(self.state.read, "weights")
            self.state.update.led(lambda: self.best.save(step, self.state.layout, weight))
