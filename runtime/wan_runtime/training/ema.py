"""The exponential mean of the trained weights over steps (Polyak & Juditsky 1992), in float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """A second copy of the trainable parameters: for adapters, not for 14B weights."""

    def __init__(self, trainable: Mapping[str, nn.Parameter], decay: float) -> None:
        self._trainable = trainable
        self._decay = decay
        self.tensors: dict[str, Tensor] = {}
        """Averaged parameters, by name."""
        self.reset()

    def reset(self) -> None:
        """Begin at the weights as they are."""
        self.tensors = {name: one.detach().clone() for name, one in self._trainable.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimizer step `step`, counted from 1. Early on the decay is
        (1 + step) / (10 + step): a short run's mean would else be its start.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, mean in self.tensors.items():
            mean.lerp_(self._trainable[name], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the parameters are the mean."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, parameter in self._trainable.items():
            parameter.data, self.tensors[name] = self.tensors[name], parameter.data
