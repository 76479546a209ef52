"""One pass of Wan's transformer, in training and in serving: velocity from noisy latents and
conditioning.

The same arithmetic as diffsynth's `model_fn_wan_video` without its options for other models, but
with the time embedding in float32 also when the weights are bfloat16: the stock path rounds the
timestep itself to bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffsynth.models.wan_video_dit import sinusoidal_embedding_1d
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from wan_runtime.models.dit.gathered import PLACE, Parts
from wan_runtime.models.dit.tokens import TokenSplit

# Shapes: B batch, C channels, T latent frames, H W latent rows and columns, L tokens, D model
# width.


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a velocity is conditioned on."""

    context_BLD: Tensor
    """umT5 states, padded with zeros to 512 tokens."""
    y_BCTHW: Tensor
    """Mask (4 channels) and first-frame latents (16)."""
    clip_BLD: Tensor | None
    """257 CLIP tokens of 1280 (Wan2.1), else None."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Conditions:
        clip = None if self.clip_BLD is None else self.clip_BLD.to(device, dtype)
        return Conditions(self.context_BLD.to(device, dtype), self.y_BCTHW.to(device, dtype), clip)


RunBlocks = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From hidden states [B, L, D], modulation [B, 6, D] in float32 and rotations [L, 1, head_dim / 2]
to hidden states after all blocks."""


def keep_time_embedding_fp32(dit: Any) -> None:
    """Cast the time embedding and projection to float32 (0.2 % of the parameters)."""
    dit.time_embedding.float()
    dit.time_projection.float()


def predict_velocity(
    dit: Any,
    noisy_BCTHW: Tensor,
    sigmas_B: Tensor,
    y_BCTHW: Tensor,
    blocks: RunBlocks,
    *,
    dtype: torch.dtype,
    tokens: TokenSplit | None = None,
) -> Tensor:
    """v [B, 16, T, H, W] in float32.

    Args:
        noisy_BCTHW: 16-channel latents at noise levels `sigmas_B`.
        y_BCTHW: mask and first-frame latents of the conditions.
        blocks: what runs the blocks.
        dtype: of the computation. Float32 weights are rounded to it as they are used, and get their
            gradients in float32; an adapter's are left to autocast.
        tokens: how ranks split the tokens: this one computes its own, the rest comes from others.
    """
    device = noisy_BCTHW.device
    with torch.autocast(device.type, enabled=False):
        t_BD, modulation_B6D = modulation_of(dit, sigmas_B.to(device, torch.float32))
        t_BD = t_BD.to(dtype)
    with autocast(device, dtype):
        latents = torch.cat([noisy_BCTHW.to(dtype), y_BCTHW], dim=1)
        x = run(dit.patch_embedding, dtype, latents)
        frames, height, width = x.shape[2:]
        freqs = _rope(dit, frames, height, width, device)
        x_BLD = x.flatten(2).transpose(1, 2).contiguous()
        if tokens is not None:
            x_BLD, freqs = tokens.local(x_BLD, 1), tokens.local(freqs, 0)
        x_BLD = blocks(x_BLD, modulation_B6D, freqs)
        out = run(dit.head, dtype, x_BLD, t_BD)
        if tokens is not None:
            out = tokens.gather(out, 1)
        velocity: Tensor = dit.unpatchify(out, (frames, height, width))
    return velocity.float()


def modulation_of(dit: Any, sigmas_B: Tensor) -> tuple[Tensor, Tensor]:
    """The time embedding [B, D] of noise levels, and the modulation of the blocks [B, 6, D];
    float32."""
    waves = sinusoidal_embedding_1d(dit.freq_dim, sigmas_B * 1000)
    t_BD = run(dit.time_embedding, torch.float32, waves)
    return t_BD, run(dit.time_projection, torch.float32, t_BD).unflatten(1, (6, dit.dim))


def context_of(dit: Any, conditions: Conditions, dtype: torch.dtype) -> Tensor:
    """States of the texts and, before them, of the photo in Wan2.1, [B, L, D]."""
    with autocast(conditions.context_BLD.device, dtype):
        context: Tensor = run(dit.text_embedding, dtype, conditions.context_BLD)
        if conditions.clip_BLD is not None:
            image = run(dit.img_emb, dtype, conditions.clip_BLD)
            context = torch.cat([image, context], dim=1)
    return context


def diffsynth_blocks(
    dit: Any, conditions: Conditions, dtype: torch.dtype, *, recompute: bool
) -> RunBlocks:
    """What runs diffsynth's own blocks.

    Args:
        recompute: keep only each block's input and run the block again in backward.
    """

    def blocks(x_BLD: Tensor, modulation_B6D: Tensor, freqs: Tensor) -> Tensor:
        context = context_of(dit, conditions, dtype)
        modulation = modulation_B6D.to(dtype)
        for block in dit.blocks:
            inputs = (block, dtype, x_BLD, context, modulation, freqs)
            if recompute and torch.is_grad_enabled():
                x_BLD = checkpoint(run, *inputs, use_reentrant=False)
            else:
                x_BLD = run(*inputs)
        return x_BLD

    return blocks


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Autocast to a dtype of 16 bits; nothing in float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def run(module: nn.Module, dtype: torch.dtype, *inputs: Tensor) -> Any:
    """`module` on its weights rounded to `dtype`. Inside a checkpoint, so that the rounded copies
    live no longer than the module runs.
    """
    part = module.__dict__.get(PLACE)
    return _rounded(module, dtype, *inputs) if part is None else part(*inputs, dtype=dtype)


def parts_of(dit: nn.Module) -> Parts:
    """The transformer in parts, each of which is gathered when it runs. From then on it is run
    through them."""
    return Parts(dit, _rounded)


def _rounded(module: nn.Module, dtype: torch.dtype, *inputs: Tensor) -> Any:
    masters = {
        name: parameter.to(dtype)
        for name, parameter in module.named_parameters()
        if parameter.dtype is not dtype and ".lora_" not in name
    }
    return functional_call(module, masters, inputs) if masters else module(*inputs)


def _rope(dit: Any, frames: int, height: int, width: int, device: torch.device) -> Tensor:
    """[L, 1, head_dim / 2] complex rotations, time-major as the tokens are."""
    axes = zip(dit.freqs, (frames, height, width), range(3), strict=True)
    parts = []
    for table, size, axis in axes:
        shape = [1, 1, 1, -1]
        shape[axis] = size
        parts.append(table[:size].view(shape).expand(frames, height, width, -1))
    return torch.cat(parts, dim=-1).reshape(frames * height * width, 1, -1).to(device)
