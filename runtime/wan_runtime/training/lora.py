"""A LoRA, as a training method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wan_runtime.contract.training import LoraSpec
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.weights import Layout, stream_safetensors

WEIGHTS = "lora.safetensors"
"""Trained weights, under the names of `Transformer.add_lora`."""


@dataclass(frozen=True, slots=True)
class Lora:
    """Adapters, as a training method."""

    spec: LoraSpec

    @property
    def learning_rate(self) -> float:
        return self.spec.learning_rate

    def storage(self, compute: torch.dtype) -> torch.dtype:
        return compute

    def prepare(self, transformer: Transformer, seed: int) -> dict[str, nn.Parameter]:
        return transformer.add_lora(self.spec, seed)

    def groups(self, trainable: Mapping[str, nn.Parameter]) -> list[dict[str, Any]]:
        return [{"params": list(trainable.values())}]

    def settings(self) -> dict[str, Any]:
        return {"lora": self.spec.model_dump(mode="json")}

    def write(
        self,
        layout: Layout,
        weight: Callable[[str], Tensor],
        folder: Path,
        metadata: Mapping[str, str],
    ) -> Iterator[tuple[str, Path]]:
        scale = {"rank": str(self.spec.rank), "alpha": repr(self.spec.alpha)}
        stream_safetensors(folder / WEIGHTS, layout, weight, {**metadata, **scale})
        yield WEIGHTS, folder / WEIGHTS
