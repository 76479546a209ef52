"""Wan's VAE over a whole clip at once, as fast training needs it.

diffsynth's `encode` and `decode` go through a clip four frames at a time and keep the frames that
causal convolutions look back on. The same numbers come out of one pass over all frames, if the two
resampling layers that treat the first frame apart do so here too.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffsynth.models.wan_video_vae import AttentionBlock, Resample, ResidualBlock, VideoVAE_
from torch import Tensor

# Shapes: B batch, F frames, H W pixels, T = (F - 1) / 4 + 1 latent frames, h = H / 8, w = W / 8.


def encode(vae: VideoVAE_, video_B3FHW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance [B, 16, T, h, w], before diffsynth's scaling."""
    x = _through(vae.encoder, video_B3FHW)
    mean, variance = vae.conv1(x).chunk(2, dim=1)
    return mean, variance


def decode(vae: VideoVAE_, latents_BCThw: Tensor) -> Tensor:
    """[B, 3, F, H, W] of unscaled latents."""
    return _through(vae.decoder, vae.conv2(latents_BCThw))


def _through(half: Any, x: Tensor) -> Tensor:
    x = half.conv1(x)
    stages = half.downsamples if hasattr(half, "downsamples") else half.upsamples
    order = (stages, half.middle) if hasattr(half, "downsamples") else (half.middle, stages)
    for layers in order:
        for layer in layers:
            if isinstance(layer, ResidualBlock):
                first, second = layer.residual[:3], layer.residual[3:]
                x = _activated_convolution(
                    second, _activated_convolution(first, x)
                ) + layer.shortcut(x)
            elif isinstance(layer, Resample):
                x = _resample(layer, x)
            elif isinstance(layer, AttentionBlock):
                x = layer(x)
            else:
                raise TypeError(f"no rule for {type(layer).__name__}")
    return _activated_convolution(half.head, x)


def _activated_convolution(layers: Any, x: Tensor) -> Tensor:
    """RMS norm, SiLU, causal convolution 3x3x3."""
    norm, conv = layers[0], layers[-1]
    x = _activate(x, norm.gamma * norm.scale)
    return F.conv3d(x, conv.weight, conv.bias, padding=(0, 1, 1))


def _activate(x: Tensor, gain: Tensor) -> Tensor:
    """SiLU of the RMS norm [B, C, F, H, W], with two frames of zeros before it."""
    wide = x.float()
    wide = wide * (wide.square().sum(1, keepdim=True) + 1e-20).rsqrt() * gain
    return F.pad(F.silu(wide).to(x.dtype), (0, 0, 0, 0, 2, 0))


def _resample(layer: Resample, x: Tensor) -> Tensor:
    if layer.mode == "upsample3d" and x.shape[2] > 1:
        first, rest = x[:, :, :1], x[:, :, 1:]
        batch, channels, frames, height, width = rest.shape
        twice = layer.time_conv(rest).reshape(batch, 2, channels, frames, height, width)
        rest = twice.permute(0, 2, 3, 1, 4, 5).reshape(batch, channels, 2 * frames, height, width)
        x = torch.cat([first, rest], 2)
    batch, channels, frames, height, width = x.shape
    flat = x.transpose(1, 2).reshape(batch * frames, channels, height, width)
    flat = layer.resample(flat)
    x = flat.reshape(batch, frames, *flat.shape[1:]).transpose(1, 2)
    if layer.mode == "downsample3d" and frames > 1:
        x = torch.cat([x[:, :, :1], layer.time_conv(x)], 2)
    return x
