"""The grid that the sizes of videos lie on."""

from __future__ import annotations

SPATIAL_STRIDE = 16
"""Pixels a token side: the VAE's 8 times the patch of 2. Width and height are multiples of it."""
TEMPORAL_STRIDE = 4
"""Frames a latent frame after the first: clips have 4n+1 frames."""
LATENT_STRIDE = SPATIAL_STRIDE // 2
"""Pixels a latent side."""
LATENT_CHANNELS = 16


def latents_shape(frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Channels, frames, rows and columns of a video's latents."""
    latent_frames = (frames - 1) // TEMPORAL_STRIDE + 1
    return LATENT_CHANNELS, latent_frames, height // LATENT_STRIDE, width // LATENT_STRIDE
