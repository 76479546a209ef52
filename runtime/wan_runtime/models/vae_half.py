"""The VAE in half precision, whose eleven bits round eight times as finely as bfloat16's eight.

GPUs multiply both equally fast. Half precision ends at 65,504: beyond it a number becomes infinite,
a norm makes NaN of it, and that reaches a pixel or a latent, where it is seen.
"""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import torch

HALF = torch.float16


def vae_dtype(dtype: torch.dtype) -> torch.dtype:
    """What our own forwards compute in on a device whose models compute in `dtype`."""
    return HALF if dtype == torch.bfloat16 else dtype


def widened(vae: Any) -> Any:
    """diffsynth's VAE in bfloat16, which has the range of float32. The given one stays."""
    return SimpleNamespace(model=deepcopy(vae.model).to(torch.bfloat16), scale=vae.scale)
