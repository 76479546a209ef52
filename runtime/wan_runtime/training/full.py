"""Full fine-tuning: every weight of the transformer.

Weights, gradients and AdamW's moments are float32: at a rate of 1e-5, nearly all updates of
bfloat16 weights round to nothing. The forward pass rounds each weight to the compute dtype as it is
used (`predict_velocity(..., dtype=)`), so what trains is, to the bit, what the exported bfloat16
weights compute, every attention kernel gets the dtype it wants, and gradients still accumulate in
float32. That is 16 bytes a parameter and no second copy; a bfloat16 working copy with float32
masters beside it takes as much and accumulates in bfloat16.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffsynth.configs import MODEL_CONFIGS
from diffsynth.core.loader.file import hash_model_file, hash_state_dict_keys, load_state_dict
from torch import Tensor, nn

from wan_runtime.errors import InfrastructureError, InputError
from wan_runtime.job import FullSpec, Reason
from wan_runtime.training.weights import (
    SHARD_BYTES,
    SafetensorsFiles,
    shard_name,
    shards,
    write_safetensors,
)

STEM = "full"
"""Of the trained weights' files: `full.safetensors`, or shards."""


@dataclass(frozen=True, slots=True)
class Full:
    """All weights, as a training method."""

    spec: FullSpec

    @property
    def learning_rate(self) -> float:
        return self.spec.learning_rate

    def storage(self, compute: torch.dtype) -> torch.dtype:
        return torch.float32

    def prepare(self, dit: nn.Module, seed: int) -> dict[str, nn.Parameter]:
        """Raises InputError(MODEL_INVALID) if the result could not be loaded under these names."""
        if not _recognised(hash_state_dict_keys(dit.state_dict())):
            raise InputError(
                Reason.MODEL_INVALID,
                "method.full needs a transformer that diffsynth recognises by its own tensor "
                "names: take the weights in the layout of the official release",
            )
        dit.requires_grad_()
        return dict(dit.named_parameters())

    def groups(self, trainable: Mapping[str, nn.Parameter]) -> list[dict[str, Any]]:
        """Weight decay is for matrices: it would pull norms' scales and biases to zero as well."""
        matrices: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in trainable.items():
            matrix = parameter.ndim > 1 and not name.endswith("modulation")
            (matrices if matrix else rest).append(parameter)
        return [{"params": matrices}, {"params": rest, "weight_decay": 0.0}]

    def settings(self) -> dict[str, Any]:
        return {"full": self.spec.model_dump(mode="json")}

    def write(
        self, weights: Mapping[str, Tensor], folder: Path, metadata: Mapping[str, str]
    ) -> Iterator[tuple[str, Path]]:
        groups = shards({name: weights[name].nbytes for name in weights}, SHARD_BYTES)
        for number, names in enumerate(groups):
            path = folder / shard_name(STEM, number, len(groups))
            write_safetensors(path, {name: weights[name] for name in names}, metadata)
            yield path.name, path


def trained_files(folder: Path) -> list[Path]:
    """What `Full.write` left there."""
    return sorted(folder.glob(f"{STEM}*.safetensors"))


def export(
    trained: SafetensorsFiles, folder: Path, stem: str, metadata: Mapping[str, str]
) -> dict[str, Path]:
    """bfloat16 shards in the base model's names, which the stock loader detects, and for more than
    one shard their index; by file name. One shard at a time is in memory.
    """
    sizes = {name: 2 * trained.shape(name).numel() for name in trained}
    groups = shards(sizes, SHARD_BYTES)
    files: dict[str, Path] = {}
    index: dict[str, str] = {}
    for number, names in enumerate(groups):
        file = shard_name(stem, number, len(groups))
        files[file] = folder / file
        shard = {name: trained[name].to(torch.bfloat16) for name in names}
        write_safetensors(files[file], shard, metadata)
        index |= dict.fromkeys(names, file)
    if len(groups) > 1:
        path = folder / f"{stem}.safetensors.index.json"
        content = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": index}
        path.write_text(json.dumps(content, indent=1))
        files[path.name] = path
    return files


def certify(paths: list[Path], trained: SafetensorsFiles) -> float:
    """Reload exported shards through diffsynth's reader and compare them with the trained weights.

    Returns the largest relative difference, over tensors, between the file and the float32 weights:
    the rounding to bfloat16, and nothing else.

    Raises:
        InfrastructureError: UNEXPECTED, if diffsynth does not take the files for a Wan transformer,
            or a tensor is not the trained one rounded: a bug of the export, or a damaged disk.
    """
    if not _recognised(hash_model_file([str(path) for path in paths])):
        raise _broken(paths, "diffsynth does not recognise them as a Wan transformer")
    worst = 0.0
    for path in paths:
        for name, found in load_state_dict(str(path)).items():
            wanted = trained[name]
            if not torch.equal(found, wanted.to(torch.bfloat16)):
                raise _broken([path], f"{name} differs from the trained weights")
            size = float(wanted.norm())
            worst = max(worst, float((found.float() - wanted).norm()) / size if size else 0.0)
    return worst


def _recognised(model_hash: str) -> bool:
    return any(
        config["model_hash"] == model_hash and config["model_name"] == "wan_video_dit"
        for config in MODEL_CONFIGS
    )


def _broken(paths: list[Path], what: str) -> InfrastructureError:
    names = ", ".join(path.name for path in paths)
    return InfrastructureError(
        Reason.UNEXPECTED,
        f"{names}, reloaded as DiffSynth does, is not what was trained: {what}. Not committed",
    )
