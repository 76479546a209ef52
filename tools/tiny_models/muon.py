"""Muon (Jordan et al. 2024): steps along the orthogonal part of the gradient's momentum."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOMENTUM, BETA2 = 0.95, 0.99


class Muon:
    """For kernels; everything else steps by Adam. All state lies on the device, so that a
    CUDA graph can hold a step.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        device = self.parameters[0].device
        self.rate = torch.zeros((), device=device)
        self._first = [torch.zeros_like(p) for p in self.parameters]
        self._second = [torch.zeros_like(p) for p in self.parameters]
        self._steps = torch.zeros((), device=device)

    @torch.no_grad()
    def step(self) -> None:
        self._steps += 1
        for parameter, first, second in zip(
            self.parameters, self._first, self._second, strict=True
        ):
            assert parameter.grad is not None
            gradient = parameter.grad.nan_to_num(0.0, 0.0, 0.0)
            if parameter.ndim > 2 and min(len(parameter), parameter[0].numel()) > 3:
                first.lerp_(gradient, 1 - MOMENTUM)
                matrix = gradient.lerp(first, MOMENTUM).flatten(1)
                # Entries about as large as Adam's steps (Liu et al. 2025).
                change = _orthogonal(matrix) * (0.2 * max(matrix.shape) ** 0.5)
                parameter.sub_(self.rate * change.view_as(parameter))
            else:
                first.lerp_(gradient, 0.1)
                second.lerp_(gradient.square(), 1 - BETA2)
                mean = first / (1 - 0.9**self._steps)
                square = second / (1 - BETA2**self._steps)
                parameter.sub_(self.rate * mean / (square.sqrt() + 1e-8))


def _orthogonal(matrix: Tensor) -> Tensor:
    """Singular values to about 1, by five steps of a Newton-Schulz iteration."""
    x: Tensor = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / (x.norm() + 1e-12)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T
