"""Steps of a trainer that all begin with the same weights, moments and draws."""

from __future__ import annotations

import torch
from torch import Tensor

from gpu.synthetic import plain
from wan_runtime.training.trainer import Trainer

Weights = dict[str, Tensor]


class SameStart:
    """The start of one trainer's steps, so that what different code makes of it can be compared."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        draw = torch.Generator().manual_seed(3)
        trainable = trainer.state.trainable
        for each in trainable.values():  # B is zero at first, A has no gradient then
            each.data = (torch.randn(each.shape, generator=draw) * 0.02).to(each.device)
        self._weights = {name: each.data.clone() for name, each in trainable.items()}

    def restore(self) -> None:
        """Have the next step begin there."""
        state = self._trainer.state
        for name, each in state.trainable.items():
            each.data.copy_(self._weights[name])
        plain(self._trainer).optimizer.state.clear()
        state.generator.manual_seed(5)
        state.step = state.position = 0

    def weights(self) -> Weights:
        """A copy of what is trained, as it is now."""
        return {name: each.data.clone() for name, each in self._trainer.state.trainable.items()}


def distance(a: Weights, b: Weights) -> float:
    """Largest relative difference of a tensor; 0 only if all are the same bits."""
    if all(torch.equal(each, b[name]) for name, each in a.items()):
        return 0.0
    return max(float((each - b[name]).norm() / each.norm()) for name, each in a.items())
