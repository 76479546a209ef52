"""The share of parameter updates that rounding swallows: a weight whose update is less than half
its last digit stays as it is, without a word. With float32 weights it is next to nothing; with
bfloat16 ones, most of them at the usual rates.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

SAMPLED = 256
"""Elements of each parameter that are looked at: a fixed, even choice, cheap at 14B."""


def sample(parameters: Iterable[Tensor]) -> Tensor:
    """[N] values of the sampled elements, a copy, as float32."""
    return torch.cat(
        [
            # The stride is odd, so that it does not walk down one column of a matrix.
            one.detach().reshape(-1)[:: max(1, one.numel() // SAMPLED) | 1].float()
            for one in parameters
        ]
    )


def lost_share(
    before: Tensor, parameters: Iterable[Tensor], optimizer: torch.optim.Optimizer
) -> float:
    """Share of the sampled elements moved by AdamW that still have the value from `before` the
    step; 0 if none was moved.
    """
    chosen = list(parameters)
    # Without a gradient there is no moment; whether there should be is the guard's to say.
    moments = [optimizer.state[one].get("exp_avg") for one in chosen]
    moved = (
        sample(
            torch.zeros_like(one) if moment is None else moment
            for one, moment in zip(chosen, moments, strict=True)
        )
        != 0
    )
    kept = moved & (sample(chosen) == before)
    return float(kept.sum() / moved.sum().clamp(min=1))
