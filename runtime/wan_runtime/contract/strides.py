"""The grid that the sizes of videos lie on."""

from __future__ import annotations

SPATIAL_STRIDE = 16
"""Pixels a token side: the VAE's 8 times the patch of 2. Width and height are multiples of it."""
TEMPORAL_STRIDE = 4
"""Frames a latent frame after the first: clips have 4n+1 frames."""
