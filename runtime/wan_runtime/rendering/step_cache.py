"""Steps of a video that take the transformer's last answer again, in place of a new one.

Velocity changes slowly in the middle of a video's steps, and by how much can be estimated before it
is computed. One cache serves one video under one transformer: another expert's answers say nothing
of this one's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from torch import Tensor

from wan_runtime.contract.service import DEFAULT_STEP_CACHE, StepCachePolicy
from wan_runtime.presets import Preset

# Shapes: latents and velocities are [1, 16, T, H, W] in float32.

THRESHOLDS: dict[StepCachePolicy, float] = {"EasyCache": 0.05, "TeaCache": 0.2}
"""Estimated change, relative, that may add up before the velocity is computed anew. A larger one
skips more steps, and changes the video more. TeaCache's is the one that its authors recommend."""
FIRST_SHARE = 0.2
"""Share of a video's steps at its beginning that are all computed: they lay its motion down."""

Modulation = Callable[[float], Tensor]
"""What a transformer makes of a noise level, as `Transformer.modulation`."""


class Estimate(Protocol):
    """Policy that estimates how much the velocity changes."""

    def since(self, x: Tensor, sigma: float) -> float | None:
        """Change since the step before, relative; None: it cannot be estimated yet."""

    def note(self, x: Tensor, sigma: float, velocity: Tensor, *, computed: bool) -> None:
        """Note a step: its latents, noise level and velocity."""


class StepCache:
    """The last answers, and the change that was estimated since."""

    def __init__(self, estimate: Estimate, threshold: float) -> None:
        self._estimate, self._threshold = estimate, threshold
        self._shifts: list[Tensor] = []
        """Velocity less latents of each branch, when last computed."""
        self._change = 0.0

    def allows(self, x: Tensor, sigma: float) -> bool:
        """Whether `reuse` may answer for these latents. Call it once a step."""
        change = self._estimate.since(x, sigma)
        if change is None or not self._shifts:
            return False
        self._change += change
        return self._change < self._threshold

    def reuse(self, x: Tensor, sigma: float) -> list[Tensor]:
        """Velocities of the branches, without the transformer."""
        made = [x + shift for shift in self._shifts]
        self._estimate.note(x, sigma, made[0], computed=False)
        return made

    def learn(self, x: Tensor, sigma: float, made: Sequence[Tensor]) -> None:
        """Note velocities of the branches that were computed."""
        self._estimate.note(x, sigma, made[0], computed=True)
        self._shifts, self._change = [each - x for each in made], 0.0


class EasyCache:
    """Estimate by how much the latents changed, and how strongly velocity followed the last time
    (Zhou et al. 2025, arXiv:2507.02860). Needs no calibration of a model."""

    def __init__(self) -> None:
        self._x: Tensor | None = None
        self._velocity: Tensor | None = None
        self._rate: float | None = None
        """Change of the velocity for a change of the latents, when last computed."""

    def since(self, x: Tensor, sigma: float) -> float | None:
        """See `Estimate`."""
        if self._x is None or self._velocity is None or self._rate is None:
            return None
        size = _mean(self._velocity)
        return self._rate * _mean(x - self._x) / size if size else None

    def note(self, x: Tensor, sigma: float, velocity: Tensor, *, computed: bool) -> None:
        """See `Estimate`."""
        if computed and self._x is not None and self._velocity is not None:
            moved = _mean(x - self._x)
            self._rate = _mean(velocity - self._velocity) / moved if moved else None
        self._x, self._velocity = x, velocity


class TeaCache:
    """Estimate from the change of what a transformer makes of the noise level, through a polynomial
    that was fitted for the model (Liu et al. 2024, arXiv:2411.19108)."""

    def __init__(self, polynomial: Sequence[float], modulation: Modulation) -> None:
        """`polynomial`: highest power first."""
        self._polynomial, self._modulation = polynomial, modulation
        self._last: Tensor | None = None

    def since(self, x: Tensor, sigma: float) -> float | None:
        """See `Estimate`."""
        if self._last is None:
            return None
        moved = _mean(self._modulation(sigma) - self._last) / _mean(self._last)
        change = 0.0
        for coefficient in self._polynomial:
            change = change * moved + coefficient
        return change

    def note(self, x: Tensor, sigma: float, velocity: Tensor, *, computed: bool) -> None:
        """See `Estimate`."""
        self._last = self._modulation(sigma)


def step_cache(policy: StepCachePolicy | None, preset: Preset) -> Callable[[Modulation], StepCache]:
    """What makes a cache for one video under one transformer.

    Args:
        policy: None: the default.

    Raises:
        ValueError: for TeaCache, if no polynomial was published for the model.
    """
    wanted = policy or DEFAULT_STEP_CACHE
    threshold = THRESHOLDS[wanted]
    if wanted == "EasyCache":
        return lambda _: StepCache(EasyCache(), threshold)
    if preset.teacache is None:
        raise ValueError(f"no polynomial of TeaCache was published for {preset.name}")
    estimate = partial(TeaCache, preset.teacache)
    return lambda modulation: StepCache(estimate(modulation), threshold)


def first_steps(steps: int) -> int:
    """Number of steps at the beginning of a video that are all computed."""
    return max(2, round(FIRST_SHARE * steps))


def _mean(x: Tensor) -> float:
    return float(x.abs().mean())
