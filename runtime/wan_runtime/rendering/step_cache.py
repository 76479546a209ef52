"""Steps of a video that take the transformer's last answer again, in place of a new one.

Velocity changes slowly in the middle of a video's steps. EasyCache (Zhou et al. 2025,
arXiv:2507.02860) estimates by how much before it is computed, from how much the latents changed and
from how strongly velocity followed the last time, and needs no calibration of a model. One cache
serves one video under one transformer: another expert's answers say nothing of this one's.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

# Shapes: latents and velocities are [1, 16, T, H, W] in float32.

THRESHOLD = 0.05
"""Estimated change of the velocity, relative, that may add up before it is computed anew. A larger
one skips more steps, and changes the video more."""
FIRST_SHARE = 0.2
"""Share of a video's steps at its beginning that are all computed: they lay its motion down."""


class StepCache:
    """The last answers, and the change that was estimated since."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._x: Tensor | None = None
        """Latents of the last step."""
        self._rate: float | None = None
        """Change of the velocity for a change of the latents, when last computed twice in a row."""
        self._shifts: list[Tensor] = []
        """Velocity less latents of each branch, when last computed."""
        self._last: Tensor | None = None
        """Velocity of the first branch in the last step."""
        self._change = 0.0

    def allows(self, x: Tensor) -> bool:
        """Whether `reuse` may answer for these latents. Call it once a step."""
        if self._x is None or self._last is None or self._rate is None:
            return False
        size = _mean(self._last)
        if not size:
            return False
        self._change += self._rate * _mean(x - self._x) / size
        return self._change < self._threshold

    def reuse(self, x: Tensor) -> list[Tensor]:
        """Velocities of the branches, without the transformer."""
        made = [x + shift for shift in self._shifts]
        self._keep(x, made[0])
        return made

    def learn(self, x: Tensor, made: Sequence[Tensor]) -> None:
        """Note velocities of the branches that were computed."""
        if self._x is not None and self._last is not None:
            moved = _mean(x - self._x)
            self._rate = _mean(made[0] - self._last) / moved if moved else None
        self._shifts, self._change = [each - x for each in made], 0.0
        self._keep(x, made[0])

    def _keep(self, x: Tensor, velocity: Tensor) -> None:
        self._x, self._last = x, velocity


def first_steps(steps: int) -> int:
    """Number of steps at the beginning of a video that are all computed."""
    return max(2, round(FIRST_SHARE * steps))


def _mean(x: Tensor) -> float:
    return float(x.abs().mean())
