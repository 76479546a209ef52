"""Held-out loss at fixed points: the same clips, noise and noise levels at every evaluation.

Training loss jumps with the noise level drawn; these losses move only if the model does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F

from wan_runtime.data.latents import EncodedClip, LocalCache
from wan_runtime.models.dit.parallel import Mesh
from wan_runtime.models.dit.tokens import split_over
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
        ranks: Mesh,
    ) -> None:
        self._clips = list(clips)[:MAX_CLIPS]
        self._cache = cache
        self._seed = seed
        self._device, self._dtype, self._ranks = device, dtype, ranks
        self.sigmas = [levels.quantile(quantile) for quantile in QUANTILES]

    @torch.no_grad()
    def evaluate(self, transformer: Transformer) -> dict[str, float]:
        """Mean squared velocity error at each sigma, keyed by it with three digits, and their
        `mean`.

        Leaves the random state and the training mode as they were. Collective: ranks share the
        work, and all get the result.
        """
        data = self._ranks.data
        errors_sc = torch.zeros(len(self.sigmas), len(self._clips), dtype=torch.float64)
        with transformer.evaluated():
            for number, (s, c) in enumerate(self._shared(transformer, errors_sc.shape)):
                if number % data.size == data.index:
                    error = self._error(transformer, self._clips[c], self.sigmas[s])
                    # All of its group have this error, and the last may have been done before.
                    if self._ranks.sequence.index == 0 and number < errors_sc.numel():
                        errors_sc[s, c] = error
        losses: dict[str, float] = {}
        for sigma, errors in zip(self.sigmas, self._ranks.add(errors_sc).tolist(), strict=True):
            losses[f"{sigma:.3f}"] = sum(errors) / len(errors)
        losses["mean"] = sum(losses.values()) / len(losses)
        return losses

    def _shared(self, transformer: Transformer, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """Places of the probes, in turn for each rank."""
        places = list(product(*map(range, shape)))
        if transformer.gathers:  # all take as many: a few do the last one once more
            places += [places[-1]] * (-len(places) % self._ranks.data.size)
        return places

    def _error(self, transformer: Transformer, clip: EncodedClip, sigma: float) -> float:
        batch = load_batch(self._cache, [clip], self._device, self._dtype)
        name = hashlib.sha256(f"{self._seed}/{clip.sha256}/{sigma:.6f}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(name[:7], "big"))
        noise = torch.randn(batch.clean_BCTHW.shape, generator=generator).to(self._device)
        sigmas = torch.tensor([sigma])
        noisy = add_noise(batch.clean_BCTHW, noise, sigmas)
        through = transformer.begin(batch.conditions, tokens=split_over(self._ranks.sequence))
        predicted = through.velocity(noisy, sigmas)
        return float(F.mse_loss(predicted, velocity(batch.clean_BCTHW, noise)))
