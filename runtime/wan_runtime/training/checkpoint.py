"""Checkpoints: everything that the next step depends on, committed to the store with the manifest
last.

A crash while writing leaves files without a manifest, which nobody reads. Resume takes the newest
checkpoint that is whole and of the same job.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import Lineage
from wan_runtime.artifacts.store import ArtifactCorrupt, ObjectNotFound, Store
from wan_runtime.job import ManifestRef

log = logging.getLogger(__name__)

KIND = "checkpoint"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
"""AdamW's state of one parameter."""


@dataclass
class TrainState:
    """What changes from step to step."""

    trainable: dict[str, nn.Parameter]
    optimizer: torch.optim.AdamW
    schedule: torch.optim.lr_scheduler.LambdaLR
    generator: torch.Generator
    """Draws noise levels and noise, on the CPU: alike on every device."""
    device: torch.device
    step: int = 0
    """Optimizer steps done."""
    position: int = 0
    """Clips drawn by the sampler."""
    history: dict[str, Any] = field(default_factory=lambda: {"steps": [], "probes": []})
    """For training.json: one entry a step, one a probe evaluation."""


class Checkpoints:
    """The checkpoints of one training run, at `<prefix>/step-00000100/`."""

    def __init__(self, store: Store, prefix: str, work: Path, lineage: Lineage, keep: int) -> None:
        self._store, self._prefix, self._work = store, prefix, work
        self._lineage = lineage
        self._keep = max(keep, 1)

    def save(self, state: TrainState) -> ManifestRef:
        """Commit the state, then remove all but the newest `keep` checkpoints."""
        folder = self._work / "checkpoint"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        files = _write(state, folder)
        ref = manifest.commit(
            self._store,
            f"{self._prefix}/{_name(state.step)}",
            files,
            kind=KIND,
            lineage=self._lineage,
            summary={"step": state.step},
        )
        shutil.rmtree(folder)
        for step in self._steps()[self._keep :]:
            self._remove(step)
        return ref

    def resume(self, state: TrainState) -> bool:
        """Load the newest valid checkpoint into `state`. False if there is none."""
        for step in self._steps():
            folder = self._work / "resume"
            shutil.rmtree(folder, ignore_errors=True)
            try:
                found = manifest.find(self._store, f"{self._prefix}/{_name(step)}")
                if found is None:
                    continue
                ref, content = found
                if content.kind != KIND or content.lineage.config_hash != self._lineage.config_hash:
                    log.warning("%s is of another job: not resumed from", ref.uri)
                    continue
                manifest.fetch(self._store, ref, folder)
                _read(state, folder)
            except (ArtifactCorrupt, ObjectNotFound) as error:
                log.warning(
                    "checkpoint at step %d is not valid, looking for an older one: %s", step, error
                )
                continue
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            log.info("resumed from step %d", state.step)
            return True
        return False

    def _steps(self) -> list[int]:
        """Steps with a manifest, newest first."""
        pattern = re.compile(re.escape(self._prefix) + r"/step-(\d+)/" + re.escape(manifest.NAME))
        matches = (pattern.fullmatch(entry.key) for entry in self._store.list(f"{self._prefix}/"))
        return sorted((int(match[1]) for match in matches if match), reverse=True)

    def _remove(self, step: int) -> None:
        prefix = f"{self._prefix}/{_name(step)}/"
        # The manifest first: what is half removed is then no checkpoint any more.
        self._store.delete([prefix + manifest.NAME])
        self._store.delete([entry.key for entry in self._store.list(prefix)])


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _write(state: TrainState, folder: Path) -> dict[str, Path]:
    weights = {
        name: parameter.detach().cpu().contiguous() for name, parameter in state.trainable.items()
    }
    moments = {
        f"{name}/{moment}": torch.as_tensor(state.optimizer.state[parameter][moment])
        .detach()
        .cpu()
        .contiguous()
        for name, parameter in state.trainable.items()
        for moment in MOMENTS
        if parameter in state.optimizer.state
    }
    random = {"noise": state.generator.get_state(), "cpu": torch.get_rng_state()}
    if state.device.type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state(state.device)
    content = {
        "step": state.step,
        "position": state.position,
        "schedule": state.schedule.state_dict()["last_epoch"],
        "history": state.history,
    }
    files = {
        name: folder / name
        for name in ("weights.safetensors", "optimizer.safetensors", "random.safetensors")
    }
    for path, tensors in zip(files.values(), (weights, moments, random), strict=True):
        save_file(tensors, path)
    path = folder / "state.json"
    path.write_text(json.dumps(content, sort_keys=True))
    return {**files, path.name: path}


def _read(state: TrainState, folder: Path) -> None:
    """Raises ArtifactCorrupt, before anything of `state` is touched, if the checkpoint is of
    another model.
    """
    weights = load_file(folder / "weights.safetensors")
    moments = load_file(folder / "optimizer.safetensors")
    random = load_file(folder / "random.safetensors")
    content: Mapping[str, Any] = json.loads((folder / "state.json").read_text())
    shapes = {name: parameter.shape for name, parameter in state.trainable.items()}
    if {name: tensor.shape for name, tensor in weights.items()} != shapes:
        raise ArtifactCorrupt("the checkpoint's weights are not those of this model")
    if moments.keys() != {f"{name}/{moment}" for name in shapes for moment in MOMENTS}:
        raise ArtifactCorrupt("the checkpoint's optimizer state is not that of this model")
    with torch.no_grad():
        for name, parameter in state.trainable.items():
            parameter.copy_(weights[name])
            state.optimizer.state[parameter] = {
                moment: _moment(moments[f"{name}/{moment}"], moment, parameter)
                for moment in MOMENTS
            }
    # LambdaLR derives the rate from its count alone; the optimizer's groups must be told it too.
    state.schedule.last_epoch = int(content["schedule"])
    rates = [
        base * function(state.schedule.last_epoch)
        for base, function in zip(state.schedule.base_lrs, state.schedule.lr_lambdas, strict=True)
    ]
    for group, rate in zip(state.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    state.generator.set_state(random["noise"])
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and state.device.type == "cuda":
        torch.cuda.set_rng_state(random["cuda"], state.device)
    state.step, state.position = int(content["step"]), int(content["position"])
    state.history = dict(content["history"])


def _moment(value: Tensor, moment: str, parameter: nn.Parameter) -> Tensor:
    # AdamW keeps its step count on the CPU, its fused kernel on the GPU.
    if moment == "step":
        return value.to(parameter.device, copy=True)
    return value.to(parameter.device, parameter.dtype)
