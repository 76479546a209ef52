"""How many steps a run has, and how often it should save."""

from __future__ import annotations

import math
import random

from wan_runtime.contract.steps import Expert
from wan_runtime.presets import Preset

CHECKPOINT_SHARE = 0.03
"""Share of the training time that checkpoints of full fine-tuning may cost."""
STORE_GB_PER_SECOND = 0.25
"""To the store, from one pod. An assumption: it depends on the store."""


def total_steps(
    clips: int, *, steps: int | None, epochs: int, repeat: int, batch: int, accumulation: int
) -> int:
    """Optimizer steps: as many as the spec says, or enough to see each clip `epochs * repeat` times
    (the last step may wrap over)."""
    if steps is not None:
        return steps
    return max(1, -(-clips * repeat * epochs // (batch * accumulation)))


def joint_steps(preset: Preset, steps: int) -> dict[Expert, int]:
    """Optimizer steps of a run that trains both experts of a pair, by the expert that they train:
    its share of the noise levels, rounded, and at least one. `steps` is two or more."""
    high = min(max(1, round(steps * preset.high_noise_share)), steps - 1)
    return {Expert.HIGH_NOISE: high, Expert.LOW_NOISE: steps - high}


def joint_order(preset: Preset, steps: int, seed: int) -> list[Expert]:
    """The expert that each step of such a run trains: that to which its noise level falls, as drawn
    without replacement."""
    counts = joint_steps(preset, steps)
    ordered = [expert for expert, count in counts.items() for _ in range(count)]
    # `random` alone is promised to give the same numbers in each Python.
    draws = random.Random(seed)
    places = sorted((draws.random(), place) for place in range(steps))
    return [ordered[place] for _, place in places]


def checkpoint_interval(state_bytes: float, seconds_per_step: float) -> int:
    """Steps between checkpoints of `state_bytes`, so that saving costs CHECKPOINT_SHARE."""
    saving = state_bytes / (STORE_GB_PER_SECOND * 1e9)
    return max(1, math.ceil(saving / (CHECKPOINT_SHARE * seconds_per_step)))
