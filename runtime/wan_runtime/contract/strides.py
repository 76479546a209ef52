"""The grid that the sizes of videos lie on, and its ends."""

from __future__ import annotations

SPATIAL_STRIDE = 16
"""Pixels a token side: the VAE's 8 times the patch of 2. Width and height are multiples of it."""
TEMPORAL_STRIDE = 4
"""Frames a latent frame after the first: clips have 4n+1 frames."""
SIDES, LENGTHS, RATES = (32, 1920), (5, 241), (1, 60)
"""Least and largest pixels of a side, frames, and frames a second, that a resource can ask for."""
LATENT_STRIDE = SPATIAL_STRIDE // 2
"""Pixels a latent side."""
LATENT_CHANNELS = 16


def latents_shape(frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Channels, frames, rows and columns of a video's latents."""
    latent_frames = (frames - 1) // TEMPORAL_STRIDE + 1
    return LATENT_CHANNELS, latent_frames, height // LATENT_STRIDE, width // LATENT_STRIDE
