"""Batches for the transformer, from the latent cache."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wan_runtime.data.latents import EncodedClip, LocalCache, pad_text
from wan_runtime.models.dit.forward import Conditions

# Shapes: B batch, C channels, T latent frames, H W latent rows and columns, L tokens, D width.


@dataclass(frozen=True, slots=True)
class Batch:
    """Clean latents and what they are conditioned on."""

    clean_BCTHW: Tensor
    """Clean latents [B, C, T, H, W] in float32, on the device that trains."""
    conditions: Conditions

    @property
    def size(self) -> int:
        return int(self.clean_BCTHW.shape[0])


def load_batch(
    cache: LocalCache, clips: list[EncodedClip], device: torch.device, dtype: torch.dtype
) -> Batch:
    """The cached entries of `clips`, stacked. Conditions in the transformer's dtype."""
    latents = [cache.load(clip.video)["latents"] for clip in clips]
    images = [cache.load(clip.image) for clip in clips]
    contexts = [pad_text(cache.load(clip.text)["context"]) for clip in clips]
    features = [image["clip"] for image in images if "clip" in image]
    conditions = Conditions(
        torch.stack(contexts),
        torch.stack([image["y"] for image in images]),
        torch.stack(features) if features else None,
    )
    return Batch(torch.stack(latents).to(device, torch.float32), conditions.to(device, dtype))
