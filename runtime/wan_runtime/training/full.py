"""Full fine-tuning: every weight of the transformer.

Weights, gradients and AdamW's moments are float32: at a rate of 1e-5, nearly all updates of
bfloat16 weights round to nothing. The forward pass rounds each weight to the compute dtype as it is
used (`Transformer.dtype`; the time embedding alone stays float32), so what trains is,
to the bit, what the exported bfloat16 weights compute, every attention kernel gets the dtype it
wants, and gradients still accumulate in float32. That is 16 bytes a parameter and no second copy; a
bfloat16 working copy with float32 masters beside it takes as much and accumulates in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wan_runtime.contract.training import FullSpec
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.weights import PIECE_BYTES, Layout, stream_shards

STEM = "full"
"""Stem of the names of the trained weights' files: `full.safetensors`, or shards."""


@dataclass(frozen=True, slots=True)
class Full:
    """All weights, as a training method."""

    spec: FullSpec

    @property
    def learning_rate(self) -> float:
        return self.spec.learning_rate

    def storage(self, compute: torch.dtype) -> torch.dtype:
        return torch.float32

    def prepare(self, transformer: Transformer, seed: int) -> dict[str, nn.Parameter]:
        """Raises InputError(MODEL_INVALID) if the result could not be loaded under these names."""
        return transformer.unfreeze()

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
        self,
        layout: Layout,
        weight: Callable[[str], Tensor],
        folder: Path,
        metadata: Mapping[str, str],
    ) -> Iterator[tuple[str, Path]]:
        return stream_shards(folder / STEM, layout, weight, metadata, PIECE_BYTES)


def trained_files(folder: Path) -> list[Path]:
    """What `Full.write` left there."""
    return sorted(folder.glob(f"{STEM}*.safetensors"))
