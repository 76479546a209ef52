"""Steps of a video whose velocity is taken from earlier ones, in place of a new one.

Velocity changes slowly, so that between steps that are computed it follows from those before. One
cache serves one video under one transformer: another expert's answers say nothing of this one's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.sampling import (
    COMPUTED_SHARE,
    Profile,
    StepCachePolicy,
    computed_steps,
)
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError
from wan_runtime.presets import Preset
from wan_runtime.rendering.spacing import spaced

# Shapes: latents and velocities are [1, 16, T, H, W] in float32.

THRESHOLDS: dict[StepCachePolicy, float] = {"EasyCache": 0.05, "TeaCache": 0.2}
"""Estimated change, relative, that may add up before the velocity is computed anew. A larger one
skips more steps, and changes the video more. TeaCache's is the one that its authors recommend."""
FIRST_SHARE = 0.2
"""Share of a video's steps at its beginning that are all computed, where an estimate decides."""
AHEAD = 0.5
"""Largest part of the last change that is added to a velocity. All of it would be more exact where
velocities are, and doubles the noise of those that are rounded to 8 bits."""

Modulation = Callable[[float], Tensor]
"""What a transformer makes of a noise level, as `Transformer.modulation`."""


class Answers:
    """Velocities of the last two steps that were computed, and what they become farther on."""

    def __init__(self) -> None:
        self._last: list[tuple[float, Sequence[Tensor]]] = []

    def __bool__(self) -> bool:
        return bool(self._last)

    def learn(self, sigma: float, made: Sequence[Tensor]) -> None:
        """Note what was computed at a noise level, by branch."""
        self._last = [*self._last[-1:], (sigma, made)]

    def at(self, sigma: float) -> list[Tensor]:
        """Velocities of the branches at a lower noise level than the last."""
        since, made = self._last[-1]
        before, earlier = self._last[0]
        if before == since:
            return list(made)
        part = min(AHEAD, (since - sigma) / (before - since))
        return [now + part * (now - then) for now, then in zip(made, earlier, strict=True)]


class StepCache(Protocol):
    """The steps of a video under one transformer."""

    def allows(self, number: int, x: Tensor, sigma: float) -> bool:
        """Whether `reuse` may answer for a step. Call it once a step."""

    def reuse(self, x: Tensor, sigma: float) -> list[Tensor]:
        """Velocities of the branches, without the transformer."""

    def learn(self, x: Tensor, sigma: float, made: Sequence[Tensor]) -> None:
        """Note velocities of the branches that were computed."""


class Spaced:
    """Steps that are known before a video begins."""

    def __init__(self, computed: frozenset[int]) -> None:
        self._computed, self._answers = computed, Answers()

    def allows(self, number: int, x: Tensor, sigma: float) -> bool:
        """See `StepCache`."""
        return bool(self._answers) and number not in self._computed

    def reuse(self, x: Tensor, sigma: float) -> list[Tensor]:
        """See `StepCache`."""
        return self._answers.at(sigma)

    def learn(self, x: Tensor, sigma: float, made: Sequence[Tensor]) -> None:
        """See `StepCache`."""
        self._answers.learn(sigma, made)


class Estimate(Protocol):
    """Policy that estimates how much the velocity changes."""

    def since(self, x: Tensor, sigma: float) -> float | None:
        """Change since the step before, relative; None: it cannot be estimated yet."""

    def note(self, x: Tensor, sigma: float, velocity: Tensor, *, computed: bool) -> None:
        """Note a step: its latents, noise level and velocity."""


class Estimated:
    """Steps that are left out until the estimated changes add up to a threshold."""

    def __init__(self, estimate: Estimate, threshold: float, free: range) -> None:
        """`free`: numbers of the steps that may be left out."""
        self._estimate, self._threshold, self._free = estimate, threshold, free
        self._answers = Answers()
        self._change = 0.0

    def allows(self, number: int, x: Tensor, sigma: float) -> bool:
        """See `StepCache`."""
        change = self._estimate.since(x, sigma)
        if change is None or not self._answers:
            return False
        self._change += change
        return self._change < self._threshold and number in self._free

    def reuse(self, x: Tensor, sigma: float) -> list[Tensor]:
        """See `StepCache`."""
        made = self._answers.at(sigma)
        self._estimate.note(x, sigma, made[0], computed=False)
        return made

    def learn(self, x: Tensor, sigma: float, made: Sequence[Tensor]) -> None:
        """See `StepCache`."""
        self._estimate.note(x, sigma, made[0], computed=True)
        self._answers.learn(sigma, made)
        self._change = 0.0


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


class Caching:
    """Maker of caches, by a policy."""

    def __init__(self, policy: StepCachePolicy, preset: Preset) -> None:
        """Raises InputError(JOB_INVALID) for TeaCache, if no polynomial was published for the
        model."""
        if policy == "TeaCache" and preset.teacache is None:
            text = (
                f"stepCache: TeaCache was never fitted for {preset.name}: take EasyCache or Spaced"
            )
            raise InputError(Reason.JOB_INVALID, text)
        self._policy, self._polynomial = policy, preset.teacache or ()

    def computed(
        self, profile: Profile, sigmas: Sequence[float], experts: Sequence[Expert]
    ) -> frozenset[int]:
        """Numbers of a video's steps that are computed, as far as they are known before it begins:
        an estimate may leave out some of them yet.

        Args:
            sigmas, experts: of all steps of the video.
        """
        return spaced(sigmas, experts, computed_steps(profile, len(sigmas), self._policy))

    def begin(
        self,
        profile: Profile | None,
        sigmas: Sequence[float],
        experts: Sequence[Expert],
        modulation: Modulation,
    ) -> StepCache | None:
        """Make a cache for a video under one transformer; None: its steps are all computed.

        Args:
            sigmas, experts: of all steps of the video.
        """
        if profile not in COMPUTED_SHARE:
            return None
        if self._policy == "Spaced":
            return Spaced(self.computed(profile, sigmas, experts))
        if profile != "Fast":
            return None
        estimate = (
            EasyCache() if self._policy == "EasyCache" else TeaCache(self._polynomial, modulation)
        )
        free = range(first_steps(len(sigmas)), len(sigmas) - 1)
        return Estimated(estimate, THRESHOLDS[self._policy], free)


def first_steps(steps: int) -> int:
    """Number of steps at the beginning of a video that are all computed, where an estimate
    decides."""
    return max(2, round(FIRST_SHARE * steps))


def _mean(x: Tensor) -> float:
    return float(x.abs().mean())
