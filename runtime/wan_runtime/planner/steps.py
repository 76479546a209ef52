"""How many steps a run has, and how often it should save."""

from __future__ import annotations

import math

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


def checkpoint_interval(state_bytes: float, seconds_per_step: float) -> int:
    """Steps between checkpoints of `state_bytes`, so that saving costs CHECKPOINT_SHARE."""
    saving = state_bytes / (STORE_GB_PER_SECOND * 1e9)
    return max(1, math.ceil(saving / (CHECKPOINT_SHARE * seconds_per_step)))
