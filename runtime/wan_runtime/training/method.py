"""What is trained of a transformer: an adapter beside it, or all of it.

The one seam between the training loop and the two methods: `train` knows a Method and nothing else
of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import JobSpec
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.weights import Layout
from wan_runtime.training.full import Full
from wan_runtime.training.lora import Lora


class Method(Protocol):
    """How a transformer is made trainable, and how what was learned is kept."""

    @property
    def learning_rate(self) -> float:
        """Learning rate of AdamW, before the schedule's factor."""

    def storage(self, compute: torch.dtype) -> torch.dtype:
        """Dtype in which the transformer's weights are loaded, given that it runs in `compute`."""

    def prepare(self, transformer: Transformer, seed: int) -> dict[str, nn.Parameter]:
        """Make it trainable; the trainable parameters by name, in float32. Raises InputError."""

    def groups(self, trainable: Mapping[str, nn.Parameter]) -> list[dict[str, Any]]:
        """Parameter groups for the optimizer."""

    def settings(self) -> dict[str, Any]:
        """For training.json: the method's name and its fields."""

    def write(
        self,
        layout: Layout,
        weight: Callable[[str], Tensor],
        folder: Path,
        metadata: Mapping[str, str],
    ) -> Iterator[tuple[str, Path]]:
        """Files of the trained weights, in float32, one after another, with their names. Each
        weight is asked for once, when it is written."""


def method_of(job: JobSpec) -> Method:
    """The job's method."""
    work = finetune_of(job)
    if work.full is not None:
        return Full(work.full)
    assert work.lora is not None, "a fine-tune has exactly one method"
    return Lora(work.lora)
