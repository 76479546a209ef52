"""Weights of the tiny models: designed where it matters, seeded noise elsewhere.

Every random tensor is drawn from a generator seeded by its own name, as uniform integers scaled to
the wanted deviation: no transcendental function and no BLAS takes part, so the bytes do not depend
on the processor.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Shapes: O out and I in channels, T H W kernel sides. Convolutions are [O, I, T, H, W] or [O, I, H,
# W].

CONSTANT = 8.0
"""Level of the VAE's constant channel. RMS norm divides by the channels' length; a constant far
longer than the colours makes that length constant too, and so keeps amplitudes."""
COLOURS, LEVEL, NEGATIVES = range(3), 3, range(4, 7)
"""Channels of the VAE's streams: colours, the constant, and the colours negated. SiLU(a) - SiLU(-a)
= a, so the pair passes through the activation unharmed."""
GAIN = 1.75
"""Latent units a unit of colour: block colours of natural video (deviation about 0.55) get unit
variance.
"""
RESIDUAL_GAIN = 0.02
"""Of the VAE's residual branches: they are exercised, but do not spoil the codec."""


def dit_state(model: nn.Module, seed: str, config: dict[str, Any]) -> dict[str, Tensor]:
    """A transformer that starts near v = x_t - y and can learn from there.

    Tokens carry the patch of the noisy latents in their first half and the patch of the
    conditioning latents in the second; the head reads their difference. In the first frame, where y
    is the clean latent, that is the velocity up to the factor sigma; elsewhere y is the encoded
    grey. Attention and MLP start as small seeded perturbations behind open gates, so gradients
    reach every layer.
    """
    state = model.state_dict()
    dim, channels = int(config["dim"]), int(config["out_dim"])
    for name, tensor in state.items():
        if name.endswith("bias"):
            state[name] = torch.zeros_like(tensor)
        elif "norm" in name or name.startswith(("img_emb.proj.0", "img_emb.proj.4")):
            state[name] = torch.ones_like(tensor)
        elif name.endswith("modulation"):
            state[name] = _draw(seed, name, tensor, 0.05)
        elif name.endswith((".o.weight", "ffn.2.weight")):
            state[name] = _draw(seed, name, tensor, 0.3 / tensor.shape[1] ** 0.5)
        elif name.startswith(("patch_embedding", "head.head", "time_projection")):
            state[name] = _draw(seed, name, tensor, 0.02)
        else:
            state[name] = _draw(seed, name, tensor, tensor[0].numel() ** -0.5)
        if name.endswith("modulation") and tensor.shape[1] == 6:
            # shift, scale, gate of attention; shift, scale, gate of the MLP.
            state[name][:, 2] += 1.0
            state[name][:, 5] += 1.0
    patch, head = state["patch_embedding.weight"], state["head.head.weight"]
    conditioning = patch.shape[1] - channels
    for row in range(2):
        for column in range(2):
            for channel in range(channels):
                slot = (
                    row * 2 + column
                ) * channels + channel  # the order in which unpatchify reads the head
                patch[slot, channel, 0, row, column] += 1.0
                patch[dim // 2 + slot, conditioning + channel, 0, row, column] += 1.0
                head[slot, slot] += 1.0
                head[slot, dim // 2 + slot] -= 1.0
    return state


def text_encoder_state(model: nn.Module) -> dict[str, Tensor]:
    """umT5 with unit norms and variance-keeping linear layers. T5 attention has no 1/sqrt(d): q is
    scaled instead.
    """
    state = model.state_dict()
    for name, tensor in state.items():
        if "norm" in name:
            state[name] = torch.ones_like(tensor)
        elif "embedding" in name:
            state[name] = _draw("t5", name, tensor, 1.0 if name.startswith("token") else 0.1)
        else:
            scale = (tensor.shape[1] * (16 if name.endswith(".q.weight") else 1)) ** -0.5
            state[name] = _draw("t5", name, tensor, scale)
    return state


def image_encoder_state(model: nn.Module) -> dict[str, Tensor]:
    """Random projections of image patches: different images, different tokens."""
    state = model.state_dict()
    return {
        name: _draw(
            "clip", name, value, max(value[0].numel(), 1) ** -0.5 if value.ndim > 1 else 0.02
        )
        for name, value in state.items()
    }


def vae_state(model: nn.Module, mean: Tensor, std: Tensor) -> dict[str, Tensor]:
    """A codec of block colours in the VAE's architecture.

    Latent channel i holds +-GAIN times colour i % 3 averaged over 8x8 pixels and 4 frames (the
    first frame alone), before the published latent `mean` and `std` [16] are undone. The decoder
    inverts it with a binomial blur at each doubling. Streams carry the channels named above.
    """
    state = model.state_dict()
    for name, tensor in state.items():
        if name.endswith("gamma"):
            state[name] = torch.ones_like(tensor)
        elif name.endswith("bias"):
            state[name] = torch.zeros_like(tensor)
        elif ".residual.6." in name or ".proj." in name:
            state[name] = _draw("vae", name, tensor, RESIDUAL_GAIN * tensor[0].numel() ** -0.5)
        elif ".residual." in name or ".to_qkv." in name:
            state[name] = _draw("vae", name, tensor, tensor[0].numel() ** -0.5)
        elif ".shortcut." in name:
            state[name] = _eye(tensor)
        elif ".time_conv." in name:
            state[name] = _time_conv(tensor)
        elif ".resample.1." in name:
            state[name] = _resample(tensor)
        else:
            state[name] = torch.zeros_like(tensor)
    _encoder_ends(state)
    _decoder_ends(state)
    latents = len(std)
    for channel in range(latents):
        state["conv1.weight"][channel, channel] = std[channel]
        state["conv1.bias"][channel] = mean[channel]
        state["conv2.weight"][channel, channel] = 1 / std[channel]
        state["conv2.bias"][channel] = -mean[channel] / std[channel]
    return state


def _encoder_ends(state: dict[str, Tensor]) -> None:
    stem, head = state["encoder.conv1.weight"], state["encoder.head.2.weight"]
    state["encoder.conv1.bias"][LEVEL] = CONSTANT
    state["encoder.head.0.gamma"] *= CONSTANT / head.shape[1] ** 0.5
    widening = [
        name for name in state if name.startswith("encoder.") and name.endswith("shortcut.weight")
    ][-1]
    for colour, negative in zip(COLOURS, NEGATIVES, strict=True):
        stem[colour, colour, -1, 1, 1] = 1.0
        state[widening][negative] = 0.0
        state[widening][negative, colour] = -1.0
    for channel in range(head.shape[0] // 2):
        sign = GAIN if channel % 2 == 0 else -GAIN
        head[channel, channel % 3, -1, 1, 1] = sign
        head[channel, 4 + channel % 3, -1, 1, 1] = -sign


def _decoder_ends(state: dict[str, Tensor]) -> None:
    stem, head = state["decoder.conv1.weight"], state["decoder.head.2.weight"]
    state["decoder.conv1.bias"][LEVEL] = CONSTANT
    state["decoder.head.0.gamma"] *= CONSTANT / head.shape[1] ** 0.5
    latents = stem.shape[1]
    for channel in range(latents):
        colour = channel % 3
        carriers = len(range(colour, latents, 3))
        weight = (1 if channel % 2 == 0 else -1) / (GAIN * carriers)
        stem[colour, channel, -1, 1, 1] = weight
        stem[4 + colour, channel, -1, 1, 1] = -weight
    for colour, negative in zip(COLOURS, NEGATIVES, strict=True):
        head[colour, colour, -1, 1, 1] = 1.0
        head[colour, negative, -1, 1, 1] = -1.0


def _eye(kernel: Tensor) -> Tensor:
    """[O, I, 1, 1, 1] that copies the channels that both sides have."""
    out = torch.zeros_like(kernel)
    for channel in range(min(kernel.shape[0], kernel.shape[1])):
        out[channel, channel] = 1.0
    return out


def _time_conv(kernel: Tensor) -> Tensor:
    """[O, I, 3, 1, 1]. Halving time (O = I) averages two frames; doubling it (O = 2I) repeats the
    current one.
    """
    out = torch.zeros_like(kernel)
    inputs = kernel.shape[1]
    for channel in range(kernel.shape[0]):
        if kernel.shape[0] == inputs:
            out[channel, channel, 1:] = 0.5
        else:
            out[channel, channel % inputs, 2] = 1.0
    return out


def _resample(kernel: Tensor) -> Tensor:
    """[O, I, 3, 3]. Halving space (O = I) averages 2x2 pixels; after doubling (O = I/2), a binomial
    blur.
    """
    out = torch.zeros_like(kernel)
    if kernel.shape[0] == kernel.shape[1]:
        taps = torch.tensor([0.5, 0.5, 0.0])
    else:
        taps = torch.tensor([0.25, 0.5, 0.25])
    for channel in range(kernel.shape[0]):
        out[channel, channel] = taps[:, None] * taps[None, :]
    return out


def _draw(seed: str, name: str, like: Tensor, deviation: float) -> Tensor:
    """Uniform values of the given standard deviation, in the shape of `like`."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
    # sqrt(3): half the width of a uniform distribution of deviation 1.
    values = generator.integers(-(1 << 15), 1 << 15, size=tuple(like.shape)).astype(np.float32)
    return torch.from_numpy((values + np.float32(0.5)) * np.float32(deviation * 3**0.5 / (1 << 15)))
