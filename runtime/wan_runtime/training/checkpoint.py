"""Checkpoints: everything that the next step depends on, committed to the store with the manifest
last.

A crash while writing leaves files without a manifest, which nobody reads. Resume takes the newest
checkpoint that is whole and of the same job. Weights and moments of a 14B model are 200 GB: they
go from the GPU to the store and back a tensor and a file at a time, never all through host memory
or the disk.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from wan_runtime.artifacts import manifest, space
from wan_runtime.artifacts.manifest import IN_FLIGHT, Lineage, Manifest
from wan_runtime.artifacts.store import ArtifactCorrupt, ObjectNotFound, Store
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import Checkpoint, JobSpec, ManifestRef
from wan_runtime.contract.training import Checkpointing
from wan_runtime.models.weights import (
    PIECE_BYTES,
    Layout,
    SafetensorsFiles,
    stream_shards,
    write_safetensors,
)
from wan_runtime.training.ema import Average
from wan_runtime.training.update import Update

log = logging.getLogger(__name__)

KIND = "checkpoint"
STATE, RANDOM = "state.json", "random.safetensors"


@dataclass
class TrainState:
    """What changes from step to step."""

    trainable: dict[str, nn.Parameter]
    update: Update
    generator: torch.Generator
    """Draws noise levels and noise, on the CPU: alike on every device."""
    device: torch.device
    average: Average | None = None
    """Mean of `trainable` over steps, if one is kept."""
    step: int = 0
    """Optimizer steps done."""
    position: int = 0
    """Clips drawn by the sampler."""
    history: dict[str, Any] = field(default_factory=lambda: {"steps": [], "probes": []})
    """For training.json: one entry a step, one a probe evaluation."""

    @contextmanager
    def judged(self) -> Iterator[None]:
        """Inside, `trainable` are the weights to be judged and committed: their average, if one is
        kept.
        """
        with self.average.in_place() if self.average else nullcontext():
            yield

    @property
    def sets(self) -> list[str]:
        """Labels of what a checkpoint holds of each parameter."""
        return [*self.update.labels, *(["average"] if self.average else [])]

    @property
    def layout(self) -> Layout:
        """Dtypes and shapes of the tensors of each set."""
        return {name: (torch.float32, shape) for name, shape in self.update.shapes.items()}

    def read(self, label: str, name: str) -> Tensor:
        """A tensor that a checkpoint holds."""
        if label == "average" and self.average:
            return self.average.tensors[name]
        return self.update.read(label, name)

    def write(self, label: str, name: str, tensor: Tensor) -> None:
        """Overwrite such a tensor."""
        if label == "average" and self.average:
            self.average.tensors[name].copy_(tensor)
        else:
            self.update.write(label, name, tensor)


class Checkpoints:
    """The checkpoints of one training run, at `<prefix>/step-00000100/`."""

    def __init__(
        self,
        store: Store,
        prefix: str,
        work: Path,
        lineage: Lineage,
        keep: int,
        alike: frozenset[str] = frozenset(),
    ) -> None:
        """
        Args:
            alike: hashes of other jobs whose checkpoints are gone on from as well.
        """
        self._store, self._prefix, self._folder = store, prefix, work / "checkpoint"
        self._lineage, self._jobs = lineage, alike | {lineage.config_hash}
        self._keep = max(keep, 1)
        self.newest: Checkpoint | None = None
        """The last that was saved or resumed from."""

    def save(self, state: TrainState) -> ManifestRef:
        """Commit the state, then remove all but the newest `keep` checkpoints up to it, and what
        attempts that were killed while saving left without a manifest. Raises
        InfrastructureError(DISK_FULL) without room for the files in flight.
        """
        self._clear()
        self.check_space(state)
        ref = manifest.commit_pieces(
            self._store,
            f"{self._prefix}/{name_of(state.step)}",
            _write(state, self._folder),
            kind=KIND,
            lineage=self._lineage,
            summary={"step": state.step},
        )
        self.newest = Checkpoint(step=state.step, manifest=ref, saved=datetime.now(UTC))
        # Later ones were passed over when this attempt began: no run goes on from them.
        kept = [step for step in self.steps() if step <= state.step][: self._keep]
        for step in self._begun():
            if step not in kept:
                self._remove(step)
        return ref

    def check_space(self, state: TrainState, beside: int = 0) -> None:
        """Whether saving and resuming will find room; also called before training starts, with the
        bytes that are still to come beside a checkpoint."""
        size = sum(4 * shape.numel() for shape in state.update.shapes.values())
        self._folder.mkdir(parents=True, exist_ok=True)
        size = min(len(state.sets) * size, IN_FLIGHT * PIECE_BYTES)
        what = "a checkpoint beside the latents" if beside else "a checkpoint"
        space.require(self._folder, size + beside, what)

    def resume(self, state: TrainState) -> bool:
        """Load the newest valid checkpoint into `state`. False if there is none.

        Raises:
            InfrastructureError: ARTIFACT_CORRUPT, if the only checkpoint turned out to be damaged
                after `state` was written to. It is removed: the next attempt starts over.
        """
        damage: ArtifactCorrupt | None = None
        for step in self.steps():
            try:
                found = manifest.find(self._store, f"{self._prefix}/{name_of(step)}")
                if found is None or not self._fits(*found, state):
                    continue
                manifest.verify(self._store, found[0])
            except (ArtifactCorrupt, ObjectNotFound) as error:
                log.warning("checkpoint at step %d passed over: %s", step, error)
                continue
            try:
                self._clear()
                _read(state, manifest.fetch_pieces(self._store, found[0], self._folder))
            except ArtifactCorrupt as error:
                log.warning("checkpoint at step %d is damaged and removed: %s", step, error)
                self._remove(step)
                damage = error
                continue
            ref, content = found
            self.newest = Checkpoint(step=state.step, manifest=ref, saved=content.created)
            log.info("resumed from step %d", state.step)
            return True
        if damage is not None:
            raise damage
        return False

    def _fits(self, ref: ManifestRef, content: Manifest, state: TrainState) -> bool:
        """Whether it is of this job, base model and form."""
        mine, its = self._lineage, content.lineage
        same = its.config_hash in self._jobs and its.base_weights == mine.base_weights
        held = {re.split(r"[-.]", entry.path)[0] for entry in content.files}
        whole = held == {*state.sets, "state", "random"}
        if content.kind != KIND or not same or not whole:
            log.warning("%s is of another job: not resumed from", ref.uri)
            return False
        return True

    def _clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)

    def steps(self) -> list[int]:
        """Steps with a manifest, newest first."""
        return sorted(self._begun(re.escape(manifest.NAME)), reverse=True)

    def _begun(self, name: str = ".*") -> set[int]:
        """Steps with a file of a name that matches."""
        pattern = re.compile(rf"{re.escape(self._prefix)}/step-(\d+)/{name}")
        matches = (pattern.fullmatch(entry.key) for entry in self._store.list(f"{self._prefix}/"))
        return {int(match[1]) for match in matches if match}

    def _remove(self, step: int) -> None:
        prefix = f"{self._prefix}/{name_of(step)}/"
        # The manifest first: what is half removed is then no checkpoint any more.
        self._store.delete([prefix + manifest.NAME])
        self._store.delete([entry.key for entry in self._store.list(prefix)])


def jobs_alike(job: JobSpec) -> frozenset[str]:
    """Hashes of the jobs that differ from `job` in what blocks keep between forward and backward,
    and so in rounding alone: an edit of the number of GPUs has that chosen anew."""
    work = finetune_of(job)
    found = set()
    for policy in get_args(Checkpointing):
        training = work.training.model_copy(update={"gradient_checkpointing": policy})
        other = job.model_copy(update={"work": work.model_copy(update={"training": training})})
        found.add(manifest.job_hash(other))
    return frozenset(found)


def name_of(step: int) -> str:
    """Name of all that is kept of one step; names sort as steps do."""
    return f"step-{step:08d}"


def _write(state: TrainState, folder: Path) -> Iterator[tuple[str, Path]]:
    """The files one after another: `weights-00001-of-00030.safetensors` and the like."""
    for label in state.sets:
        tensor = partial(state.read, label)
        yield from stream_shards(folder / label, state.layout, tensor, {}, PIECE_BYTES)
    random = {"noise": state.generator.get_state(), "cpu": torch.get_rng_state()}
    if state.device.type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state(state.device)
    write_safetensors(folder / RANDOM, random, {})
    yield RANDOM, folder / RANDOM
    content = {
        "step": state.step,
        "position": state.position,
        "schedule": state.update.scheduled,
        "history": state.history,
    }
    (folder / STATE).write_text(json.dumps(content, sort_keys=True))
    yield STATE, folder / STATE


def _read(state: TrainState, paths: Iterator[Path]) -> None:
    """Overwrite `state` with the files. Raises ArtifactCorrupt if some of it is left."""
    state.update.begin_moments()
    left = {(label, name) for label in state.sets for name in state.update.shapes}
    for path in paths:
        if path.name == STATE:
            _restore_counts(state, json.loads(path.read_text()))
        elif path.name == RANDOM:
            _restore_random(state, load_file(path))
        else:
            label = re.split(r"[-.]", path.name)[0]
            with SafetensorsFiles([path]) as tensors, torch.no_grad():
                for name in tensors:
                    state.write(label, name, tensors[name])
                    left.discard((label, name))
    if left:
        raise ArtifactCorrupt(f"the checkpoint lacks {len(left)} tensors, {min(left)} among them")


def _restore_counts(state: TrainState, content: Mapping[str, Any]) -> None:
    state.step, state.position = int(content["step"]), int(content["position"])
    state.history = dict(content["history"])
    state.update.restore_counts(state.step, int(content["schedule"]))


def _restore_random(state: TrainState, random: Mapping[str, Tensor]) -> None:
    state.generator.set_state(random["noise"])
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and state.device.type == "cuda":
        torch.cuda.set_rng_state(random["cuda"], state.device)
