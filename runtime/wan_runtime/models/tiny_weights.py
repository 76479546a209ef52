"""The weights of the tiny models that no training made: seeded noise.

Every random tensor is drawn from a generator seeded by its own name, as uniform integers scaled to
the wanted deviation: no transcendental function and no BLAS takes part, so the bytes do not depend
on the processor.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor, nn

CLIP_WIDTH = 1280
"""Width of a token from CLIP, fixed by the transformer."""


def text_encoder_state(model: nn.Module) -> dict[str, Tensor]:
    """umT5 with unit norms and variance-keeping linear layers. T5 attention has no 1/sqrt(d): q is
    scaled instead.
    """
    state = model.state_dict()
    for name, tensor in state.items():
        if "norm" in name:
            state[name] = torch.ones_like(tensor)
        elif "embedding" in name:
            state[name] = draw("t5", name, tensor.shape, 1.0 if name.startswith("token") else 0.1)
        else:
            scale = (tensor.shape[1] * (16 if name.endswith(".q.weight") else 1)) ** -0.5
            state[name] = draw("t5", name, tensor.shape, scale)
    return state


def image_encoder_state(model: nn.Module) -> dict[str, Tensor]:
    """Random projections of image patches: different images, different tokens."""
    state = model.state_dict()
    return {
        name: draw(
            "clip", name, value.shape, max(value[0].numel(), 1) ** -0.5 if value.ndim > 1 else 0.02
        )
        for name, value in state.items()
    }


def image_projection_state() -> dict[str, Tensor]:
    """The transformer's first layer over CLIP's tokens, half of its weights: a random projection
    serves as well as a trained one.
    """
    name = "img_emb.proj.1.weight"
    weight = draw("dit-Only", name, (CLIP_WIDTH, CLIP_WIDTH), CLIP_WIDTH**-0.5)
    return {name: weight, "img_emb.proj.1.bias": torch.zeros(CLIP_WIDTH)}


def draw(seed: str, name: str, shape: tuple[int, ...], deviation: float) -> Tensor:
    """Uniform values of the given standard deviation."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
    # sqrt(3): half the width of a uniform distribution of deviation 1.
    values = generator.integers(-(1 << 15), 1 << 15, size=shape).astype(np.float32)
    return torch.from_numpy((values + np.float32(0.5)) * np.float32(deviation * 3**0.5 / (1 << 15)))
