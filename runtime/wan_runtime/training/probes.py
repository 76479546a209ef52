"""Held-out loss at fixed points: the same clips, noise and noise levels at every evaluation.

Training loss jumps with the noise level drawn; these losses move only if the model does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from wan_runtime.data.latents import EncodedClip, LocalCache
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.flow import NoiseLevels, add_noise, velocity
from wan_runtime.training.batches import load_batch

MAX_CLIPS = 4
QUANTILES = (0.15, 0.5, 0.85)
"""Quantiles of the noise levels that the expert is trained on."""


class Probes:
    """Fixed (clip, noise, sigma) triples."""

    def __init__(
        self,
        clips: Sequence[EncodedClip],
        cache: LocalCache,
        levels: NoiseLevels,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._clips = list(clips)[:MAX_CLIPS]
        self._cache = cache
        self._seed = seed
        self._device, self._dtype = device, dtype
        self.sigmas = [levels.quantile(quantile) for quantile in QUANTILES]

    @torch.no_grad()
    def evaluate(self, transformer: Transformer) -> dict[str, float]:
        """Mean squared velocity error at each sigma, keyed by it with three digits, and their
        `mean`.

        Leaves the random state and the training mode as they were.
        """
        losses: dict[str, float] = {}
        with transformer.evaluated():
            for sigma in self.sigmas:
                errors = [self._error(transformer, clip, sigma) for clip in self._clips]
                losses[f"{sigma:.3f}"] = sum(errors) / len(errors)
        losses["mean"] = sum(losses.values()) / len(losses)
        return losses

    def _error(self, transformer: Transformer, clip: EncodedClip, sigma: float) -> float:
        batch = load_batch(self._cache, [clip], self._device, self._dtype)
        name = hashlib.sha256(f"{self._seed}/{clip.sha256}/{sigma:.6f}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(name[:7], "big"))
        noise = torch.randn(batch.clean_BCTHW.shape, generator=generator).to(self._device)
        sigmas = torch.tensor([sigma])
        noisy = add_noise(batch.clean_BCTHW, noise, sigmas)
        predicted = transformer.begin(batch.conditions).velocity(noisy, sigmas)
        return float(F.mse_loss(predicted, velocity(batch.clean_BCTHW, noise)))
