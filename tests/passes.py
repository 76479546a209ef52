"""A pass through a transformer of diffsynth's as it is, without what `Transformer` does to it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wan_runtime.models.dit.forward import Conditions, diffsynth_blocks, predict_velocity


def velocity_of(
    dit: Any,
    noisy: Tensor,
    sigmas: Tensor,
    conditions: Conditions,
    *,
    dtype: torch.dtype,
    recompute: bool = False,
) -> Tensor:
    """[B, 16, T, H, W] in float32."""
    blocks = diffsynth_blocks(dit, conditions, dtype, recompute=recompute)
    return predict_velocity(dit, noisy, sigmas, conditions.y_BCTHW, blocks, dtype=dtype)
